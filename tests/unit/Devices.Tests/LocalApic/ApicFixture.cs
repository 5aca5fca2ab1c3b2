using VirtPS.Device.LocalApic;
using VirtPS.Sdk.Interrupts;

namespace VirtPS.Devices.Tests.LocalApic;

/// <summary>One APIC, software-enabled, with its host.</summary>
public abstract class ApicFixture
{
    protected const int Id = 0x20, Version = 0x30, Tpr = 0x80, Ppr = 0xA0, Eoi = 0xB0, Ldr = 0xD0, Dfr = 0xE0, Svr = 0xF0, Isr = 0x100, Tmr = 0x180,
        Irr = 0x200, Esr = 0x280, IcrLow = 0x300, IcrHigh = 0x310, LvtTimer = 0x320, LvtLint0 = 0x350, LvtError = 0x370, InitialCount = 0x380,
        CurrentCount = 0x390, Divide = 0x3E0;
    protected const uint ApicBaseMsr = 0x1B, DeadlineMsr = 0x6E0;
    private protected const uint Masked = 1 << 16, Periodic = 1 << 17, DeadlineMode = 2 << 17;

    private protected ApicFixture(int index = 0)
    {
        (M, Host, Apic) = NewApic(index);
        Apic.WriteRegister(Svr, 0x1FF);
    }

    private protected TestMachine M { get; }

    private protected ScriptedApicHost Host { get; }

    private protected ILocalApic Apic { get; }

    private protected static (TestMachine Machine, ScriptedApicHost Host, ILocalApic Apic) NewApic(int index)
    {
        TestMachine m = new() { DeviceName = $"lapic{index}" };
        ScriptedApicHost host = new(m, index);
        m.Offer<ILocalApicHost>(host);
        Make.Device<LocalApicPlugin>(m);
        return (m, host, m.Provided<ILocalApic>($"{index}"));
    }

    /// <summary>Posts and processes, as the vCPU thread would.</summary>
    private protected void Deliver(byte vector, bool level = false, DeliveryMode mode = DeliveryMode.Fixed)
    {
        Apic.Post(mode, vector, level);
        Run();
    }

    /// <summary>Processes while there is something to look at.</summary>
    private protected void Run()
    {
        while (Host.ProcessRequested)
        {
            Host.ProcessRequested = false;
            Apic.Process();
        }
    }

    private protected void Pass(ulong nanoseconds)
    {
        M.Advance(nanoseconds);
        Run();
    }

    private protected ulong Rdmsr(uint msr)
    {
        Assert.True(Apic.ReadMsr(msr, out ulong value), $"RDMSR {msr:X} gave #GP");
        return value;
    }

    private protected void Wrmsr(uint msr, ulong value) => Assert.True(Apic.WriteMsr(msr, value), $"WRMSR {msr:X} {value:X} gave #GP");

    private protected void EnterX2Apic() => Wrmsr(ApicBaseMsr, Rdmsr(ApicBaseMsr) | 0xC00);
}
