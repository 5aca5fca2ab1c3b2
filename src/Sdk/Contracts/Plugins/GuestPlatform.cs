using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Devices;
using VirtPS.Sdk.Machine;
using VirtPS.Sdk.Memory;

namespace VirtPS.Sdk.Plugins;

/// <summary>
/// What stands in a machine for the platform's hardware and firmware where the guest talks to the VMM itself (Xen PV). Made before the machine's devices, which find what it provides through
/// their context; it lives, is reset, saved and restored like them, as device <c>platform</c>.
/// </summary>
public unsafe interface IGuestPlatform : IDevice
{
    /// <summary>Loads the guest and puts the bootstrap vCPU at its entry. All vCPUs are stopped and reset. Throws <see cref="VirtException"/> <c>ImageInvalid</c>.</summary>
    void Load(GuestLoad load);

    /// <summary>A vCPU's thread, not in guest code, after <see cref="VcpuRequests.LocalApic"/> was raised for it.</summary>
    void Process(int vcpu);
}

/// <summary>What a platform is made with.</summary>
public sealed class GuestPlatformContext
{
    /// <summary>Services of the machine, as devices get them.</summary>
    public required DeviceContext Device { get; init; }

    public required IReadOnlyList<IVcpuControl> Vcpus { get; init; }

    public required PartitionOptions Partition { get; init; }

    public required VmConfiguration Configuration { get; init; }
}

/// <summary>A vCPU from outside its thread.</summary>
public interface IVcpuControl
{
    IVcpu Vcpu { get; }

    /// <summary>Any thread: sets request bits and makes the vCPU look at them, asleep or not.</summary>
    void Request(VcpuRequests bits);
}

/// <summary>One start of a guest. Valid during <see cref="IGuestPlatform.Load"/> only.</summary>
public sealed unsafe class GuestLoad
{
    public required IKernelImage Kernel { get; init; }

    /// <summary>Null where none is given.</summary>
    public required IBootFile? Initrd { get; init; }

    public required string CommandLine { get; init; }

    /// <summary>vCPU 0 in RESET state; committed to the backend afterwards.</summary>
    public required VcpuState* Bootstrap { get; init; }
}

/// <summary>A file that goes into guest memory.</summary>
public interface IBootFile
{
    /// <summary>What error messages call it.</summary>
    string Name { get; }

    /// <summary>Bytes.</summary>
    ulong Length { get; }

    /// <summary>Copies a part into guest memory. Throws <see cref="VirtException"/> <c>ImageInvalid</c>.</summary>
    void CopyTo(GuestMemory memory, ulong offset, ulong gpa, ulong length);
}

/// <summary>A kernel's ELF image; of a bzImage the one inside it.</summary>
public interface IKernelImage : IBootFile
{
    /// <summary>e_entry, as linked.</summary>
    ulong Entry { get; }

    IReadOnlyList<KernelSegment> Segments { get; }

    /// <summary>A note's descriptor; null when there is none.</summary>
    byte[]? FindNote(string owner, uint type);
}

/// <summary>A loadable segment: ranges in bytes; memory beyond the file's part is zero.</summary>
public readonly record struct KernelSegment(ulong Offset, ulong FileSize, ulong Virtual, ulong Physical, ulong MemorySize);
