using VirtPS.Sdk.Rings;

namespace VirtPS.Sdk.Machine;

/// <summary>One strategy's run of a guest that others ran too (Compare-VirtStrategy). Null = it did not run, or the strategy cannot know.</summary>
public sealed record VirtStrategyComparison
{
    public required string Strategy { get; init; }

    /// <summary>What executed the guest: <c>Interpreter</c>, <c>KVM</c> …</summary>
    public required string? EngineTier { get; init; }

    /// <summary>From Start to the moment that was waited for, the worker's start included.</summary>
    public required TimeSpan? BootTime { get; init; }

    /// <summary>This boot time divided by the shortest of the comparison; 1 is the fastest.</summary>
    public required double? Ratio { get; init; }

    /// <summary>Time inside the virtual processors' run loops, all processors together.</summary>
    public required TimeSpan? ProcessorTime { get; init; }

    /// <summary>Instructions by ring 0–3, all processors together.</summary>
    public required IReadOnlyList<ulong>? Instructions { get; init; }

    /// <summary>Ring transitions by cause, all processors together.</summary>
    public required IReadOnlyDictionary<string, ulong>? Transitions { get; init; }

    /// <summary>Returns to the VMM by reason, all processors together.</summary>
    public required IReadOnlyDictionary<string, ulong>? Exits { get; init; }

    /// <summary>Hypercalls by name, all processors together; empty for a guest that makes none.</summary>
    public IReadOnlyDictionary<string, ulong>? Hypercalls { get; init; }

    public required RingFidelity? Fidelity { get; init; }

    /// <summary>Why it did not run or did not get there; empty when it did.</summary>
    public required string StatusReason { get; init; }
}
