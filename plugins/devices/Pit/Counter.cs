namespace VirtPS.Device.Pit;

/// <summary>
/// One counter of an Intel 8254, computed from the time instead of counted: everything follows from the tick at which the counting element was loaded.
/// Every call gives the present tick; ticks never go back. Section names are the data sheet's.
/// </summary>
internal sealed class Counter
{
    private CounterState _s = new();

    public CounterState State
    {
        get => _s with { };
        set => _s = value with { };
    }

    public bool Gate => _s.Gate;

    private int Modulus => _s.Bcd ? 10_000 : 65_536;

    private bool IsPeriodic => _s.Mode is 2 or 3;

    private bool IsHardwareTriggered => _s.Mode is 1 or 5;

    public void Reset(bool gate) => _s = new CounterState { Gate = gate };

    // Programming

    /// <summary>Control word without the counter's number. Clears all logic; OUT takes the mode's initial level.</summary>
    public void WriteControl(byte control)
    {
        int mode = (control >> 1) & 7;
        _s = new CounterState
        {
            Mode = (byte)(mode > 5 ? mode - 4 : mode),
            Access = (byte)((control >> 4) & 3),
            Bcd = (control & 1) != 0,
            Gate = _s.Gate,
        };
    }

    public void WriteCount(byte value, long now)
    {
        Advance(now);
        switch (_s.Access)
        {
            case AccessMode.Lsb:
                Program(value, now);
                break;
            case AccessMode.Msb:
                Program(value << 8, now);
                break;
            default:
                if (_s.HalfWritten is { } low)
                {
                    _s.HalfWritten = null;
                    Program(low | (value << 8), now);
                    break;
                }

                _s.HalfWritten = value;
                // Mode 0: the first byte disables counting and sets OUT low at once.
                if (_s.Mode == 0)
                    _s.Loaded = 0;
                break;
        }
    }

    private void Program(int raw, long now)
    {
        int count = _s.Bcd ? FromBcd(raw) : raw;
        _s.Reload = count == 0 ? Modulus : count;
        // Modes 1 and 5 wait for a trigger; 2 and 3 finish the running (half) period; 0, 4 and a first count load on the next CLK.
        if (IsHardwareTriggered)
            _s.ReloadPending = true;
        else if (IsPeriodic && _s.Loaded != 0 && now >= _s.LoadedAt)
            DeferReload(now);
        else
            Load(now + 1);
    }

    /// <summary>Modes 2 and 3: the running period (half period in mode 3) is finished first.</summary>
    private void DeferReload(long now)
    {
        _s.ReloadPending = true;
        long start = now - ((now - _s.LoadedAt) % _s.Loaded), high = HighHalf(_s.Loaded);
        bool inHighHalf = _s.Mode == 3 && now - start < high;
        _s.PendingFrom = start + (inHighHalf ? high : _s.Loaded);
        // After a high half the new count begins with its low half.
        _s.PendingBase = _s.PendingFrom - (inHighHalf ? HighHalf(_s.Reload) : 0);
    }

    private void Load(long at)
    {
        (_s.Loaded, _s.LoadedAt, _s.ReloadPending) = (_s.Reload, at, false);
        _s.HeldElapsed = _s.Gate || IsHardwareTriggered ? null : 0;
    }

    public void SetGate(bool gate, long now)
    {
        if (gate == _s.Gate)
            return;
        Advance(now);
        _s.Gate = gate;
        bool counting = _s.Loaded != 0;
        if (IsHardwareTriggered || IsPeriodic)
        {
            // A rising edge triggers: the count register is loaded on the next CLK. Periodic modes stop with OUT high while GATE is low.
            if (gate && _s.Reload != 0)
                Load(now + 1);
            else if (!gate && IsPeriodic && counting)
                _s.HeldElapsed = 0;
        }
        else if (counting)
        {
            if (!gate)
                _s.HeldElapsed = Math.Max(0, now - _s.LoadedAt);
            else if (_s.HeldElapsed is { } elapsed)
                (_s.LoadedAt, _s.HeldElapsed) = (now - elapsed, null);
        }
    }

    // Reading back

    public byte Read(long now)
    {
        Advance(now);
        if (_s.LatchedStatus is { } status)
        {
            _s.LatchedStatus = null;
            return status;
        }

        int count = _s.LatchedCount ?? CountingElement(now);
        bool msb = _s.Access == AccessMode.Msb || (_s.Access == AccessMode.LsbThenMsb && _s.ReadMsbNext);
        if (_s.Access == AccessMode.LsbThenMsb)
            _s.ReadMsbNext = !_s.ReadMsbNext;
        if (_s.Access != AccessMode.LsbThenMsb || msb)
            _s.LatchedCount = null;
        return (byte)(msb ? count >> 8 : count);
    }

    /// <summary>Counter latch command: ignored while an earlier one has not been read.</summary>
    public void LatchCount(long now)
    {
        Advance(now);
        _s.LatchedCount ??= CountingElement(now);
    }

    /// <summary>Status byte of the read-back command (figure 11): OUTPUT, NULL COUNT, RW, M, BCD.</summary>
    public void LatchStatus(long now)
    {
        Advance(now);
        bool nullCount = _s.Loaded == 0 || _s.ReloadPending || IsLoading(now);
        _s.LatchedStatus ??= (byte)((Output(now) ? 0x80 : 0) | (nullCount ? 0x40 : 0) | (_s.Access << 4) | (_s.Mode << 1) | (_s.Bcd ? 1 : 0));
    }

    private ushort CountingElement(long now)
    {
        if (_s.Loaded == 0)
            return 0;
        long elapsed = Elapsed(now);
        long count = _s.Mode switch
        {
            2 => _s.Loaded - (elapsed % _s.Loaded),
            // Decrements by two, from an even value, once for each half of the square wave.
            3 => (_s.Loaded & ~1) - (2 * HalfPosition(elapsed)),
            _ => _s.Loaded - elapsed,
        };
        int wrapped = (int)(((count % Modulus) + Modulus) % Modulus);
        return (ushort)(_s.Bcd ? ToBcd(wrapped) : wrapped);
    }

    private long HalfPosition(long elapsed)
    {
        long position = elapsed % _s.Loaded, high = HighHalf(_s.Loaded);
        return position < high ? position : position - high;
    }

    // The output

    /// <summary>Level of OUT.</summary>
    public bool Output(long now)
    {
        Advance(now);
        if (_s.Loaded == 0)
            return _s.Mode != 0;
        long elapsed = Elapsed(now);
        bool loading = IsLoading(now);
        return _s.Mode switch
        {
            0 => !loading && elapsed >= _s.Loaded,
            1 => loading || elapsed >= _s.Loaded,
            2 => _s.HeldElapsed is not null || loading || elapsed % _s.Loaded != _s.Loaded - 1,
            3 => _s.HeldElapsed is not null || loading || elapsed % _s.Loaded < HighHalf(_s.Loaded),
            _ => loading || elapsed != _s.Loaded,
        };
    }

    /// <summary>The first tick after <paramref name="now"/> at which OUT goes from low to high, as things stand; null when it never does.</summary>
    public long? NextRise(long now)
    {
        Advance(now);
        if (_s.Loaded == 0 || _s.HeldElapsed is not null)
            return null;
        switch (_s.Mode)
        {
            case 0 or 1:
                return After(_s.LoadedAt + _s.Loaded, now);
            case 2 or 3 when _s.ReloadPending:
                return _s.PendingBase == _s.PendingFrom ? _s.PendingFrom : _s.PendingBase + _s.Reload;
            case 2 or 3:
                // OUT rises at each reload; the first load finds it high.
                long periods = Math.Max(0, now - _s.LoadedAt) / _s.Loaded;
                long rise = _s.LoadedAt + ((periods + 1) * _s.Loaded);
                return _s.Loaded == 1 ? null : rise;
            default:
                return After(_s.LoadedAt + _s.Loaded + 1, now);
        }
    }

    /// <summary>Between the write of a count (or the trigger) and the CLK that loads it.</summary>
    private bool IsLoading(long now) => _s.HeldElapsed is null && now < _s.LoadedAt;

    private static long? After(long tick, long now) => tick > now ? tick : null;

    private static long HighHalf(int count) => (count + 1) / 2;

    private long Elapsed(long now) => _s.HeldElapsed ?? Math.Max(0, now - _s.LoadedAt);

    /// <summary>Takes over a count that waits for the end of the period (mode 2) or half period (mode 3).</summary>
    private void Advance(long now)
    {
        if (!_s.ReloadPending || !IsPeriodic || _s.HeldElapsed is not null || _s.PendingFrom > now)
            return;
        (_s.Loaded, _s.LoadedAt, _s.ReloadPending) = (_s.Reload, _s.PendingBase, false);
    }

    private static int FromBcd(int raw) => (raw & 0xF) + (10 * ((raw >> 4) & 0xF)) + (100 * ((raw >> 8) & 0xF)) + (1000 * ((raw >> 12) & 0xF));

    private static int ToBcd(int value) => value % 10 | (value / 10 % 10 << 4) | (value / 100 % 10 << 8) | (value / 1000 % 10 << 12);
}
