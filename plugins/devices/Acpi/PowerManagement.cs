using VirtPS.Sdk;
using VirtPS.Sdk.Devices;
using VirtPS.Sdk.Interrupts;
using VirtPS.Sdk.Machine;
using VirtPS.Sdk.Time;

namespace VirtPS.Device.Acpi;

/// <summary>
/// ACPI fixed hardware (ACPI 6.5 §4.8) at the places of <see cref="PcLayout"/>. ACPI mode is always on: SCI_EN reads as one and there is no SMI command port. S5 is the only sleep
/// state; another SLP_TYP is logged and does nothing. The reset register (0xCF9) belongs to the PCI host bridge, which has the ports around it.
/// Provides <see cref="IPowerButton"/> and <see cref="IGeneralPurposeEvents"/>.
/// </summary>
internal sealed class PowerManagement : IDevice, IPowerButton, IGeneralPurposeEvents
{
    public const string TypeId = "virtps.acpi/pm";
    public const int Schema = 1;

    private const ulong NanosecondsPerSecond = 1_000_000_000;

    // Configuration.
    private readonly int _timerBits;

    // Wiring.
    private readonly VirtualClock _clock;
    private readonly ILog _log;
    private readonly IMachineControl? _machine;
    private readonly InterruptLine _sci;
    private readonly Alarm _alarm;
    private readonly IBusRegion[] _regions;
    private bool _quiesced;

    // Guest-visible state.
    private PowerManagementState _s = new();

    public PowerManagement(PowerManagementSpec spec, DeviceContext context)
    {
        _timerBits = spec.TimerBits;
        (_clock, _log) = (context.Clock, context.Log);
        _machine = context.GetService<IMachineControl>();
        _sci = context.IsaInterrupt(PcLayout.SciIrq);
        _alarm = context.Clock.CreateAlarm($"{context.Name} timer carry", Sync);
        _regions =
        [
            Map(context, PcLayout.Pm1aEventPort, PcLayout.Pm1aEventLength, ReadEvent, WriteEvent),
            Map(context, PcLayout.Pm1aControlPort, PcLayout.Pm1aControlLength, i => (byte)(ControlValue >> (8 * i)), WriteControl),
            Map(context, PcLayout.PmTimerPort, PcLayout.PmTimerLength, i => (byte)(_latchedTimer >> (8 * i)), (_, _) => { }, latch: true),
            Map(context, PcLayout.Gpe0Port, PcLayout.Gpe0Length, ReadGpe, WriteGpe),
        ];
        Reset(ResetKind.Cold);
        context.Provide<IPowerButton>(this);
        context.Provide<IGeneralPurposeEvents>(this);
    }

    /// <summary>The free-running count since VM time 0, before it is cut to the timer's width.</summary>
    private ulong Ticks
    {
        get
        {
            (ulong seconds, ulong rest) = Math.DivRem(_clock.Now, NanosecondsPerSecond);
            return seconds * PcLayout.PmTimerFrequency + rest * PcLayout.PmTimerFrequency / NanosecondsPerSecond;
        }
    }

    private uint TimerValue => (uint)(Ticks & ((1ul << _timerBits) - 1));

    /// <summary>The count that the bytes of one access are taken from, so that a wide read is never torn.</summary>
    private uint _latchedTimer;

    private ushort ControlValue => (ushort)(_s.Control | Pm1Control.SciEnable);

    public void Reset(ResetKind kind)
    {
        _s = new PowerManagementState { CarriesSeen = Carries };
        Sync();
    }

    public void Press()
    {
        _s.Status |= Pm1.PowerButton;
        Sync();
    }

    public void Raise(int index)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(index);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(index, 15);
        _s.GpeStatus |= (ushort)(1 << index);
        Sync();
    }

    private byte ReadEvent(int offset)
    {
        Sync();
        return (byte)((offset < 2 ? _s.Status : _s.Enable) >> (8 * (offset & 1)));
    }

    private void WriteEvent(int offset, byte value)
    {
        Sync();
        ushort bits = (ushort)(value << (8 * (offset & 1)));
        if (offset < 2)
            _s.Status &= (ushort)~bits;
        else
            _s.Enable = (ushort)(((_s.Enable & (0xFF00 >> (8 * (offset & 1)))) | bits) & Pm1.Enable);
        Sync();
    }

    private byte ReadGpe(int offset) => (byte)((offset < 2 ? _s.GpeStatus : _s.GpeEnable) >> (8 * (offset & 1)));

    private void WriteGpe(int offset, byte value)
    {
        ushort bits = (ushort)(value << (8 * (offset & 1)));
        if (offset < 2)
            _s.GpeStatus &= (ushort)~bits;
        else
            _s.GpeEnable = (ushort)((_s.GpeEnable & (0xFF00 >> (8 * (offset & 1)))) | bits);
        Sync();
    }

    private void WriteControl(int offset, byte value)
    {
        ushort bits = (ushort)(value << (8 * offset));
        ushort kept = (ushort)(_s.Control & (0xFF00 >> (8 * offset)));
        // GBL_RLS and SLP_EN are write-only; SCI_EN belongs to the firmware, which left it on.
        _s.Control = (ushort)((kept | bits) & (Pm1Control.BusMasterReload | Pm1Control.SleepType));
        if ((bits & Pm1Control.SleepEnable) != 0)
            Sleep((_s.Control & Pm1Control.SleepType) >> Pm1Control.SleepTypeShift);
    }

    private void Sleep(int type)
    {
        if (type == PcLayout.SleepTypeS5)
            _machine?.RequestPowerOff("ACPI S5");
        else
            _log.Write(LogLevel.Warning, $"The guest asked for sleep type {type}; only {PcLayout.SleepTypeS5} (S5, soft-off) exists.");
    }

    /// <summary>How often the timer's highest bit has changed; each change sets TMR_STS (§4.8.2.1).</summary>
    private ulong Carries => Ticks >> (_timerBits - 1);

    private void Sync()
    {
        ulong carries = Carries;
        if (carries != _s.CarriesSeen)
            (_s.CarriesSeen, _s.Status) = (carries, (ushort)(_s.Status | Pm1.Timer));
        _sci.Set((_s.Status & _s.Enable) != 0 || (_s.GpeStatus & _s.GpeEnable) != 0);
        bool waits = !_quiesced && (_s.Enable & ~_s.Status & Pm1.Timer) != 0;
        _alarm.Deadline = waits ? TimeOf((carries + 1) << (_timerBits - 1)) : null;
    }

    private static ulong TimeOf(ulong ticks) => (ulong)((((UInt128)ticks * NanosecondsPerSecond) + PcLayout.PmTimerFrequency - 1) / PcLayout.PmTimerFrequency);

    public void Quiesce()
    {
        _quiesced = true;
        Sync();
    }

    public DeviceState Save() => DeviceState.From(TypeId, Schema, _s with { });

    public void Restore(DeviceState state) => _s = state.Read<PowerManagementState>(TypeId, Schema);

    public void Resume()
    {
        _quiesced = false;
        Sync();
    }

    public void Dispose()
    {
        _alarm.Dispose();
        _sci.Set(false);
        foreach (IBusRegion region in _regions)
            region.Dispose();
    }

    private IBusRegion Map(DeviceContext context, ushort port, int length, Func<int, byte> read, Action<int, byte> write, bool latch = false) =>
        context.MapPorts(port, length, new ByteBlock(this, read, write, latch), maxAccess: 4);

    /// <summary>A register block that takes any width: an access is its bytes, lowest first.</summary>
    private sealed class ByteBlock(PowerManagement pm, Func<int, byte> read, Action<int, byte> write, bool latch) : IPortDevice
    {
        public uint ReadPort(int offset, int size)
        {
            if (latch)
                pm._latchedTimer = pm.TimerValue;
            uint value = 0;
            for (int i = 0; i < size; i++)
                value |= (uint)read(offset + i) << (8 * i);
            return value;
        }

        public void WritePort(int offset, int size, uint value)
        {
            for (int i = 0; i < size; i++)
                write(offset + i, (byte)(value >> (8 * i)));
        }
    }
}

/// <summary>Saved state, schema 1. The PM timer itself follows from VM time.</summary>
internal sealed record PowerManagementState
{
    public ushort Status { get; set; }
    public ushort Enable { get; set; }

    /// <summary>PM1_CNT without SCI_EN and the write-only bits.</summary>
    public ushort Control { get; set; }
    public ushort GpeStatus { get; set; }
    public ushort GpeEnable { get; set; }

    /// <summary>Changes of the timer's highest bit that TMR_STS accounts for.</summary>
    public ulong CarriesSeen { get; set; }
}
