using VirtPS.Client.Protocol;
using VirtPS.Engine;
using VirtPS.Engine.Catalog;
using VirtPS.Engine.Logging;
using VirtPS.Engine.Storage;
using VirtPS.Guests.Ringlab;
using VirtPS.Guests.RinglabXen;
using VirtPS.Sdk;
using VirtPS.Sdk.Backends;
using VirtPS.Sdk.Machine;
using VirtPS.Sdk.Plugins;

namespace VirtPS.Worker.Machines;

/// <summary>Makes the engine's machines from the plugins of this host.</summary>
internal sealed class EngineMachineFactory : IWorkerMachineFactory
{
    private static readonly IReadOnlyDictionary<string, string> NoOptions = new Dictionary<string, string>();

    private Task<PluginCatalog>? _catalog;

    public void Prepare(WorkerOptions options)
    {
        Task<PluginCatalog> catalog = Task.Run(() => OpenCatalog(options));
        _catalog = catalog;
        // Beside the machine's processors and memory, which are made first.
        _ = catalog.ContinueWith(c => c.Result.LoadDevicesAhead(), CancellationToken.None, TaskContinuationOptions.OnlyOnRanToCompletion, TaskScheduler.Default);
    }

    public IWorkerMachine Create(VmConfiguration configuration, ICharBackend console, ILog log, WorkerOptions options)
    {
        var builder = new MachineBuilder(configuration, _catalog?.GetAwaiter().GetResult() ?? OpenCatalog(options))
        {
            Log = log,
            Starter = new GuestBootStarter(() => RinglabImage.Build(), () => RinglabXenImage.Build()),
        };
        builder.Backends.Char[BackendRegistry.Console] = console;
        var disks = new Dictionary<string, IBlockBackend>();
        builder.Backends.OpenBlock = spec =>
        {
            string name = (string?)spec["name"] ?? "disk";
            return disks[name] = DiskOpener.Open(spec, builder.Platform, new RateLimitedLog(log, name));
        };
        return new EngineMachine(builder.Build(), disks);
    }

    public IReadOnlyList<ProbedStrategy> Probe(ILog log, WorkerOptions options)
    {
        PluginCatalog catalog = OpenCatalog(options);
        return [.. catalog.Strategies.Select(s => Probe(catalog, s.Strategy.Name))];
    }

    /// <summary>A plugin that fails is one answer of its own and costs no other.</summary>
    private static ProbedStrategy Probe(PluginCatalog catalog, string name)
    {
        try
        {
            IStrategy strategy = catalog.GetStrategy(name, NoOptions);
            HostSupport support = strategy.Probe();
            return new ProbedStrategy(name, support.IsSupported, support.Reason, support.RecommendedAction, strategy.Info);
        }
        catch (VirtException e)
        {
            return new ProbedStrategy(name, false, e.Message, e.RecommendedAction, null);
        }
        catch (Exception e)
        {
            // Foreign code: whatever it throws is what is wrong with it.
            return new ProbedStrategy(name, false, $"Its probe failed: {e.GetType().Name}: {e.Message}", "Report it to the plugin's author.", null);
        }
    }

    private static PluginCatalog OpenCatalog(WorkerOptions options)
    {
        var registry = new PluginRegistry(options.PluginRegistry);
        return new PluginCatalog(PluginLocations.Default(options.ModuleFolder, registry), registry);
    }
}
