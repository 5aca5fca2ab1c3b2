using System.Text.Json.Nodes;
using VirtPS.Engine;
using VirtPS.Sdk;
using VirtPS.Sdk.Backends;
using VirtPS.Sdk.Machine;
using VirtPS.Sdk.Rings;

namespace VirtPS.Worker.Machines;

/// <summary>
/// The machine as the worker drives it: the engine's, or a stand-in where the worker itself is tested. Thread-safe. Refusals are <see cref="VirtException"/>s.
/// </summary>
internal interface IWorkerMachine : IDisposable
{
    /// <summary>Short name of what executes the guest.</summary>
    string Tier { get; }

    VmState State { get; }

    string StatusReason { get; }

    int? ExitCode { get; }

    int VcpuCount { get; }

    /// <summary>RAM the guest has, in bytes.</summary>
    ulong MemoryAssigned { get; }

    RingFidelity RingFidelity { get; }

    /// <summary>Names of the guest's hypercalls by number; empty where it makes none.</summary>
    IReadOnlyList<string> HypercallNames => [];

    /// <summary>Completes when the machine is Off or Crashed.</summary>
    Task<MachineEnd> Completion { get; }

    /// <summary>Loads the guest and starts it. Throws what is wrong with the guest's files.</summary>
    void PowerOn();

    void Pause();

    void Resume();

    void Reset(string reason);

    void PowerOff(string reason);

    /// <summary>False when the machine has no power button.</summary>
    bool PressPowerButton();

    /// <summary>One per vCPU, without pausing the guest.</summary>
    IReadOnlyList<CapturedVcpu> CaptureRings();

    IReadOnlyList<RingMeasurement> MeasureRings();

    /// <summary>One vCPU's whole state, between two instructions.</summary>
    MachineRegisters CaptureRegisters(int vcpu);

    /// <summary>Starts recording ring events; one session at a time.</summary>
    ITraceSession StartTrace(bool includeSameRing);

    /// <summary>Executes instructions of one vCPU one at a time and gives the ring transitions among them.</summary>
    RingSteps StepRings(int vcpu, int count, bool includeSameRing, TimeSpan limit);

    bool TryReadPhysical(ulong address, Span<byte> destination);

    /// <summary>Reads through a vCPU's page tables as a supervisor; returns how many bytes from the start could be read.</summary>
    int ReadLinear(int vcpu, ulong address, Span<byte> destination);

    /// <summary>What the disks have done so far, by their devices' names.</summary>
    IReadOnlyDictionary<string, BlockCounters> Disks => new Dictionary<string, BlockCounters>();

    /// <summary>Specs of the platform's own devices.</summary>
    IReadOnlyList<JsonObject> PlatformDevices { get; }
}

/// <summary>How a machine ended: <see cref="VmState.Off"/> or <see cref="VmState.Crashed"/>.</summary>
internal sealed record MachineEnd(VmState State, string Reason, int? ExitCode);

/// <summary>Where a vCPU stands: its ring state without the instruction's text, and what is needed to make that text.</summary>
internal sealed record CapturedVcpu(RingState State, ReadOnlyMemory<byte> Code, ulong LinearRip, int Bitness);

/// <summary>Ring events of all vCPUs. One reader.</summary>
internal interface ITraceSession : IDisposable
{
    /// <summary>Moves what is there; returns how many. Never waits.</summary>
    int Read(Span<RingEvent> destination);

    /// <summary>Events lost because nobody read.</summary>
    ulong Dropped { get; }
}

/// <summary>Makes machines.</summary>
internal interface IWorkerMachineFactory
{
    /// <summary>Begins, on another thread, with what <see cref="Create"/> needs for any VM. Once, before it; without it all is done there. What fails is said there, too.</summary>
    void Prepare(WorkerOptions options);

    /// <summary>Makes a machine, switched off. Throws <see cref="VirtException"/> for whatever is wrong; nothing is left behind then.</summary>
    IWorkerMachine Create(VmConfiguration configuration, ICharBackend console, ILog log, WorkerOptions options);

    /// <summary>Every strategy that the plugins bring, probed.</summary>
    IReadOnlyList<Client.Protocol.ProbedStrategy> Probe(ILog log, WorkerOptions options);
}
