using VirtPS.Sdk.Devices;
using VirtPS.Sdk.Interrupts;
using VirtPS.Sdk.Machine;

namespace VirtPS.Device.Pic;

/// <summary>
/// Master and slave 8259A as the PC/AT wires them: ports 0x20 and 0xA0, the slave's INT on the master's IR2, ELCR at 0x4D0/0x4D1. Provides
/// <see cref="IInterruptInput"/> (<see cref="InterruptInputs.Pic"/>, pins 0–15) and <see cref="IExternalInterruptSource"/>; drives <see cref="IInterruptOutput"/>.
/// </summary>
internal sealed class PicPair : IDevice, IInterruptInput, IExternalInterruptSource
{
    public const string TypeId = "virtps.pic/8259a";
    public const int Schema = 1;

    /// <summary>The master's input that the slave drives.</summary>
    public const int CascadeInput = 2;

    // Wiring.
    private readonly IInterruptOutput? _output;
    private readonly IBusRegion[] _regions;
    private bool _driven;

    // Guest-visible state. IR0–2 of the master and IR0, IR5 of the slave (timer, keyboard, cascade, RTC, FERR#) cannot be made level-triggered.
    private readonly I8259A _master = new(elcrMask: 0xF8), _slave = new(elcrMask: 0xDE);

    public PicPair(DeviceContext context)
    {
        _output = context.GetService<IInterruptOutput>();
        _regions =
        [
            context.MapPorts(PcLayout.PicMasterPort, 2, new ChipPorts(this, _master)),
            context.MapPorts(PcLayout.PicSlavePort, 2, new ChipPorts(this, _slave)),
            context.MapPorts(PcLayout.ElcrPort, 2, new ElcrPorts(this)),
        ];
        Reset(ResetKind.Cold);
        context.Provide<IInterruptInput>(this, InterruptInputs.Pic);
        context.Provide<IExternalInterruptSource>(this);
    }

    public bool IsAsserted => _master.Int;

    public byte Acknowledge()
    {
        int input = _master.Acknowledge();
        int vector = _master.VectorBase + (input < 0 ? 7 : input);
        if (input == CascadeInput)
        {
            int slaveInput = _slave.Acknowledge();
            vector = _slave.VectorBase + (slaveInput < 0 ? 7 : slaveInput);
            // The slave's INT falls with INTA; if it has more, Sync raises it again, which is the edge the master needs.
            _master.SetInput(CascadeInput, false);
        }

        Sync();
        return (byte)vector;
    }

    public void SetPin(int pin, bool level)
    {
        if (pin == CascadeInput)
            return;
        (pin < 8 ? _master : _slave).SetInput(pin & 7, level);
        Sync();
    }

    public void Reset(ResetKind kind)
    {
        _master.Reset();
        _slave.Reset();
        Sync();
    }

    public void Quiesce()
    {
    }

    public DeviceState Save() => DeviceState.From(TypeId, Schema, new PicPairState { Master = _master.State, Slave = _slave.State });

    public void Restore(DeviceState state)
    {
        PicPairState s = state.Read<PicPairState>(TypeId, Schema);
        _master.State = s.Master;
        _slave.State = s.Slave;
    }

    public void Resume() => Sync();

    public void Dispose()
    {
        foreach (IBusRegion region in _regions)
            region.Dispose();
    }

    private void Sync()
    {
        _master.SetInput(CascadeInput, _slave.Int);
        bool intr = _master.Int;
        if (intr == _driven)
            return;
        _driven = intr;
        _output?.SetIntr(intr);
    }

    private sealed class ChipPorts(PicPair pair, I8259A chip) : IPortDevice
    {
        public uint ReadPort(int offset, int size)
        {
            byte value = chip.Read(offset);
            pair.Sync();
            return value;
        }

        public void WritePort(int offset, int size, uint value)
        {
            chip.Write(offset, (byte)value);
            pair.Sync();
        }
    }

    private sealed class ElcrPorts(PicPair pair) : IPortDevice
    {
        public uint ReadPort(int offset, int size) => (offset == 0 ? pair._master : pair._slave).Elcr;

        public void WritePort(int offset, int size, uint value)
        {
            (offset == 0 ? pair._master : pair._slave).Elcr = (byte)value;
            pair.Sync();
        }
    }
}

/// <summary>Saved state, schema 1.</summary>
internal sealed record PicPairState
{
    public ChipState Master { get; init; } = new();

    public ChipState Slave { get; init; } = new();
}
