using VirtPS.Sdk.Cpu;

namespace VirtPS.Sdk.Machine;

/// <summary>Groups of registers.</summary>
public enum RegisterGroup
{
    General,
    Flags,
    Segment,
    DescriptorTable,
    Control,
    Debug,
    Msr,
    Fpu,
    Simd,
}

/// <summary>One register of one vCPU.</summary>
public sealed record VirtRegister
{
    public required Guid VMId { get; init; }

    public required string VMName { get; init; }

    public required int Vcpu { get; init; }

    /// <summary>The SDM's name: <c>RAX</c>, <c>CR3</c>, <c>CS</c>, <c>IA32_EFER</c>, <c>YMM3</c>.</summary>
    public required string Name { get; init; }

    public required RegisterGroup Group { get; init; }

    /// <summary>Width in bits.</summary>
    public required int Size { get; init; }

    /// <summary>The low 64 bits.</summary>
    public required ulong Value { get; init; }

    /// <summary>All bits, hexadecimal, most significant digit first, no prefix.</summary>
    public required string Hex { get; init; }

    /// <summary>Bits by name, a segment's base, limit and rights …; null where the number says it all.</summary>
    public string? Description { get; init; }
}

/// <summary>All registers of one vCPU, taken between two instructions (what Get-VirtRegister reads).</summary>
public sealed record VirtRegisterSet
{
    public required Guid VMId { get; init; }

    public required string VMName { get; init; }

    public required int Vcpu { get; init; }

    public required CpuMode Mode { get; init; }

    public required int GuestRing { get; init; }

    public required IReadOnlyList<VirtRegister> Registers { get; init; }

    public required DateTimeOffset CapturedAt { get; init; }

    /// <summary>The register with this name in any case; null when there is none.</summary>
    public VirtRegister? this[string name] => Registers.FirstOrDefault(r => string.Equals(r.Name, name, StringComparison.OrdinalIgnoreCase));
}

/// <summary>Which address space a guest address is in.</summary>
public enum GuestAddressSpace
{
    Physical,

    /// <summary>Through the page tables of a vCPU.</summary>
    Linear,
}

/// <summary>A piece of guest memory (Get-VirtGuestMemory).</summary>
public sealed record VirtGuestMemory
{
    public required Guid VMId { get; init; }

    public required string VMName { get; init; }

    public required GuestAddressSpace AddressSpace { get; init; }

    public required ulong Address { get; init; }

    public required IReadOnlyList<byte> Bytes { get; init; }

    public required DateTimeOffset CapturedAt { get; init; }
}

/// <summary>One instruction (Get-VirtDisassembly).</summary>
public sealed record VirtDisassemblyLine
{
    public required Guid VMId { get; init; }

    public required string VMName { get; init; }

    public required int Vcpu { get; init; }

    /// <summary>Linear address.</summary>
    public required ulong Address { get; init; }

    /// <summary>The instruction's bytes, hexadecimal.</summary>
    public required string Bytes { get; init; }

    /// <summary>Intel syntax.</summary>
    public required string Instruction { get; init; }

    /// <summary>True for the instruction the vCPU executes next.</summary>
    public required bool IsCurrent { get; init; }

    public string? Symbol { get; init; }
}
