using VirtPS.Sdk.Cpu;

namespace VirtPS.Sdk.Rings;

/// <summary>Where one vCPU stands in the rings (what Get-VirtRingState emits). Null = this strategy cannot know.</summary>
public sealed record RingState
{
    public required string VMName { get; init; }
    public required Guid VMId { get; init; }
    public required int Vcpu { get; init; }
    public required string Strategy { get; init; }

    /// <summary>The CPL that the guest believes.</summary>
    public required int? GuestRing { get; init; }

    /// <summary>Where the textbook model of the strategy puts that code.</summary>
    public required string? ClassicalRing { get; init; }
    public required ExecutionKind Execution { get; init; }

    /// <summary>The ring of the real processor; null in non-root mode.</summary>
    public required int? HostRing { get; init; }
    public required CpuMode? Mode { get; init; }
    public required int? Iopl { get; init; }
    public required ulong? Rip { get; init; }
    public string? Symbol { get; init; }
    public string? Instruction { get; init; }
    public required ulong? Cr3 { get; init; }
    public string? LastExit { get; init; }
    public required RingFidelity Fidelity { get; init; }
    public required MpState? MpState { get; init; }
    public required DateTimeOffset CapturedAt { get; init; }
}

/// <summary>One transition as Trace-VirtRing emits it.</summary>
public sealed record RingTransition
{
    public required string VMName { get; init; }
    public required Guid VMId { get; init; }
    public required int Vcpu { get; init; }
    public required int From { get; init; }

    /// <summary>-1 for a hypercall: the VMM.</summary>
    public required int To { get; init; }
    public required RingCause Cause { get; init; }

    /// <summary>Vector for interrupts and exceptions, number of hypercalls, else null.</summary>
    public required int? Vector { get; init; }

    /// <summary><c>#PF</c>, <c>int 0x80</c>, a hypercall's name …; null where there is none.</summary>
    public required string? Name { get; init; }
    public required ulong Detail { get; init; }

    /// <summary>A hypercall's first two arguments; null for all else.</summary>
    public IReadOnlyList<ulong>? Arguments { get; init; }

    public required ulong FromRip { get; init; }
    public required ulong ToRip { get; init; }
    public required CpuMode FromMode { get; init; }
    public required CpuMode ToMode { get; init; }
    public required ulong GuestTsc { get; init; }
    public required ulong VMNanoseconds { get; init; }
    public required RingFidelity Fidelity { get; init; }
}

/// <summary>Totals since power-on for one vCPU (what Measure-VirtRing emits).</summary>
public sealed record RingMeasurement
{
    public required string VMName { get; init; }
    public required Guid VMId { get; init; }
    public required int Vcpu { get; init; }
    public required RingFidelity Fidelity { get; init; }

    /// <summary>By ring 0–3; null where not known.</summary>
    public required IReadOnlyList<ulong>? Instructions { get; init; }
    public required IReadOnlyList<TimeSpan>? Time { get; init; }

    /// <summary>Instructions per second of <see cref="RunTime"/> so far; null where instructions are not counted or nothing has run.</summary>
    public double? InstructionsPerSecond { get; init; }

    /// <summary>The same by ring, of the ring's own <see cref="Time"/>; an entry is null where the ring has no time yet.</summary>
    public IReadOnlyList<double?>? RingInstructionsPerSecond { get; init; }

    /// <summary>What the software engine has done; null under a strategy that runs on the processor itself.</summary>
    public EngineMeasurement? Engine { get; init; }

    /// <summary>Elapsed time inside the backend: guest code and what it takes to run it.</summary>
    public required TimeSpan RunTime { get; init; }
    public required TimeSpan HaltedTime { get; init; }

    /// <summary>Processor time of the vCPU's thread in guest code, as the host's kernel accounts it (sampled at its clock tick, in steps of 10 ms); null where it can't be told apart.</summary>
    public TimeSpan? GuestTime { get; init; }

    /// <summary>The same in the host's kernel: KVM and system calls.</summary>
    public TimeSpan? KernelTime { get; init; }

    /// <summary>The same in the worker itself: device models and the run loop.</summary>
    public TimeSpan? VmmTime { get; init; }
    public required IReadOnlyDictionary<string, ulong> Transitions { get; init; }
    public required IReadOnlyDictionary<string, ulong> SameRingEvents { get; init; }

    /// <summary>Returns from guest code to the worker by reason: the backend's names where it has its own (KVM: <c>IO</c>, <c>MMIO</c>, <c>HLT</c> …), else those of <see cref="VcpuExit"/>.</summary>
    public required IReadOnlyDictionary<string, ulong> Exits { get; init; }

    /// <summary>What else was counted; names with <c>kvm.</c> are KVM's own statistics, of which <c>kvm.exits</c> includes the exits that the kernel dealt with alone.</summary>
    public required IReadOnlyDictionary<string, ulong> Counters { get; init; }

    /// <summary>Hypercalls by name; empty for guests that make none.</summary>
    public IReadOnlyDictionary<string, ulong> Hypercalls { get; init; } = new Dictionary<string, ulong>();
    public required DateTimeOffset CapturedAt { get; init; }
}

/// <summary>What a software engine has done for one vCPU since power-on. Null: does not apply (no translator), or would cost speed to count.</summary>
public sealed record EngineMeasurement
{
    /// <summary>Blocks translated, those translated again included, and the bytes of guest code in them.</summary>
    public required ulong? TranslatedBlocks { get; init; }
    public required ulong? TranslatedBytes { get; init; }

    /// <summary>Blocks that were taken from disk, where former runs left them, instead of being decoded; and those of them that came with their translation.</summary>
    public ulong? StoredBlocks { get; init; }
    public ulong? StoredTranslations { get; init; }

    /// <summary>Bytes of generated code that there is room for, and that are used now.</summary>
    public required long? CodeCacheSize { get; init; }
    public required long? CodeCacheUsed { get; init; }

    /// <summary>How often all code was dropped to make room.</summary>
    public required ulong? CodeCacheEvictions { get; init; }

    /// <summary>Entries into generated code from outside; blocks go on to each other without.</summary>
    public required ulong? CodeEntries { get; init; }

    /// <summary>Instructions for which no host code is made, executed by the interpreter from within generated code, by mnemonic.</summary>
    public required IReadOnlyDictionary<string, ulong>? InterpretedInstructions { get; init; }

    /// <summary>
    /// Times that execution took the long way, by cause. In generated code: <c>LeftToInterpreter</c> (sum of <see cref="InterpretedInstructions"/>), <c>AccessMiss</c> (an access that the TLB does not answer: not there, a
    /// device, over a page end, code beside it), <c>OtherMiss</c> (a rare case of another instruction), <c>LinkExit</c> (a branch not linked), <c>IndirectMiss</c> (a target not in the jump cache), <c>UnpinnedExit</c> (a check for
    /// several accesses missed for the first time in its block), <c>Fault</c>. Wherever executed: <c>PageWalk</c>,
    /// <c>CodeInvalidation</c>, <c>Mmio</c>, <c>Port</c>, <c>Exception</c>, <c>Interrupt</c>.
    /// </summary>
    public required IReadOnlyDictionary<string, ulong> SlowPaths { get; init; }

    /// <summary>Indirect branches that the jump cache answered. Generated code does not count them: null.</summary>
    public required ulong? JumpCacheHits { get; init; }
}

/// <summary>What happened in a bounded number of instructions.</summary>
/// <param name="Transitions">Every transition, in order.</param>
/// <param name="InstructionCount">Instructions executed; fewer than asked for when it ended early.</param>
public sealed record RingSpan(IReadOnlyList<RingTransition> Transitions, long InstructionCount);
