namespace VirtPS.Engine;

/// <summary>The fixed relation between VM nanoseconds and the machine's TSC.</summary>
public readonly struct TscScale(ulong frequency)
{
    private const ulong Billion = 1_000_000_000;

    /// <summary>Ticks per second of VM time.</summary>
    public ulong Frequency { get; } = frequency;

    /// <summary>Below it whole seconds and the rest of one can be scaled apart, in 64 bits: what uses <see cref="UInt128"/> is not compiled ahead of time.</summary>
    private const ulong FastLimit = ulong.MaxValue / Billion;

    /// <summary>Machine TSC at a VM time.</summary>
    public ulong ToTicks(ulong nanoseconds)
    {
        if (Frequency == Billion)
            return nanoseconds;
        if (Frequency > FastLimit)
            return ToTicksWide(nanoseconds);
        (ulong seconds, ulong rest) = Math.DivRem(nanoseconds, Billion);
        return seconds * Frequency + rest * Frequency / Billion;
    }

    private ulong ToTicksWide(ulong nanoseconds) => (ulong)((UInt128)nanoseconds * Frequency / Billion);

    /// <summary>First VM time at which the machine TSC has reached <paramref name="ticks"/>; <see cref="ulong.MaxValue"/> when that is beyond the clock's range.</summary>
    public ulong ToNanoseconds(ulong ticks)
    {
        if (Frequency == Billion)
            return ticks;
        (ulong seconds, ulong rest) = Math.DivRem(ticks, Frequency);
        if (Frequency > FastLimit || seconds >= FastLimit)
            return ToNanosecondsWide(ticks);
        (ulong whole, ulong part) = Math.DivRem(rest * Billion, Frequency);
        return seconds * Billion + whole + (part != 0 ? 1ul : 0);
    }

    private ulong ToNanosecondsWide(ulong ticks)
    {
        UInt128 ns = (((UInt128)ticks * Billion) + Frequency - 1) / Frequency;
        return ns > ulong.MaxValue ? ulong.MaxValue : (ulong)ns;
    }
}
