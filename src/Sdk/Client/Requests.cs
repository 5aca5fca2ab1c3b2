using System.Text.Json.Nodes;
using VirtPS.Sdk;
using VirtPS.Sdk.Machine;
using VirtPS.Sdk.Rings;

namespace VirtPS.Client;

/// <summary>How to reach a store and start workers; everything has a default.</summary>
public sealed record VirtHostOptions
{
    /// <summary>The store's root; default <c>$VIRTPS_HOME</c>, else the user's state folder.</summary>
    public string? StorePath { get; init; }

    /// <summary>Program and leading arguments that start a worker; default: the packaged worker beside the client, else <c>dotnet virtps-worker.dll</c>.</summary>
    public IReadOnlyList<string>? WorkerCommand { get; init; }

    /// <summary>The module's folder (with <c>plugins/</c> and <c>worker/</c>); default: looked for from the client's own folder upwards.</summary>
    public string? ModulePath { get; init; }
}

/// <summary>What a new VM shall be. Whatever is not given takes the default said here.</summary>
public sealed record VmSpecification
{
    public required string Name { get; init; }

    public string Notes { get; init; } = "";

    public string Strategy { get; init; } = "Full";

    public IReadOnlyDictionary<string, string> StrategyOptions { get; init; } = new Dictionary<string, string>();

    /// <summary>RAM in bytes: a multiple of 1 MiB, at most what the host has.</summary>
    public ulong Memory { get; init; } = 512UL << 20;

    public int ProcessorCount { get; init; } = 1;

    /// <summary>Default: the embedded guest. Paths are made absolute by the caller (only it knows the user's folder).</summary>
    public BootConfiguration Boot { get; init; } = new() { Kind = BootKind.Ringlab };

    public IReadOnlyList<JsonObject> Devices { get; init; } = [];

    public GuestResetAction OnReset { get; init; } = GuestResetAction.Restart;

    public GuestResetAction OnTripleFault { get; init; } = GuestResetAction.Stop;
}

/// <summary>Which VMs are meant. Names take PowerShell's wildcards and no case; nothing given means all.</summary>
public sealed record VmQuery
{
    public IReadOnlyList<string> Names { get; init; } = [];

    public IReadOnlyList<Guid> Ids { get; init; } = [];
}

/// <summary>What was found, sorted by name, and one error for each thing that was asked for and is missing or unreadable.</summary>
public sealed record VmQueryResult(IReadOnlyList<VirtualMachine> Machines, IReadOnlyList<VirtException> Errors);

/// <summary>Changes to a VM; null leaves a thing as it is. Notes can change in any state, the rest only while the VM is Off (or Crashed).</summary>
public sealed record VmChanges
{
    public string? Notes { get; init; }

    public string? Strategy { get; init; }

    public IReadOnlyDictionary<string, string>? StrategyOptions { get; init; }

    public ulong? Memory { get; init; }

    public int? ProcessorCount { get; init; }

    public BootConfiguration? Boot { get; init; }

    public GuestResetAction? OnReset { get; init; }

    public GuestResetAction? OnTripleFault { get; init; }
}

/// <summary>How a VM is stopped.</summary>
public enum StopKind
{
    /// <summary>The ACPI power button, and wait: the guest decides.</summary>
    PowerButton,

    /// <summary>At once, as by pulling the plug.</summary>
    TurnOff,
}

/// <summary>How a VM is restarted.</summary>
public enum RestartKind
{
    /// <summary>The power button, wait for power-off, start again.</summary>
    PowerButton,

    /// <summary>The reset button: the machine stays, the guest starts anew.</summary>
    Reset,
}

/// <summary>A condition for <see cref="VirtHost.WaitAsync"/>. It looks from this run's power-on, past output included.</summary>
public sealed record WaitCondition(WaitTarget Target)
{
    /// <summary>A .NET regular expression over the console text, for <see cref="WaitTarget.Console"/>; lines end with \n.</summary>
    public string? Pattern { get; init; }
}

/// <summary>What to trace.</summary>
public sealed record TraceOptions
{
    /// <summary>Also events that do not change the ring.</summary>
    public bool IncludeSameRing { get; init; }

    /// <summary>Ends after this many; null = none.</summary>
    public long? MaxEvents { get; init; }

    /// <summary>vCPUs by index; null = all.</summary>
    public IReadOnlyList<int>? Vcpus { get; init; }
}

/// <summary>Some transitions, in each vCPU's order.</summary>
/// <param name="Transitions">May be empty when only the drop count changed.</param>
/// <param name="Dropped">Events lost since the trace began.</param>
public sealed record RingTransitionBatch(IReadOnlyList<RingTransition> Transitions, ulong Dropped);

/// <summary>Which part of the console's output is wanted.</summary>
public sealed record ConsoleReadOptions
{
    /// <summary>Go on with what comes until the VM stops.</summary>
    public bool Follow { get; init; }

    /// <summary>Leave out what came before now.</summary>
    public bool SkipPast { get; init; }

    /// <summary>Told how many bytes of this run's output are no longer kept, or were lost because the reader was too slow; called whenever the number has grown.</summary>
    public Action<long>? Dropped { get; init; }
}
