using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Rings;
using VirtPS.X86;

namespace VirtPS.Engine;

/// <summary>Where one vCPU stood when it was asked, with the code there.</summary>
/// <param name="State">Without symbol and instruction text, which whoever knows them fills in.</param>
/// <param name="LinearRip">CS base + RIP.</param>
/// <param name="CodeBitness">16, 32 or 64: how the code is to be decoded.</param>
/// <param name="Code">Up to 15 bytes at RIP; fewer (or none) where they are not mapped.</param>
public sealed record VcpuSample(RingState State, ulong LinearRip, int CodeBitness, byte[] Code);

/// <summary>A copy of one vCPU's registers, taken between two instructions.</summary>
public sealed record MachineRegisters
{
    public required int Vcpu { get; init; }

    /// <summary>Indexed by <see cref="X86.Gpr"/>.</summary>
    public required IReadOnlyList<ulong> Gpr { get; init; }
    public required ulong Rip { get; init; }
    public required ulong Rflags { get; init; }
    public required int Cpl { get; init; }
    public required CpuMode Mode { get; init; }
    public required MpState MpState { get; init; }

    /// <summary>Indexed by <see cref="SegmentName"/>.</summary>
    public required IReadOnlyList<SegmentRegister> Segments { get; init; }
    public required DescriptorTable Gdtr { get; init; }
    public required DescriptorTable Idtr { get; init; }

    /// <summary>CR0, CR2, CR3, CR4, CR8, EFER, XCR0, DR0–3, DR6, DR7 and the MSRs with a field of their own, by their usual names.</summary>
    public required IReadOnlyDictionary<string, ulong> Control { get; init; }

    /// <summary>x87, SSE and AVX state in standard XSAVE format.</summary>
    public required byte[] Xsave { get; init; }

    /// <summary>Guest TSC.</summary>
    public required ulong Tsc { get; init; }
    public required ulong InstructionsRetired { get; init; }
    public required DateTimeOffset CapturedAt { get; init; }
}

/// <summary>What to trace.</summary>
/// <param name="Capacity">Events that each vCPU can hold until they are read; a power of two.</param>
/// <param name="IncludeSameRing">Also events that do not change the ring.</param>
/// <param name="Vcpus">vCPUs by index; null = all.</param>
public sealed record RingTraceOptions(int Capacity = 1 << 16, bool IncludeSameRing = false, IReadOnlyList<int>? Vcpus = null);

/// <summary>What single-stepping saw.</summary>
/// <param name="Events">Every transition, in order.</param>
/// <param name="Instructions">Instructions executed.</param>
public sealed record RingSteps(Sdk.Rings.RingEvent[] Events, long Instructions);
