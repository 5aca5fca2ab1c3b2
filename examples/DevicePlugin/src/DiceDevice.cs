using VirtPS.Sdk.Devices;
using VirtPS.Sdk.Interrupts;
using VirtPS.Sdk.Time;

namespace Acme.Dice;

/// <summary>
/// Port + 0: write anything to roll; read the result, 1–6, or 0 before the first roll and while rolling. Reading acknowledges the interrupt.
/// Port + 1: status; bit 0 rolling, bit 1 a result waits.
/// </summary>
internal sealed class DiceDevice : IDevice, IPortDevice
{
    private const string TypeId = "acme.dice/dice";
    private const int Schema = 1;

    /// <summary>Nanoseconds of VM time that a roll takes.</summary>
    private const ulong RollTime = 1_000_000;

    // Configuration.
    private readonly uint _seed;

    // Wiring.
    private readonly VirtualClock _clock;
    private readonly InterruptLine _interrupt;
    private readonly Alarm _alarm;
    private readonly IBusRegion _ports;
    private bool _quiesced;

    // Guest-visible state.
    private DiceState _s;

    public DiceDevice(DiceSpec spec, DeviceContext context)
    {
        _seed = (uint)spec.Seed;
        _clock = context.Clock;
        _interrupt = context.IsaInterrupt(spec.Irq);
        _alarm = context.Clock.CreateAlarm($"{context.Name} comes to rest", Sync);
        _ports = context.MapPorts((ushort)spec.Port, 2, this);
        _s = new DiceState { Random = _seed };
    }

    public void Reset(ResetKind kind)
    {
        _s = new DiceState { Random = _seed };
        Sync();
    }

    public uint ReadPort(int offset, int size)
    {
        Sync();
        if (offset == 1)
            return (_s.RestsAt is not null ? 1u : 0) | (_s.Waiting ? 2u : 0);
        _s.Waiting = false;
        Sync();
        return _s.Face;
    }

    public void WritePort(int offset, int size, uint value)
    {
        Sync();
        if (offset == 0 && _s.RestsAt is null)
            (_s.Face, _s.Waiting, _s.RestsAt) = (0, false, _clock.Now + RollTime);
        Sync();
    }

    /// <summary>Everything that follows from state and time, in one place: the die coming to rest, the line, the alarm.</summary>
    private void Sync()
    {
        if (_s.RestsAt <= _clock.Now)
        {
            // Chance comes from saved state, not from the host: a restored or replayed machine rolls the same (xorshift, Marsaglia 2003).
            uint x = _s.Random;
            x ^= x << 13;
            x ^= x >> 17;
            x ^= x << 5;
            (_s.Random, _s.Face, _s.Waiting, _s.RestsAt) = (x, (byte)((x % 6) + 1), true, null);
        }

        _interrupt.Set(_s.Waiting);
        _alarm.Deadline = _quiesced ? null : _s.RestsAt;
    }

    public void Quiesce()
    {
        _quiesced = true;
        Sync();
    }

    public DeviceState Save() => DeviceState.From(TypeId, Schema, _s with { });

    public void Restore(DeviceState state) => _s = state.Read<DiceState>(TypeId, Schema);

    public void Resume()
    {
        _quiesced = false;
        Sync();
    }

    public void Dispose()
    {
        _alarm.Dispose();
        _interrupt.Set(false);
        _ports.Dispose();
    }
}

/// <summary>Saved state, schema 1. A later version that adds something raises the number and still reads this one.</summary>
internal sealed record DiceState
{
    public uint Random { get; set; }

    public byte Face { get; set; }

    public bool Waiting { get; set; }

    /// <summary>VM time in nanoseconds; null when not rolling.</summary>
    public ulong? RestsAt { get; set; }
}
