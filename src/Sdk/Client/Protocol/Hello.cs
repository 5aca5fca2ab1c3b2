using VirtPS.Sdk;
using VirtPS.Sdk.Machine;

namespace VirtPS.Client.Protocol;

/// <summary>
/// Versions of what a shell and a worker say to each other. A VM outlives an update of the module, so each side tells which versions it speaks, from
/// <see cref="Oldest"/> to <see cref="Current"/>; the newest common one holds. Additions that an older side may ignore are features, not versions.
/// </summary>
internal static class ProtocolVersion
{
    public const int Current = 1;
    public const int Oldest = 1;

    /// <summary>The newest version both speak. Errors: ProtocolMismatch.</summary>
    public static int Negotiate(int theirOldest, int theirCurrent, string them)
    {
        int common = Math.Min(Current, theirCurrent);
        if (common >= Math.Max(Oldest, theirOldest))
            return common;
        throw new VirtException(ErrorIds.ProtocolMismatch, $"{them} speaks protocol versions {theirOldest} to {theirCurrent}, this side {Oldest} to {Current}.", "Use the version of VirtPS that started the VM, or turn the VM off and start it anew.");
    }
}

/// <summary>What a connection is for.</summary>
internal enum Channel
{
    /// <summary>The reply is all that is wanted.</summary>
    Status,

    /// <summary>JSON-RPC follows.</summary>
    Rpc,

    /// <summary>Records with console output follow; records with input may be sent.</summary>
    Console,

    /// <summary>Records with ring events follow.</summary>
    Rings,
}

/// <summary>The client's first line.</summary>
internal sealed record HelloRequest
{
    public int Protocol { get; init; } = ProtocolVersion.Current;

    public int OldestProtocol { get; init; } = ProtocolVersion.Oldest;

    public required Channel Channel { get; init; }

    /// <summary>The VM it believes to be talking to; a worker of another VM refuses.</summary>
    public required Guid VMId { get; init; }

    /// <summary>Console: begin with what this run has put out so far.</summary>
    public bool FromStart { get; init; }

    /// <summary>Console: go on with what comes.</summary>
    public bool Follow { get; init; }

    /// <summary>Rings.</summary>
    public bool IncludeSameRing { get; init; }

    /// <summary>Rings: vCPUs by index; null = all.</summary>
    public IReadOnlyList<int>? Vcpus { get; init; }
}

/// <summary>The worker's answer, one line.</summary>
internal sealed record HelloReply
{
    public int Protocol { get; init; } = ProtocolVersion.Current;

    public int OldestProtocol { get; init; } = ProtocolVersion.Oldest;

    /// <summary>Version of the worker's build.</summary>
    public string Version { get; init; } = "";

    /// <summary>Names of what it can do beyond the protocol version; unknown ones are ignored.</summary>
    public IReadOnlyList<string> Features { get; init; } = [];

    public Guid VMId { get; init; }

    public WorkerStatus? Status { get; init; }

    /// <summary>Rings: how exact what follows is.</summary>
    public Sdk.Rings.RingFidelity RingFidelity { get; init; }

    /// <summary>Rings: names of the guest's hypercalls by number; empty entries mean none.</summary>
    public IReadOnlyList<string> HypercallNames { get; init; } = [];

    /// <summary>Set when the request is refused; the connection ends.</summary>
    public WireError? Error { get; init; }
}

/// <summary>A machine as its worker sees it.</summary>
internal sealed record WorkerStatus
{
    public required Guid RunId { get; init; }

    public required VmState State { get; init; }

    public required string Reason { get; init; }

    public required int ProcessId { get; init; }

    public required string? Tier { get; init; }

    public required ulong MemoryAssigned { get; init; }

    public required int CpuUsage { get; init; }

    public required long UptimeMilliseconds { get; init; }

    public required string? Ring { get; init; }

    public required int? ExitCode { get; init; }
}

/// <summary>A <see cref="VirtException"/> on its way between processes.</summary>
internal sealed record WireError(string ErrorId, string Message, string? RecommendedAction, string? Target)
{
    public static WireError From(VirtException e) => new(e.ErrorId, e.Message, e.RecommendedAction, e.Target?.ToString());

    public VirtException ToException(Exception? inner = null) => new(ErrorId, Message, RecommendedAction, Target, inner);
}

/// <summary>What a starting worker writes to its standard output, one line, before it lets go of it.</summary>
internal sealed record ReadyReport
{
    public WorkerStatus? Status { get; init; }

    public WireError? Error { get; init; }
}
