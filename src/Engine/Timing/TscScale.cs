namespace VirtPS.Engine;

/// <summary>The fixed relation between VM nanoseconds and the machine's TSC.</summary>
public readonly struct TscScale(ulong frequency)
{
    private const ulong Billion = 1_000_000_000;

    /// <summary>Ticks per second of VM time.</summary>
    public ulong Frequency { get; } = frequency;

    /// <summary>Machine TSC at a VM time.</summary>
    public ulong ToTicks(ulong nanoseconds) => Frequency == Billion ? nanoseconds : (ulong)((UInt128)nanoseconds * Frequency / Billion);

    /// <summary>First VM time at which the machine TSC has reached <paramref name="ticks"/>; <see cref="ulong.MaxValue"/> when that is beyond the clock's range.</summary>
    public ulong ToNanoseconds(ulong ticks)
    {
        if (Frequency == Billion)
            return ticks;
        UInt128 ns = (((UInt128)ticks * Billion) + Frequency - 1) / Frequency;
        return ns > ulong.MaxValue ? ulong.MaxValue : (ulong)ns;
    }
}
