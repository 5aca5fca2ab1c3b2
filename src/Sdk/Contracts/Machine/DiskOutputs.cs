namespace VirtPS.Sdk.Machine;

/// <summary>A disk image on the host (Get-VirtDisk). Sizes in bytes.</summary>
public sealed record VirtDisk
{
    /// <summary>Absolute.</summary>
    public required string Path { get; init; }

    /// <summary><c>Raw</c>.</summary>
    public required string Format { get; init; }

    /// <summary>What a guest sees.</summary>
    public required ulong Size { get; init; }

    /// <summary>What it takes on the host: less than <see cref="Size"/> where nothing was written, or it was discarded. Null where the host does not say.</summary>
    public required ulong? AllocatedSize { get; init; }

    /// <summary>A running VM has it open.</summary>
    public required bool InUse { get; init; }

    /// <summary>VMs whose configuration has it.</summary>
    public required IReadOnlyList<string> VMName { get; init; }
}

/// <summary>A disk of a VM (Get-VirtVMDisk).</summary>
public sealed record VirtVMDisk
{
    public required Guid VMId { get; init; }

    public required string VMName { get; init; }

    /// <summary>The device's name in its VM.</summary>
    public required string Name { get; init; }

    /// <summary>The image's file, absolute.</summary>
    public required string Path { get; init; }

    public required bool ReadOnly { get; init; }

    /// <summary><c>plugin/model</c>: what the guest sees it through.</summary>
    public required string Model { get; init; }

    /// <summary>Bytes; null when the file is not there.</summary>
    public required ulong? Size { get; init; }

    /// <summary>What it has done, and what failed, since the VM was started; null while it does not run.</summary>
    public Backends.BlockCounters? Counters { get; init; }

    /// <summary>The device's other properties as configured.</summary>
    public required IReadOnlyDictionary<string, object?> Property { get; init; }
}
