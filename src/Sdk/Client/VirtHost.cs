using System.Text.Json.Nodes;
using VirtPS.Sdk;
using VirtPS.Sdk.Machine;
using VirtPS.Sdk.Rings;

namespace VirtPS.Client;

/// <summary>
/// A host and its VMs. Thread-safe; several may exist, in one process or in many, over one store. Everything that fails throws
/// <see cref="VirtException"/> with an id of <see cref="ErrorIds"/>; everything returned is an immutable snapshot. Cancellation stops the waiting at
/// once; what a worker has already been told to do, it does.
/// </summary>
public sealed partial class VirtHost
{
    /// <summary>Connects to a host. <paramref name="endpoint"/>: null, empty, <c>.</c> or <c>localhost</c> for this one; others are refused (HostNotSupported).</summary>
    public static VirtHost Connect(string? endpoint = null) => new(options: new VirtHostOptions());

    /// <summary>Connects to this host with other places than the usual ones.</summary>
    public static VirtHost Connect(VirtHostOptions options) => new(options);

    private VirtHost(VirtHostOptions options)
    {
        HostId = Environment.MachineName;
        StorePath = options.StorePath ?? "";
    }

    /// <summary>Stable over restarts.</summary>
    public string HostId { get; }

    /// <summary>The store's root folder.</summary>
    public string StorePath { get; }

    /// <summary>Makes a VM. Errors: VMNameInvalid, VMNameInUse, MemoryInvalid, ConfigurationInvalid, StrategyNotFound, DeviceModelNotFound, DevicePropertyInvalid, ImageNotFound.</summary>
    public Task<VirtualMachine> CreateAsync(VmSpecification specification, CancellationToken cancellation = default) =>
        throw Unavailable();

    /// <summary>VMs by name or id; a name without wildcards that is missing, or a VM that cannot be read, is one of the result's errors.</summary>
    public Task<VmQueryResult> GetAsync(VmQuery? query = null, CancellationToken cancellation = default) =>
        throw Unavailable();

    /// <summary>One VM. Errors: VMNotFound, StoreUnreadable.</summary>
    public Task<VirtualMachine> GetAsync(Guid id, CancellationToken cancellation = default) =>
        throw Unavailable();

    /// <summary>Powers on; returns when the guest is about to execute its first instruction. The VM outlives this process. Errors: InvalidVMState, WorkerNotFound, WorkerStartFailed, and what the machine says (ImageInvalid …).</summary>
    public Task<VirtualMachine> StartAsync(Guid id, CancellationToken cancellation = default) =>
        throw Unavailable();

    /// <summary>
    /// Stops. With <see cref="StopKind.PowerButton"/> waits up to <paramref name="timeout"/> (default 60 s) for the guest, then throws GuestDidNotStop and leaves the
    /// VM running.
    /// </summary>
    public Task<VirtualMachine> StopAsync(Guid id, StopKind kind, TimeSpan? timeout = null, CancellationToken cancellation = default) =>
        throw Unavailable();

    /// <summary>Restarts; with <see cref="RestartKind.PowerButton"/> as <see cref="StopAsync"/> and then start.</summary>
    public Task<VirtualMachine> RestartAsync(Guid id, RestartKind kind, TimeSpan? timeout = null, CancellationToken cancellation = default) =>
        throw Unavailable();

    /// <summary>Running → Paused: guest time stands still.</summary>
    public Task<VirtualMachine> SuspendAsync(Guid id, CancellationToken cancellation = default) =>
        throw Unavailable();

    /// <summary>Paused → Running.</summary>
    public Task<VirtualMachine> ResumeAsync(Guid id, CancellationToken cancellation = default) =>
        throw Unavailable();

    /// <summary>Waits. Errors: WaitTimeout after <paramref name="timeout"/> (null: for ever); WaitEnded when the VM stopped and it can't come any more; InvalidVMState when it is not running.</summary>
    public Task<VirtWaitResult> WaitAsync(Guid id, WaitCondition condition, TimeSpan? timeout = null, CancellationToken cancellation = default) =>
        throw Unavailable();

    public Task<VirtualMachine> SetAsync(Guid id, VmChanges changes, CancellationToken cancellation = default) =>
        throw Unavailable();

    /// <summary>Renames, in any state. Errors: VMNameInvalid, VMNameInUse.</summary>
    public Task<VirtualMachine> RenameAsync(Guid id, string newName, CancellationToken cancellation = default) =>
        throw Unavailable();

    /// <summary>Deletes the VM and its folder; only while it does not run (InvalidVMState).</summary>
    public Task RemoveAsync(Guid id, CancellationToken cancellation = default) =>
        throw Unavailable();

    /// <summary>Adds a device: <c>model</c> (<c>plugin/model</c>), <c>name</c> (made up when missing) and the model's properties. While the VM runs only where the machine allows it (else InvalidVMState).</summary>
    public Task<VirtVMDevice> AddDeviceAsync(Guid id, JsonObject specification, CancellationToken cancellation = default) =>
        throw Unavailable();

    /// <summary>The configured devices, and while the VM runs also the platform's own.</summary>
    public Task<IReadOnlyList<VirtVMDevice>> GetDevicesAsync(Guid id, CancellationToken cancellation = default) =>
        throw Unavailable();

    /// <summary>Errors: DeviceNotFound; InvalidVMState while the machine cannot let it go.</summary>
    public Task RemoveDeviceAsync(Guid id, string name, CancellationToken cancellation = default) =>
        throw Unavailable();

    /// <summary>One <see cref="RingState"/> per vCPU.</summary>
    public Task<IReadOnlyList<RingState>> GetRingStatesAsync(Guid id, CancellationToken cancellation = default) =>
        throw Unavailable();

    /// <summary>Totals since power-on, one per vCPU.</summary>
    public Task<IReadOnlyList<RingMeasurement>> MeasureRingAsync(Guid id, CancellationToken cancellation = default) =>
        throw Unavailable();

    /// <summary>Ring transitions as they happen, until cancelled, <see cref="TraceOptions.MaxEvents"/>, or the VM stops. A slow reader loses events, never slows the guest; the batches say how many.</summary>
    public IAsyncEnumerable<RingTransitionBatch> TraceRingAsync(Guid id, TraceOptions? options = null, CancellationToken cancellation = default) =>
        throw Unavailable();

    /// <summary>All registers of one vCPU. Errors: VcpuNotFound.</summary>
    public Task<VirtRegisterSet> GetRegistersAsync(Guid id, int vcpu = 0, CancellationToken cancellation = default) =>
        throw Unavailable();

    /// <summary>Guest memory, at most 64 MiB at once. Errors: GuestAddressInvalid names the first address that has no memory.</summary>
    public Task<VirtGuestMemory> ReadGuestMemoryAsync(Guid id, ulong address, int length, GuestAddressSpace space = GuestAddressSpace.Physical, int vcpu = 0, CancellationToken cancellation = default) =>
        throw Unavailable();

    /// <summary>Instructions from a linear address (null: where the vCPU stands), decoded in the vCPU's present mode.</summary>
    public Task<IReadOnlyList<VirtDisassemblyLine>> DisassembleAsync(Guid id, ulong? address = null, int count = 16, int vcpu = 0, CancellationToken cancellation = default) =>
        throw Unavailable();

    /// <summary>Console output of the present or last run, bytes as they came.</summary>
    public IAsyncEnumerable<ReadOnlyMemory<byte>> ReadConsoleAsync(Guid id, ConsoleReadOptions? options = null, CancellationToken cancellation = default) =>
        throw Unavailable();

    /// <summary>Console output as lines of text (UTF-8, without line ends; an unfinished last line is given when the reading ends).</summary>
    public IAsyncEnumerable<string> ReadConsoleLinesAsync(Guid id, ConsoleReadOptions? options = null, CancellationToken cancellation = default) =>
        throw Unavailable();

    /// <summary>Types into the console; returns when all of it was taken.</summary>
    public Task SendConsoleAsync(Guid id, ReadOnlyMemory<byte> data, CancellationToken cancellation = default) =>
        throw Unavailable();

    /// <summary>A duplex stream to the console: reads give what comes from now on (0 bytes = the VM stopped), writes type.</summary>
    public Task<Stream> ConnectConsoleAsync(Guid id, CancellationToken cancellation = default) =>
        throw Unavailable();

    /// <summary>Plugins by their manifests. A folder that cannot be read is one with status Broken.</summary>
    public Task<IReadOnlyList<VirtPluginInfo>> GetPluginsAsync(CancellationToken cancellation = default) =>
        throw Unavailable();

    /// <summary>Records the hash of every file in a plugin's folder, so that it may be loaded. Errors: PluginNotFound, PluginLoadFailed.</summary>
    public Task<VirtPluginInfo> RegisterPluginAsync(string path, CancellationToken cancellation = default) =>
        throw Unavailable();

    public Task UnregisterPluginAsync(string pluginId, CancellationToken cancellation = default) =>
        throw Unavailable();

    /// <summary>Strategies. With <paramref name="probe"/> a short-lived worker is asked what this host can run (once per process; cached).</summary>
    public Task<IReadOnlyList<VirtStrategy>> GetStrategiesAsync(bool probe = true, CancellationToken cancellation = default) =>
        throw Unavailable();

    public Task<IReadOnlyList<VirtDeviceModel>> GetDeviceModelsAsync(CancellationToken cancellation = default) =>
        throw Unavailable();

    public Task<VirtHostInfo> GetHostInfoAsync(CancellationToken cancellation = default) =>
        throw Unavailable();

    /// <summary>Checks of the host, each as it is done.</summary>
    public IAsyncEnumerable<VirtHostTest> TestHostAsync(CancellationToken cancellation = default) =>
        throw Unavailable();

    private VirtException Unavailable() => new("NotSupported", $"This build of the client cannot do this yet (store {StorePath}).");
}
