using System.Text.Json.Nodes;

namespace VirtPS.Sdk.Machine;

/// <summary>What a VM shall be: the body of vm.json that users set. Sizes in bytes. Immutable; every change makes a new one.</summary>
public sealed record VmConfiguration
{
    public required string Name { get; init; }

    /// <summary>Never changes after creation.</summary>
    public required Guid Id { get; init; }

    public required DateTimeOffset CreationTime { get; init; }

    public string Notes { get; init; } = "";

    /// <summary>Strategy name: <c>Full</c>, <c>Para</c>, <c>Hardware</c>, or a third party's.</summary>
    public required string Strategy { get; init; }

    /// <summary>Options of the strategy (<c>tier</c>, <c>irqchip</c> …); unknown ones are refused at start.</summary>
    public IReadOnlyDictionary<string, string> StrategyOptions { get; init; } = new Dictionary<string, string>();

    /// <summary>RAM in bytes; a multiple of 1 MiB, at least 1 MiB.</summary>
    public required ulong Memory { get; init; }

    /// <summary>1–64.</summary>
    public required int ProcessorCount { get; init; }

    public required BootConfiguration Boot { get; init; }

    /// <summary>Device specs in the order of creation: each has <c>model</c> (<c>plugin/model</c>) and <c>name</c>; the platform's own devices are not listed.</summary>
    public IReadOnlyList<JsonObject> Devices { get; init; } = [];

    public GuestResetAction OnReset { get; init; } = GuestResetAction.Restart;

    public GuestResetAction OnTripleFault { get; init; } = GuestResetAction.Stop;
}

/// <summary>What to do when the guest resets itself or triple-faults.</summary>
public enum GuestResetAction
{
    Restart,
    Stop,
}

public enum BootKind
{
    /// <summary>Look at the file: bzImage, ELF with PVH note, Multiboot, else an error.</summary>
    Auto,
    /// <summary>The embedded default guest.</summary>
    Ringlab,
    Linux,
    Pvh,
    Multiboot,
    /// <summary>512 bytes (or more) at 0x7C00 in real mode.</summary>
    BootSector,
    /// <summary>A flat binary at <see cref="BootConfiguration.LoadAddress"/> in <see cref="BootConfiguration.EntryMode"/>.</summary>
    Flat,
}

public enum FlatEntryMode
{
    Real16,
    Protected32,
    Long64,
}

/// <summary>How the guest is started. Paths are absolute.</summary>
public sealed record BootConfiguration
{
    public BootKind Kind { get; init; } = BootKind.Auto;

    public string? Kernel { get; init; }

    public string? Initrd { get; init; }

    public string CommandLine { get; init; } = "";

    /// <summary>Multiboot modules: path, then optionally a space and the module's string.</summary>
    public IReadOnlyList<string> Modules { get; init; } = [];

    /// <summary>Where a flat binary goes and starts.</summary>
    public ulong LoadAddress { get; init; } = 0x7C00;

    public FlatEntryMode EntryMode { get; init; } = FlatEntryMode.Real16;
}
