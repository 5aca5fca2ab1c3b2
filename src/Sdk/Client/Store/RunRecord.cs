using VirtPS.Sdk.Machine;

namespace VirtPS.Client.Store;

/// <summary>One run of a VM, written into vm.json by its worker: begun when it took the lock, completed when it ended by itself.</summary>
internal sealed record RunRecord
{
    public required Guid RunId { get; init; }

    /// <summary><see cref="Platform.HostIdentity.GetBootId"/> of the boot it ran under.</summary>
    public required string BootId { get; init; }

    public required DateTimeOffset StartedAt { get; init; }

    public required int WorkerProcessId { get; init; }

    /// <summary>A process id means something only together with this.</summary>
    public required long WorkerStartTime { get; init; }

    public required string Socket { get; init; }

    /// <summary>Null: the worker never said that the run ended.</summary>
    public DateTimeOffset? EndedAt { get; init; }

    public VmState EndState { get; init; } = VmState.Off;

    public string Reason { get; init; } = "";

    public int? ExitCode { get; init; }

    /// <summary>Some vCPU executed in guest ring 3.</summary>
    public bool ReachedRing3 { get; init; }

    /// <summary>Console bytes that are no longer kept, oldest first.</summary>
    public long ConsoleDropped { get; init; }
}
