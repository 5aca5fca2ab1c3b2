using VirtPS.Sdk;
using VirtPS.Sdk.Devices;
using VirtPS.Sdk.Interrupts;
using VirtPS.Sdk.Machine;
using VirtPS.Sdk.Time;

namespace VirtPS.Device.Pit;

/// <summary>
/// Intel 8254 at ports 0x40–0x43, clocked with 1.193182 MHz of VM time, and the PC/AT's system control port B (0x61): gate and output of counter 2, and the
/// refresh toggle. OUT0 is ISA interrupt 0; counter 1's output leads nowhere. Rises of OUT0 that the host was too late for merge into one.
/// </summary>
internal sealed class I8254 : IDevice, IPortDevice
{
    public const string TypeId = "virtps.pit/8254";
    public const int Schema = 1;
    private const ulong Frequency = 1_193_182, NanosecondsPerSecond = 1_000_000_000;

    /// <summary>Nanoseconds between memory refresh requests on the AT, which toggle bit 4 of port 0x61.</summary>
    private const ulong RefreshPeriod = 15_085;

    // Wiring.
    private readonly VirtualClock _clock;
    private readonly InterruptLine _irq0;
    private readonly Alarm _alarm;
    private readonly IBusRegion[] _regions;
    private bool _quiesced;

    // Guest-visible state.
    private readonly Counter[] _counters = [new(), new(), new()];
    private byte _portB;
    /// <summary>Tick up to which rises of OUT0 have been put on the line.</summary>
    private long _syncedTo;

    public I8254(DeviceContext context)
    {
        _clock = context.Clock;
        _irq0 = context.IsaInterrupt(PcLayout.PitIrq);
        _alarm = context.Clock.CreateAlarm($"{context.Name} OUT0", Sync);
        _regions =
        [
            context.MapPorts(PcLayout.PitPort, 4, this),
            context.MapPorts(PcLayout.SystemControlPortB, 1, new PortB(this)),
        ];
        Reset(ResetKind.Cold);
    }

    // Seconds and the rest of one apart, because of 64 bits.
    private long Now
    {
        get
        {
            (ulong seconds, ulong rest) = Math.DivRem(_clock.Now, NanosecondsPerSecond);
            return (long)(seconds * Frequency + rest * Frequency / NanosecondsPerSecond);
        }
    }

    /// <summary>The data sheet leaves power-on undefined: no counter counts until it is programmed.</summary>
    public void Reset(ResetKind kind)
    {
        for (int i = 0; i < 3; i++)
            _counters[i].Reset(gate: i != 2);
        _portB = 0;
        _syncedTo = Now;
        Sync();
    }

    public uint ReadPort(int offset, int size)
    {
        if (offset == 3)
            return 0xFF;
        // Kernels time their clocks by counter 2, reading it in a row: what the line of counter 0 costs is not theirs.
        if (offset == 0)
            Sync();
        return _counters[offset].Read(Now);
    }

    public void WritePort(int offset, int size, uint value)
    {
        Sync();
        if (offset == 3)
            WriteControl((byte)value);
        else
            _counters[offset].WriteCount((byte)value, Now);
        Sync();
    }

    private void WriteControl(byte value)
    {
        int select = value >> 6;
        if (select == 3)
            ReadBack(value);
        else if (((value >> 4) & 3) == AccessMode.Latch)
            _counters[select].LatchCount(Now);
        else
            _counters[select].WriteControl(value);
    }

    /// <summary>Read-back command (figure 10): bit 5 clear latches counts, bit 4 clear latches status, bits 3–1 choose counters.</summary>
    private void ReadBack(byte value)
    {
        long now = Now;
        for (int i = 0; i < 3; i++)
        {
            if ((value & (2 << i)) == 0)
                continue;
            if ((value & 0x20) == 0)
                _counters[i].LatchCount(now);
            if ((value & 0x10) == 0)
                _counters[i].LatchStatus(now);
        }
    }

    /// <summary>Puts OUT0 on the line: an edge for rises since the last look, then its level; and wakes up for the next rise.</summary>
    private void Sync()
    {
        long now = Now;
        Counter timer = _counters[0];
        if (timer.NextRise(_syncedTo) <= now)
        {
            _irq0.Set(false);
            _irq0.Set(true);
        }

        _syncedTo = now;
        _irq0.Set(timer.Output(now));
        _alarm.Deadline = !_quiesced && timer.NextRise(now) is { } rise ? ToNanoseconds(rise) : null;
    }

    /// <summary>The first nanosecond of a tick.</summary>
    private static ulong ToNanoseconds(long tick)
    {
        (ulong seconds, ulong rest) = Math.DivRem((ulong)tick, Frequency);
        return seconds * NanosecondsPerSecond + (rest * NanosecondsPerSecond + Frequency - 1) / Frequency;
    }

    public void Quiesce()
    {
        _quiesced = true;
        Sync();
    }

    public DeviceState Save() => DeviceState.From(TypeId, Schema, new PitState
    {
        Counters = [.. _counters.Select(c => c.State)],
        PortB = _portB,
        SyncedTo = _syncedTo,
    });

    public void Restore(DeviceState state)
    {
        PitState s = state.Read<PitState>(TypeId, Schema);
        if (s.Counters.Length != 3)
            throw new VirtException("DeviceStateInvalid", $"Saved state of '{TypeId}' has {s.Counters.Length} counters instead of 3.");
        for (int i = 0; i < 3; i++)
            _counters[i].State = s.Counters[i];
        (_portB, _syncedTo) = (s.PortB, s.SyncedTo);
    }

    public void Resume()
    {
        _quiesced = false;
        Sync();
    }

    public void Dispose()
    {
        _alarm.Dispose();
        _irq0.Set(false);
        foreach (IBusRegion region in _regions)
            region.Dispose();
    }

    /// <summary>IBM PC/AT Technical Reference, port 61h: bit 0 gate of counter 2, bit 1 speaker data, bits 2–3 check enables, bit 4 refresh, bit 5 OUT2.</summary>
    private sealed class PortB(I8254 pit) : IPortDevice
    {
        public uint ReadPort(int offset, int size)
        {
            uint refresh = (uint)(pit._clock.Now / RefreshPeriod & 1) << 4;
            uint out2 = pit._counters[2].Output(pit.Now) ? 0x20u : 0;
            return pit._portB | refresh | out2;
        }

        public void WritePort(int offset, int size, uint value)
        {
            pit._portB = (byte)(value & 0x0F);
            pit._counters[2].SetGate((value & 1) != 0, pit.Now);
        }
    }
}

/// <summary>Saved state, schema 1.</summary>
internal sealed record PitState
{
    public CounterState[] Counters { get; init; } = [];

    public byte PortB { get; init; }

    /// <summary>Tick up to which rises of OUT0 have been put on the line.</summary>
    public long SyncedTo { get; init; }
}
