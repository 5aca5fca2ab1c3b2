using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Machine;

namespace VirtPS.Sdk.Rings;

/// <summary>A place in guest code where samples found the processors (what Get-VirtHotSpot emits). Null: not known.</summary>
public sealed record HotSpot
{
    public required string VMName { get; init; }
    public required Guid VMId { get; init; }

    /// <summary>Linear address: where the next instruction was.</summary>
    public required ulong Address { get; init; }

    /// <summary>Name and distance in bytes, from the symbol file that was given; else null.</summary>
    public string? Symbol { get; init; }

    /// <summary>The ring that the guest believes.</summary>
    public required int? Ring { get; init; }

    /// <summary>The address space, for code of ring 3; null for kernels, which are mapped in all.</summary>
    public required ulong? Cr3 { get; init; }
    public required CpuMode? Mode { get; init; }

    /// <summary>What executes code there once it is hot.</summary>
    public required ExecutionKind Execution { get; init; }
    public required int Samples { get; init; }

    /// <summary>Of all samples of processors that were not halted, 0 to 1.</summary>
    public required double Share { get; init; }

    /// <summary>Samples of halted processors in the same time, which are in no share.</summary>
    public required int HaltedSamples { get; init; }

    /// <summary>The code from there to the end of its block, at most 16 instructions; empty where it could not be read any more.</summary>
    public required IReadOnlyList<VirtDisassemblyLine> Instructions { get; init; }
    public required DateTimeOffset CapturedAt { get; init; }
}
