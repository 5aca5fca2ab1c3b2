using System.Runtime.InteropServices;
using VirtPS.Sdk.Cpu;

namespace VirtPS.Sdk.Rings;

/// <summary>How exact ring information is.</summary>
public enum RingFidelity
{
    /// <summary>Every transition is seen.</summary>
    Exact,

    /// <summary>Known when guest code exits to the VMM.</summary>
    AtExit,

    /// <summary>Looked at now and then.</summary>
    Sampled,
}

/// <summary>How guest code is being executed.</summary>
public enum ExecutionKind
{
    Unknown,
    Interpreted,
    Translated,
    Direct,
    NonRoot,
}

/// <summary>What made the processor leave one piece of code for another.</summary>
public enum RingCause : byte
{
    Syscall,
    Sysret,
    Sysenter,
    Sysexit,
    Interrupt,
    Nmi,
    Exception,
    SoftwareInterrupt,
    CallGate,
    FarReturn,
    Iret,
    TaskSwitch,
    Hypercall,
    Reset,
}

/// <summary>One recorded transition; 48 bytes, fixed layout, as it travels to the shell.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 8)]
public struct RingEvent
{
    /// <summary>Guest TSC.</summary>
    public ulong Tsc;

    /// <summary>RIP of the instruction that caused it, or that was interrupted.</summary>
    public ulong FromRip;

    /// <summary>RIP of the first instruction afterwards; second argument of hypercalls, which enter no guest code.</summary>
    public ulong ToRip;

    /// <summary>Error code for exceptions, CR2 is not included; first argument of hypercalls; RAX for system calls.</summary>
    public ulong Detail;

    /// <summary>VM time in nanoseconds.</summary>
    public ulong Nanoseconds;

    /// <summary>Vector for interrupts and exceptions, number of hypercalls, else 0.</summary>
    public ushort Vector;
    public RingCause Cause;
    public byte FromRing;

    /// <summary>0xFF: the VMM itself, ring -1.</summary>
    public byte ToRing;
    public CpuMode FromMode;
    public CpuMode ToMode;
    public byte Vcpu;
}

/// <summary>Running totals of one vCPU. Native memory, written by its thread alone.</summary>
[StructLayout(LayoutKind.Sequential)]
public unsafe struct RingCounters
{
    /// <summary>Instructions retired by ring 0–3.</summary>
    public fixed ulong Instructions[4];

    /// <summary>Nanoseconds spent in ring 0–3, as far as the backend measures it; see <see cref="NanosecondsValid"/>.</summary>
    public fixed ulong Nanoseconds[4];

    /// <summary>Events by <see cref="RingCause"/>, ring changed.</summary>
    public fixed ulong Transitions[16];

    /// <summary>Events by <see cref="RingCause"/>, ring not changed (an interrupt taken in ring 0).</summary>
    public fixed ulong SameRing[16];

    /// <summary>Exits by <see cref="VcpuExit"/>.</summary>
    public fixed ulong Exits[16];

    public ulong PortReads, PortWrites, MmioReads, MmioWrites, MsrAccesses, PageFaults, TlbFlushes, CodeInvalidations;

    /// <summary>Nanoseconds the vCPU slept in HLT.</summary>
    public ulong HaltedNanoseconds;

    /// <summary>Nanoseconds inside <see cref="IVcpu.Run"/>, in guest code and its emulation.</summary>
    public ulong RunNanoseconds;

    /// <summary>Instructions of ring 0 that the VMM has carried out for a kernel in ring 3, and its direct writes to page tables.</summary>
    public ulong PrivilegedInstructions, PageTableWrites;

    public byte NanosecondsValid;

    /// <summary>Number of entries of <see cref="Hypercalls"/>; higher numbers are counted in the last.</summary>
    public const int HypercallCount = 64;

    /// <summary>Hypercalls by number; 0 for guests that make none.</summary>
    public fixed ulong Hypercalls[HypercallCount];
}

/// <summary>
/// A bounded queue of <see cref="RingEvent"/> from one vCPU thread to one reader. The writer never waits: when full it counts a drop.
/// </summary>
public sealed unsafe class RingEventBuffer : IDisposable
{
    private readonly RingEvent* _events;
    private readonly uint _mask;
    private ulong _head;
    private ulong _tail;
    private ulong _dropped;

    /// <param name="capacity">Events; a power of two.</param>
    /// <param name="includeSameRing">Also record events that do not change the ring.</param>
    public RingEventBuffer(int capacity, bool includeSameRing)
    {
        if (capacity <= 0 || (capacity & (capacity - 1)) != 0)
            throw new ArgumentOutOfRangeException(nameof(capacity), capacity, "Must be a power of two.");
        // SAFETY: freed in the finaliser or Dispose; capacity entries, indices masked.
        _events = (RingEvent*)NativeMemory.Alloc((nuint)capacity, (nuint)sizeof(RingEvent));
        _mask = (uint)capacity - 1;
        IncludeSameRing = includeSameRing;
    }

    public bool IncludeSameRing { get; }

    /// <summary>Events lost because the reader was too slow.</summary>
    public ulong Dropped => Volatile.Read(ref _dropped);

    /// <summary>Writer side.</summary>
    public void Write(in RingEvent e)
    {
        ulong head = _head;
        if (head - Volatile.Read(ref _tail) > _mask)
        {
            Volatile.Write(ref _dropped, _dropped + 1);
            return;
        }

        _events[head & _mask] = e;
        Volatile.Write(ref _head, head + 1);
    }

    /// <summary>Reader side: moves what is there, up to the length of <paramref name="destination"/>; returns how many.</summary>
    public int Read(Span<RingEvent> destination)
    {
        ulong tail = _tail;
        int n = (int)Math.Min(Volatile.Read(ref _head) - tail, (ulong)destination.Length);
        for (int i = 0; i < n; i++)
            destination[i] = _events[(tail + (ulong)i) & _mask];
        Volatile.Write(ref _tail, tail + (ulong)n);
        return n;
    }

    ~RingEventBuffer() => NativeMemory.Free(_events);

    /// <summary>Stops the finaliser's work being needed; call only after the vCPU no longer holds the buffer.</summary>
    public void Dispose()
    {
        NativeMemory.Free(_events);
        GC.SuppressFinalize(this);
    }
}
