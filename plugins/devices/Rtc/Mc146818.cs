using VirtPS.Sdk.Devices;
using VirtPS.Sdk.Interrupts;
using VirtPS.Sdk.Machine;
using VirtPS.Sdk.Memory;
using VirtPS.Sdk.Time;

namespace VirtPS.Device.Rtc;

/// <summary>
/// Motorola MC146818A at ports 0x70/0x71 with 128 bytes of RAM. Register and bit names are the data sheet's. The time is the VM clock's date in UTC; flags
/// are computed when somebody looks, and the host is woken only for an interrupt that is enabled and not already asserted. Bit 7 of port 0x70
/// (NMI mask) is kept; the machine has no NMI source behind it. Square-wave output and daylight saving are not wired.
/// </summary>
internal sealed partial class Mc146818 : IDevice, IPortDevice
{
    private const long Second = 1_000_000_000;

    /// <summary>UIP is set 244 µs before an update cycle, which lasts 1984 µs with a 32.768 kHz time base (data sheet table 6).</summary>
    private const long UpdateTime = 2_228_000;

    // Wiring.
    private readonly DeviceContext _context;
    private readonly VirtualClock _clock;
    private readonly InterruptLine _irq8;
    private readonly Alarm _alarm;
    private readonly IBusRegion _region;
    private bool _quiesced;

    // Guest-visible state: Mc146818State, and the RAM (alarm bytes included).
    private Mc146818State _s = new();
    private readonly byte[] _ram = new byte[Cmos.Size];

    public Mc146818(DeviceContext context)
    {
        (_context, _clock) = (context, context.Clock);
        _irq8 = context.IsaInterrupt(PcLayout.RtcIrq);
        _alarm = context.Clock.CreateAlarm($"{context.Name} interrupt", Sync);
        _region = context.MapPorts(PcLayout.RtcPort, 2, this);
        Reset(ResetKind.Cold);
    }

    private long Now => (long)_clock.Now;

    private bool Halted => (_s.B & RegB.Set) != 0 || DividerHeld;

    private bool DividerHeld => (_s.A & RegA.DividerReset) == RegA.DividerReset;

    /// <summary>RESET# clears the interrupt enables and flags; time and RAM have a battery. A cold reset is the battery's first connection.</summary>
    public void Reset(ResetKind kind)
    {
        if (kind == ResetKind.Cold)
        {
            long ticks = _clock.PowerOnUtc.UtcTicks;
            _s = new Mc146818State
            {
                A = RegA.Default,
                B = RegB.Hours24,
                Seconds = ticks / TimeSpan.TicksPerSecond,
                SecondAt = -(ticks % TimeSpan.TicksPerSecond * 100),
            };
            Roll(Now);
            (_s.EvaluatedAt, _s.EvaluatedSeconds) = (Now, _s.Seconds);
            FillRam();
        }

        _s.B &= unchecked((byte)~(RegB.Enables | RegB.Sqwe));
        _s.C = 0;
        _s.Index = 0;
        Sync();
    }

    /// <summary>What the PC's firmware leaves in the RAM about memory and processors, read by small kernels and boot loaders.</summary>
    private void FillRam()
    {
        const ulong mib = 1 << 20, gib4 = 1ul << 32;
        Array.Clear(_ram);
        ulong below = 0, above = 0;
        foreach (MemorySlot slot in _context.Memory.Slots.Where(s => !s.ReadOnly))
        {
            below = slot.Gpa < gib4 ? Math.Max(below, Math.Min(slot.End, gib4)) : below;
            above += slot.End > gib4 ? slot.End - Math.Max(slot.Gpa, gib4) : 0;
        }

        // 0x02: a coprocessor, no diskette drives, no display adapter.
        _ram[Cmos.Equipment] = 0x02;
        Put16(Cmos.BaseMemory, Math.Min(below, 640 * 1024) / 1024);
        ulong extended = Math.Min(below > mib ? (below - mib) / 1024 : 0, 0xFFFF);
        Put16(Cmos.ExtendedMemory, extended);
        Put16(Cmos.ExtendedMemory2, extended);
        Put16(Cmos.MemoryAbove16M, below > 16 * mib ? (below - (16 * mib)) >> 16 : 0);
        Put16(Cmos.MemoryAbove4G, (above >> 16) & 0xFFFF);
        _ram[Cmos.MemoryAbove4G + 2] = (byte)(above >> 32);
        _ram[Cmos.ProcessorsBeyondFirst] = (byte)((_context.GetService<IMachineControl>()?.VcpuCount ?? 1) - 1);
        int sum = _ram[0x10..Cmos.ChecksumHigh].Sum(b => b);
        (_ram[Cmos.ChecksumHigh], _ram[Cmos.ChecksumLow]) = ((byte)(sum >> 8), (byte)sum);
    }

    private void Put16(int index, ulong value) => (_ram[index], _ram[index + 1]) = ((byte)value, (byte)(value >> 8));

    public uint ReadPort(int offset, int size)
    {
        // The index register of the AT cannot be read.
        if (offset == 0)
            return 0xFF;
        Evaluate(Now);
        byte value = ReadRegister(_s.Index & 0x7F);
        Sync();
        return value;
    }

    public void WritePort(int offset, int size, uint value)
    {
        if (offset == 0)
        {
            _s.Index = (byte)value;
            return;
        }

        Evaluate(Now);
        WriteRegister(_s.Index & 0x7F, (byte)value);
        Sync();
    }

    private byte ReadRegister(int index)
    {
        switch (index)
        {
            case Cmos.A:
                return (byte)(_s.A | (UpdateInProgress ? RegA.UpdateInProgress : 0));
            case Cmos.B:
                return _s.B;
            case Cmos.C:
                byte flags = (byte)(_s.C | (InterruptRequest ? RegC.Irqf : 0));
                _s.C = 0;
                return flags;
            case Cmos.D:
                return RegD.ValidRamAndTime;
            default:
                return TimeByte(index) is { } position ? TimeBytes()[position] : _ram[index];
        }
    }

    private void WriteRegister(int index, byte value)
    {
        switch (index)
        {
            case Cmos.A:
                ChangeControl((byte)(value & ~RegA.UpdateInProgress), _s.B);
                break;
            case Cmos.B:
                // SET clears UIE (data sheet, register B).
                ChangeControl(_s.A, (value & RegB.Set) != 0 ? (byte)(value & ~RegB.Uie) : value);
                break;
            case Cmos.C or Cmos.D:
                break;
            default:
                if (TimeByte(index) is { } position)
                    WriteTime(position, value);
                else
                    _ram[index] = value;
                break;
        }
    }

    private bool InterruptRequest => (_s.B & _s.C & RegB.Enables) != 0;

    private bool UpdateInProgress => !Halted && (Now - _s.SecondAt) % Second >= Second - UpdateTime;

    /// <summary>Position among the time bytes; null for other addresses.</summary>
    private static int? TimeByte(int index) => index switch
    {
        Cmos.Seconds => TimeFormat.Second,
        Cmos.Minutes => TimeFormat.Minute,
        Cmos.Hours => TimeFormat.Hour,
        Cmos.DayOfWeek => TimeFormat.DayOfWeek,
        Cmos.DayOfMonth => TimeFormat.Day,
        Cmos.Month => TimeFormat.Month,
        Cmos.Year => TimeFormat.Year,
        Cmos.Century => TimeFormat.Century,
        _ => null,
    };

    public void Quiesce()
    {
        _quiesced = true;
        Sync();
    }

    public void Resume()
    {
        _quiesced = false;
        Sync();
    }

    public void Dispose()
    {
        _alarm.Dispose();
        _irq8.Set(false);
        _region.Dispose();
    }
}
