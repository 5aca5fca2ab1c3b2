using System.Diagnostics;
using System.Runtime.Intrinsics.X86;

namespace VirtPS.Emulation.Thunks;

/// <summary>
/// The host's time-stamp counter, which .NET does not offer: a generated RDTSC for the process, some nanoseconds a reading where the system's clock takes some tens. Only for measuring: what
/// it says of time comes from holding it against the system's clock. Thread-safe.
/// </summary>
internal sealed unsafe class HostTsc
{
    private readonly delegate* unmanaged[SuppressGCTransition]<ulong> _read;
    private readonly ulong _firstTicks;
    private readonly long _firstTime;

    private HostTsc()
    {
        // RDTSC; SHL RDX, 32; OR RAX, RDX; RET. It lives as long as the process, so nobody gives its memory back.
        _read = (delegate* unmanaged[SuppressGCTransition]<ulong>)new ExecutableMemory().Add([0x0F, 0x31, 0x48, 0xC1, 0xE2, 0x20, 0x48, 0x09, 0xD0, 0xC3]);
        (_firstTicks, _firstTime) = (Read(), Stopwatch.GetTimestamp());
    }

    /// <summary>Null where the counter's rate changes with the processor's state (CPUID.80000007h:EDX[8]; SDM Vol. 3B §18.17.1), or the process has no executable memory.</summary>
    public static HostTsc? Instance { get; } = EngineOptions.CanTranslate && IsInvariant ? new HostTsc() : null;

    private static bool IsInvariant => X86Base.IsSupported && (uint)X86Base.CpuId(unchecked((int)0x80000000), 0).Eax >= 0x80000007u
        && (X86Base.CpuId(unchecked((int)0x80000007), 0).Edx & 1 << 8) != 0;

    public ulong Read() => _read();

    /// <summary>Nanoseconds per tick, by the system's clock, since the process's first reading; 0: that was less than 5 ms ago, too little to say.</summary>
    public double MeasureNanosecondsPerTick()
    {
        double time = Stopwatch.GetElapsedTime(_firstTime).TotalNanoseconds;
        ulong ticks = Read() - _firstTicks;
        return time < 5e6 || (long)ticks <= 0 ? 0 : time / ticks;
    }
}
