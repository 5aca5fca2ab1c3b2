namespace VirtPS.Device.Rtc;

/// <summary>The running time, the flags that follow from it, and when to look again.</summary>
internal sealed partial class Mc146818
{
    private const long TimeBase = 32_768;

    /// <summary>Brings <see cref="Mc146818State.SecondAt"/> to the last second boundary; the calendar goes with it unless it is halted.</summary>
    private void Roll(long now)
    {
        long passed = (now - _s.SecondAt) / Second;
        _s.SecondAt += passed * Second;
        if (!Halted)
            _s.Seconds += passed;
    }

    private byte[] TimeBytes() => _s.Frozen ?? TimeFormat.Encode(_s.Seconds, _s.DayShift, _s.B);

    /// <summary>Writes a time byte. A guest should set SET first; without it the change takes effect at once.</summary>
    private void WriteTime(int position, byte value)
    {
        byte[] bytes = TimeBytes();
        bytes[position] = value;
        if (Halted)
            _s.Frozen = bytes;
        else
            Adopt(bytes);
    }

    private void Adopt(byte[] bytes)
    {
        (_s.Seconds, _s.DayShift) = TimeFormat.Decode(bytes, _s.B);
        _s.EvaluatedSeconds = _s.Seconds;
    }

    /// <summary>New registers A and B. Halting freezes the time bytes as they are; going on takes the time from them.</summary>
    private void ChangeControl(byte a, byte b)
    {
        bool wasHalted = Halted, wasHeld = DividerHeld;
        byte[] bytes = TimeBytes();
        (_s.A, _s.B) = (a, b);
        if (!wasHalted && Halted)
            _s.Frozen = bytes;
        // Released from reset, the divider gives its first update half a second later.
        if (wasHeld && !DividerHeld)
            _s.SecondAt = Now - (Second / 2);
        if (wasHalted && !Halted)
        {
            _s.Frozen = null;
            Adopt(bytes);
        }
    }

    /// <summary>Sets the flags for everything up to <paramref name="now"/>.</summary>
    private void Evaluate(long now)
    {
        Roll(now);
        if (PeriodicTicks is { } period && !DividerHeld && Ticks(now) / period > Ticks(_s.EvaluatedAt) / period)
            _s.C |= RegC.Pf;
        _s.EvaluatedAt = now;
        if (Halted || _s.Seconds == _s.EvaluatedSeconds)
            return;
        _s.C |= RegC.Uf;
        if (NextAlarm(_s.EvaluatedSeconds) <= _s.Seconds)
            _s.C |= RegC.Af;
        _s.EvaluatedSeconds = _s.Seconds;
    }

    /// <summary>The flags, then the line, then the time at which it would rise next.</summary>
    private void Sync()
    {
        long now = Now;
        Evaluate(now);
        _irq8.Set(InterruptRequest);
        _alarm.Deadline = _quiesced || InterruptRequest ? null : NextInterrupt(now);
    }

    private ulong? NextInterrupt(long now)
    {
        long next = long.MaxValue;
        if ((_s.B & RegB.Pie) != 0 && PeriodicTicks is { } period && !DividerHeld)
        {
            long tick = ((Ticks(now) / period) + 1) * period;
            next = PhaseOrigin + (tick / TimeBase * Second) + (((tick % TimeBase * Second) + TimeBase - 1) / TimeBase);
        }

        if (!Halted && (_s.B & RegB.Uie) != 0)
            next = Math.Min(next, _s.SecondAt + Second);
        if (!Halted && (_s.B & RegB.Aie) != 0 && NextAlarm(_s.Seconds) is { } alarm)
            next = Math.Min(next, _s.SecondAt + ((alarm - _s.Seconds) * Second));
        return next == long.MaxValue ? null : (ulong)next;
    }

    /// <summary>Period in ticks of the time base (data sheet table 5, 32.768 kHz column); null when off.</summary>
    private long? PeriodicTicks => (_s.A & RegA.Rate) switch
    {
        0 => null,
        1 => 128,
        2 => 256,
        int rate => 1L << (rate - 1),
    };

    /// <summary>Where ticks are counted from: some second boundary. All periods divide a second, so any will do as long as the phase stays.</summary>
    private long PhaseOrigin => (_s.SecondAt % Second) - Second;

    // Whole seconds and the rest apart, because the product needs more than 64 bits, and what uses Int128 is not compiled ahead of time.
    private long Ticks(long at)
    {
        (long seconds, long rest) = Math.DivRem(at - PhaseOrigin, Second);
        return (seconds * TimeBase) + (rest * TimeBase / Second);
    }

    /// <summary>The first second after <paramref name="from"/> at which the three alarm bytes match; null when they never do.</summary>
    private long? NextAlarm(long from)
    {
        const long day = 86_400, hour = 3_600, minute = 60;
        for (long t = from + 1; t <= from + day;)
        {
            byte[] bytes = TimeFormat.Encode(t, 0, _s.B);
            if (!Matches(Cmos.HoursAlarm, bytes[TimeFormat.Hour]))
                t += hour - (t % hour);
            else if (!Matches(Cmos.MinutesAlarm, bytes[TimeFormat.Minute]))
                t += minute - (t % minute);
            else if (!Matches(Cmos.SecondsAlarm, bytes[TimeFormat.Second]))
                t++;
            else
                return t;
        }

        return null;
    }

    /// <summary>Bytes with the two highest bits set are "don't care" (data sheet, time, calendar and alarm locations).</summary>
    private bool Matches(int alarm, byte value) => (_ram[alarm] & 0xC0) == 0xC0 || _ram[alarm] == value;
}
