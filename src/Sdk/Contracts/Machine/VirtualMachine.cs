namespace VirtPS.Sdk.Machine;

/// <summary>
/// A VM as it was at <see cref="CapturedAt"/>: what Get-VirtVM emits. Immutable; look again for news. Property names equal the names of the parameters that
/// take them.
/// </summary>
public sealed record VirtualMachine
{
    public required Guid Id { get; init; }

    /// <summary>The host whose store holds the VM; stable over restarts of the host.</summary>
    public required string HostId { get; init; }

    public required string Name { get; init; }

    public required VmState State { get; init; }

    /// <summary>Strategy name: <c>Full</c>, <c>Para</c>, <c>Hardware</c>, or a third party's.</summary>
    public required string Strategy { get; init; }

    /// <summary>What executes guest code now (<c>Interpreter</c>, <c>Translator</c>, <c>KVM</c>); null when nothing runs.</summary>
    public required string? EngineTier { get; init; }

    public required int ProcessorCount { get; init; }

    /// <summary>Configured RAM in bytes.</summary>
    public required ulong Memory { get; init; }

    /// <summary>RAM the guest has now, in bytes; 0 when it does not run.</summary>
    public required ulong MemoryAssigned { get; init; }

    /// <summary>Percent of the VM's own virtual processors used during about the last second, 0–100.</summary>
    public required int CPUUsage { get; init; }

    /// <summary>Host time since power-on of this run; zero when it does not run.</summary>
    public required TimeSpan Uptime { get; init; }

    /// <summary>Null when no worker runs.</summary>
    public required int? WorkerProcessId { get; init; }

    /// <summary>Why the VM is in this state, as a sentence; empty where there is nothing to say.</summary>
    public required string StatusReason { get; init; }

    public required DateTimeOffset CreationTime { get; init; }

    /// <summary>The VM's folder in the store.</summary>
    public required string Path { get; init; }

    /// <summary>The guest ring of each vCPU now, in order of index, separated by commas (<c>0</c>, <c>3,0</c>); null when it is not known or nothing runs.</summary>
    public required string? Ring { get; init; }

    public required string Notes { get; init; }

    public required BootKind BootKind { get; init; }

    /// <summary>Path of the kernel or image; null for the embedded guest.</summary>
    public required string? Kernel { get; init; }

    public required string? Initrd { get; init; }

    public required string CommandLine { get; init; }

    public required GuestResetAction OnReset { get; init; }

    public required GuestResetAction OnTripleFault { get; init; }

    /// <summary>Options given to the strategy.</summary>
    public required IReadOnlyDictionary<string, string> StrategyOptions { get; init; }

    /// <summary>What the guest handed to the debug-exit port when the last run ended; null where it handed over nothing.</summary>
    public required int? ExitCode { get; init; }

    /// <summary>Id of the present or last run; null when it never ran.</summary>
    public required Guid? RunId { get; init; }

    public required DateTimeOffset CapturedAt { get; init; }
}

/// <summary>A device of a VM (what Get-VirtVMDevice emits).</summary>
public sealed record VirtVMDevice
{
    public required Guid VMId { get; init; }

    public required string VMName { get; init; }

    /// <summary>Unique in its VM: <c>com2</c>.</summary>
    public required string Name { get; init; }

    /// <summary><c>plugin/model</c>.</summary>
    public required string Model { get; init; }

    /// <summary>The platform's own device (not in the VM's configuration, cannot be removed).</summary>
    public required bool IsPlatform { get; init; }

    /// <summary>The device's properties as configured; values are strings, longs, doubles, booleans, or JSON text for anything deeper.</summary>
    public required IReadOnlyDictionary<string, object?> Property { get; init; }
}

/// <summary>How a wait ended well (Wait-VirtVM).</summary>
public sealed record VirtWaitResult
{
    public required VirtualMachine VM { get; init; }

    /// <summary>The console text that matched, when a console pattern was waited for.</summary>
    public string? MatchedText { get; init; }

    public required TimeSpan Elapsed { get; init; }
}
