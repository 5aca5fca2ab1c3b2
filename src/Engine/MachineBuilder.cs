using System.Text.Json.Nodes;
using VirtPS.Engine.Firmware;
using VirtPS.Engine.Host;
using VirtPS.Engine.Logging;
using VirtPS.Engine.Running;
using VirtPS.Sdk;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Devices;
using VirtPS.Sdk.Machine;
using VirtPS.Sdk.Memory;
using VirtPS.Sdk.Plugins;
using VirtPS.X86;

namespace VirtPS.Engine;

/// <summary>All wiring of a machine, in one place. Set the properties, then <see cref="Build"/> once.</summary>
public sealed class MachineBuilder(VmConfiguration configuration, IMachineParts parts)
{
    public const int MaxVcpus = 64;

    /// <summary>Name of the device that stands for the platform where the guest interface is no PC.</summary>
    private const string PlatformName = "platform";

    public ILog Log { get; set; } = NullLog.Instance;

    /// <summary>Host sides for the devices; see <see cref="BackendRegistry"/>.</summary>
    public BackendRegistry Backends { get; } = new();

    /// <summary>Loads the guest; default: what the configuration's boot section says, without an embedded guest. Null: vCPU 0 starts at the reset vector.</summary>
    public IGuestStarter? Starter { get; set; } = new GuestBootStarter();

    public IHostPlatform Platform { get; set; } = HostPlatform.Create();

    public NondeterminismSource Nondeterminism { get; set; } = new();

    public IList<IMachineObserver> Observers { get; } = [];

    /// <summary>Guest TSC ticks per second of VM time, unless the backend has one that it cannot change. See docs/TIME.md for why it is 1 GHz.</summary>
    public ulong TscFrequency { get; set; } = 1_000_000_000;

    /// <summary>Takes the place of the PC's own devices; null: <see cref="PlatformLayout.Pc"/> where the guest interface is a PC.</summary>
    public IReadOnlyList<JsonObject>? PlatformDevices { get; set; }

    /// <summary>Makes the machine, switched off. Throws <see cref="VirtException"/> for whatever is wrong; nothing is left behind then.</summary>
    public Machine Build()
    {
        CheckSizes();
        IStrategy strategy = parts.GetStrategy(configuration.Strategy, configuration.StrategyOptions);
        HostSupport support = strategy.Probe();
        if (!support.IsSupported)
            throw new VirtException("StrategyUnavailable", $"This host cannot run the strategy '{strategy.Info.Name}': {support.Reason}", support.RecommendedAction, strategy.Info.Name);
        var undo = new Stack<IDisposable>();
        try
        {
            return Assemble(strategy, undo);
        }
        catch
        {
            foreach (IDisposable part in undo)
                part.Dispose();
            throw;
        }
    }

    private Machine Assemble(IStrategy strategy, Stack<IDisposable> undo)
    {
        ICpuBackend backend = strategy.CreateBackend(configuration.StrategyOptions, new RateLimitedLog(Log, "cpu"));
        undo.Push(backend);
        if (configuration.ProcessorCount > backend.Capabilities.MaxVcpus)
            throw new VirtException("ConfigurationInvalid", $"The strategy '{strategy.Info.Name}' ({backend.Tier}) has at most {backend.Capabilities.MaxVcpus} vCPUs here; {configuration.ProcessorCount} are configured.", null, configuration.Name);
        TscFrequency = backend.Capabilities.TscFrequency ?? TscFrequency;
        var memory = new GuestMemory();
        undo.Push(memory);
        AddRam(memory, strategy.GuestInterface.IsPc);
        IPartition partition = backend.CreatePartition(new PartitionOptions
        {
            VcpuCount = configuration.ProcessorCount,
            Cpuid = strategy.CreateCpuidPolicy(configuration.ProcessorCount, configuration.StrategyOptions),
            TscFrequency = TscFrequency,
            Log = new RateLimitedLog(Log, "partition"),
        });
        undo.Push(partition);
        memory.Attach(partition);

        var failures = new LateOwner();
        Board board = CreateBoard(memory, partition.Doorbells, failures, undo);
        if (partition.InterruptController is { } controller)
            board.Use(controller);
        else
            board.UseApicBus();
        CreateVcpus(board, partition, strategy.GuestInterface, failures, undo);
        KvmFeatures kvm = partition.Options.Cpuid.KvmFeatures;
        if (kvm != KvmFeatures.None && !backend.Capabilities.AnswersKvmInterface)
            board.Enlighten(kvm);
        var control = new MachineControl(configuration.ProcessorCount);
        List<(string Name, IDevice Device)> devices = CreateDevices(board, strategy, partition, control, undo);
        var machine = new Machine(new MachineAssembly
        {
            Board = board,
            Backend = backend,
            Partition = partition,
            Nondeterminism = Nondeterminism,
            Starter = Starter,
            Log = Log,
            Devices = devices,
            Configuration = configuration,
            Strategy = strategy,
            Control = control,
            Observers = [.. Observers],
        });
        failures.Owner = machine;
        return machine;
    }

    private void CheckSizes()
    {
        const ulong MiB = 1 << 20;
        if (configuration.Memory < MiB || configuration.Memory % MiB != 0)
            throw new VirtException("MemoryInvalid", $"VM '{configuration.Name}': {configuration.Memory} bytes is not a size a machine can have. Memory is a multiple of 1 MB, at least 1 MB.", "Give -Memory as for example 512MB.", configuration.Name);
        if (configuration.Memory > Platform.PhysicalMemory)
            throw new VirtException("MemoryInvalid", $"VM '{configuration.Name}' wants {configuration.Memory / MiB} MB; this host has {Platform.PhysicalMemory / MiB} MB.", "Give the VM less memory.", configuration.Name);
        if (configuration.ProcessorCount is < 1 or > MaxVcpus)
            throw new VirtException("ConfigurationInvalid", $"VM '{configuration.Name}': {configuration.ProcessorCount} processors; there can be 1 to {MaxVcpus}.", null, configuration.Name);
    }

    private void AddRam(GuestMemory memory, bool isPc)
    {
        MemoryLayout layout = isPc ? MemoryLayout.ForRam(configuration.Memory) : MemoryLayout.Flat(configuration.Memory);
        foreach (MemoryRange range in layout.Ram)
        {
            string name = $"ram-{range.Start:x}";
            memory.Add(new MemorySlot(name, range.Start, Platform.AllocateGuestMemory(name, range.Size)));
        }
    }

    private Board CreateBoard(GuestMemory memory, IPartitionDoorbells? doorbells, LateOwner failures, Stack<IDisposable> undo)
    {
        var gate = new DeviceLock(biased: configuration.ProcessorCount == 1);
        var clock = new MachineClock(Nondeterminism, TscFrequency);
        var timer = new MachineTimer(clock, gate, Nondeterminism, Platform, e => failures.OnFailure($"A device failed: {e.Message}", e));
        undo.Push(timer);
        return new Board(gate, clock, timer, memory, new RateLimitedLog(Log, "interrupts")) { Doorbells = doorbells };
    }

    private void CreateVcpus(Board board, IPartition partition, IGuestInterface guest, IRunnerOwner owner, Stack<IDisposable> undo)
    {
        var runners = new VcpuRunner[configuration.ProcessorCount];
        for (int i = 0; i < runners.Length; i++)
        {
            var host = new VcpuHost(board, guest, owner, Nondeterminism, new RateLimitedLog(Log, $"vcpu{i}"));
            IVcpu vcpu = partition.CreateVcpu(i, host);
            host.Vcpu = vcpu;
            runners[i] = new VcpuRunner(vcpu, host, board, Nondeterminism, Platform, owner);
            undo.Push(runners[i]);
        }

        board.Vcpus = runners;
    }

    private List<(string Name, IDevice Device)> CreateDevices(Board board, IStrategy strategy, IPartition partition, IMachineControl control, Stack<IDisposable> undo)
    {
        IReadOnlyList<JsonObject> platform = PlatformDevices
            ?? (strategy.GuestInterface.IsPc ? PlatformLayout.Pc(configuration.ProcessorCount, partition.InterruptController is not null, partition.Options.Cpuid) : []);
        List<(string Name, IDevice Device)> devices = [];
        using (board.Gate.Hold())
        {
            if (CreatePlatform(board, strategy, partition, control) is { } guestPlatform)
            {
                undo.Push(guestPlatform);
                board.Platform = guestPlatform;
                devices.Add((PlatformName, guestPlatform));
            }

            foreach (JsonObject spec in PlatformLayout.Merge(platform, configuration.Devices))
            {
                string name = (string?)spec["name"] ?? throw new VirtException("DevicePropertyInvalid", $"A device of model '{(string?)spec["model"]}' has no name.", null, configuration.Name);
                if (devices.Any(d => d.Name == name))
                    throw new VirtException("DeviceNameInUse", $"There are two devices '{name}'.", "Give one of them another name.", name);
                IDevice device = Create(board, control, name, spec);
                undo.Push(device);
                devices.Add((name, device));
            }
        }

        return devices;
    }

    private IGuestPlatform? CreatePlatform(Board board, IStrategy strategy, IPartition partition, IMachineControl control) => strategy.GuestInterface.CreatePlatform(new GuestPlatformContext
    {
        Device = new MachineDeviceContext(board, Backends, control, Log, PlatformName, []),
        Vcpus = board.Vcpus,
        Partition = partition.Options,
        Configuration = configuration,
    });

    private IDevice Create(Board board, IMachineControl control, string name, JsonObject spec)
    {
        IDeviceFactory factory = parts.GetDeviceFactory(spec);
        try
        {
            return factory.Create((JsonObject)spec.DeepClone(), new MachineDeviceContext(board, Backends, control, Log, name, spec));
        }
        catch (Exception e) when (e is not VirtException)
        {
            throw new VirtException("PluginLoadFailed", $"Device '{name}': the factory of '{(string?)spec["model"]}' failed: {e.Message}", "Report it to the plugin's author.", name, e);
        }
    }

    /// <summary>Stands for the machine until it exists.</summary>
    private sealed class LateOwner : IRunnerOwner
    {
        public IRunnerOwner? Owner { get; set; }

        public void OnTripleFault(VcpuRunner runner) => Owner?.OnTripleFault(runner);

        public void OnFailure(string reason, Exception? exception) => Owner?.OnFailure(reason, exception);
    }
}
