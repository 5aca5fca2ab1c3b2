using VirtPS.Device.Acpi;
using VirtPS.Device.DebugExit;
using VirtPS.Device.I8042;
using VirtPS.Device.IoApic;
using VirtPS.Device.LocalApic;
using VirtPS.Device.PciHost;
using VirtPS.Device.Pic;
using VirtPS.Device.Pit;
using VirtPS.Device.Rtc;
using VirtPS.Device.Serial;
using VirtPS.Devices.Tests.LocalApic;
using VirtPS.Sdk.Interrupts;
using VirtPS.Sdk.Machine;

namespace VirtPS.Devices.Tests;

/// <summary>The PC's devices on one board: they fit side by side, and interrupts find their way through all of them.</summary>
public sealed class PcTests
{
    private const ulong IoApicWindow = PcLayout.IoApicBase + 0x10;
    private readonly TestMachine _m;
    private readonly ScriptedApicHost _host;
    private readonly ILocalApic _apic;

    public PcTests()
    {
        (_m, _) = RecordingMachineControl.NewMachine();
        _host = new ScriptedApicHost(_m);
        _m.Offer<ILocalApicHost>(_host);
        _m.Offer<IInterruptOutput>(new IntrToLint0(_host));
        Make.Device<LocalApicPlugin>(_m);
        Make.Device<PicPlugin>(_m);
        Make.Device<IoApicPlugin>(_m);
        Make.Device<PciHostPlugin>(_m);
        Make.Device<PitPlugin>(_m);
        Make.Device<RtcPlugin>(_m);
        Make.Device<I8042Plugin>(_m);
        Make.Device<AcpiPlugin>(_m);
        Make.Device<SerialPlugin>(_m);
        Make.Device<DebugExitPlugin>(_m);
        _apic = _m.Provided<ILocalApic>("0");
        IInterruptInput pic = _m.Provided<IInterruptInput>(InterruptInputs.Pic), ioApic = _m.Provided<IInterruptInput>(InterruptInputs.IoApic);
        for (int irq = 0; irq < 16; irq++)
        {
            _m.Isa(irq).Wire.Connect(pic, irq);
            if (irq != 2)
                _m.Isa(irq).Wire.Connect(ioApic, irq == PcLayout.PitIrq ? PcLayout.PitGsi : irq);
        }
    }

    [Fact]
    public void The_timer_reaches_the_processor_through_the_8259_and_the_virtual_wire()
    {
        foreach ((int port, uint vector, uint cascade) in ((int, uint, uint)[])[(0x20, 0x30, 4), (0xA0, 0x38, 2)])
        {
            foreach ((int offset, uint word) in ((int, uint)[])[(0, 0x11), (1, vector), (1, cascade), (1, 1)])
                _m.Out(port + offset, word);
        }

        StartTimer();
        for (int i = 0; i < 3; i++)
        {
            _m.Advance(10_000_000);
            _apic.Process();
            Assert.True(_host.InterruptPending);
            Assert.Equal(0x30, _m.Provided<IExternalInterruptSource>().Acknowledge());
            _host.IsAsserted = false;
            _apic.Process();
            Assert.False(_host.InterruptPending);
            _m.Out(0x20, 0x20);
        }
    }

    [Fact]
    public void The_timer_reaches_the_processor_through_the_IOAPIC()
    {
        _apic.WriteRegister(0xF0, 0x1FF);
        Redirect(PcLayout.PitGsi, 0x31);
        StartTimer();
        _m.Advance(10_000_000);
        Deliver();
        Assert.Equal(0x31, _apic.Acknowledge());
    }

    [Fact]
    public void A_level_interrupt_goes_round_IOAPIC_local_APIC_and_back_until_the_device_is_content()
    {
        _apic.WriteRegister(0xF0, 0x1FF);
        Redirect(PcLayout.SciIrq, 0x8000 | 0x49);
        _m.Out(PcLayout.Pm1aEventPort + 2, 0x100, 2);
        _m.Provided<IPowerButton>().Press();
        for (int i = 0; i < 2; i++)
        {
            Deliver();
            Assert.Equal(0x49, _apic.Acknowledge());
            if (i == 1)
                _m.Out(PcLayout.Pm1aEventPort, 0x100, 2);
            _apic.WriteRegister(0xB0, 0);
            Assert.Equal("EOI 49", _host.Events[^1]);
            _m.Provided<IEoiListener>().EndOfInterrupt(0x49);
        }

        Assert.Empty(_m.SentMsis);
        Assert.False(_m.Isa(PcLayout.SciIrq).Level);
    }

    /// <summary>Counter 0, mode 2, about 100 Hz.</summary>
    private void StartTimer()
    {
        _m.Out(0x43, 0x34);
        _m.Out(0x40, 0x9C);
        _m.Out(0x40, 0x2E);
    }

    private void Redirect(int pin, uint entry)
    {
        _m.WriteMmio(PcLayout.IoApicBase, 4, (ulong)(0x10 + (2 * pin)));
        _m.WriteMmio(IoApicWindow, 4, entry);
    }

    /// <summary>What the bus does with messages that were sent.</summary>
    private void Deliver()
    {
        Assert.NotEmpty(_m.SentMsis);
        foreach (MsiMessage message in _m.SentMsis)
        {
            Assert.True(_apic.MatchesDestination((uint)(message.Address >> 12) & 0xFF, (message.Address & 4) != 0));
            _apic.Post((DeliveryMode)(message.Data >> 8 & 7), (byte)message.Data, (message.Data & 0x8000) != 0);
        }

        _m.SentMsis.Clear();
        _apic.Process();
    }

    private sealed class IntrToLint0(ScriptedApicHost host) : IInterruptOutput
    {
        public void SetIntr(bool asserted) => host.IsAsserted = asserted;
    }
}
