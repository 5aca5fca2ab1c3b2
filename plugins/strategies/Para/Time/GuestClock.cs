namespace VirtPS.Strategy.Para.Time;

/// <summary>The clock that the guest computes from its TSC: records with a version that is odd while they change (public/xen.h, vcpu_time_info).</summary>
internal static unsafe class GuestClock
{
    private const int WallVersion = 3072, WallSeconds = 3076, WallNanoseconds = 3080, WallSecondsHigh = 3084;
    private const byte TscStable = 1;

    /// <summary>
    /// Nanoseconds = ((TSC - timestamp) shifted by the shift) * mul / 2^32. The TSC runs with the VM's time at a fixed rate, so a record holds for ever.
    /// </summary>
    public static void Write(XenDomain domain, VcpuTime* record, ulong guestTsc, ulong now)
    {
        (uint mul, sbyte shift) = Scale(domain.Partition.TscFrequency);
        uint version = record->Version | 1;
        Volatile.Write(ref record->Version, version);
        Interlocked.MemoryBarrier();
        (record->TscTimestamp, record->SystemTime, record->TscToSystemMul, record->TscShift, record->Flags) = (guestTsc, now, mul, shift, TscStable);
        Interlocked.MemoryBarrier();
        Volatile.Write(ref record->Version, version + 1);
    }

    public static void WriteWallClock(XenDomain domain)
    {
        byte* p = domain.SharedInfo;
        TimeSpan since = domain.Clock.PowerOnUtc - DateTimeOffset.UnixEpoch;
        long seconds = (long)since.TotalSeconds;
        *(uint*)(p + WallVersion) |= 1;
        Interlocked.MemoryBarrier();
        *(uint*)(p + WallSeconds) = (uint)seconds;
        *(uint*)(p + WallSecondsHigh) = (uint)(seconds >> 32);
        *(uint*)(p + WallNanoseconds) = (uint)((since.Ticks - (seconds * TimeSpan.TicksPerSecond)) * 100);
        Interlocked.MemoryBarrier();
        *(uint*)(p + WallVersion) += 1;
    }

    /// <summary>The multiplier as a 0.32 fixed-point number in [0.5, 1), and the shift that makes it so.</summary>
    internal static (uint Mul, sbyte Shift) Scale(ulong frequency)
    {
        sbyte shift = 0;
        UInt128 mul = ((UInt128)1_000_000_000 << 32) / frequency;
        while (mul >= (UInt128)1 << 32)
        {
            mul >>= 1;
            shift++;
        }

        while (mul < (UInt128)1 << 31)
        {
            mul <<= 1;
            shift--;
        }

        return ((uint)mul, shift);
    }
}
