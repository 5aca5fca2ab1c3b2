using System.Text.Json.Nodes;
using VirtPS.Sdk;
using VirtPS.Sdk.Devices;
using VirtPS.Sdk.Plugins;

namespace VirtPS.Engine.Catalog;

/// <summary>
/// The plugins of this host, found by their manifests; the code of one is loaded when something of it is first needed. A plugin that is missing, damaged, changed or
/// made for another SDK is one error of its own and costs no other. Thread-safe.
/// </summary>
public sealed class PluginCatalog : IMachineParts
{
    private readonly Lock _gate = new();
    private readonly PluginRegistry _registry;
    private readonly Dictionary<string, LoadedPlugin> _loaded = [];

    /// <summary>Looks below <paramref name="roots"/> (<see cref="PluginLocations.Default"/>) once; nothing is loaded.</summary>
    public PluginCatalog(IEnumerable<PluginRoot> roots, PluginRegistry registry)
    {
        _registry = registry;
        Plugins = PluginLocations.Discover(roots);
    }

    /// <summary>All that was found, broken manifests included.</summary>
    public IReadOnlyList<DiscoveredPlugin> Plugins { get; }

    /// <summary>Model ids (<c>plugin/model</c>) with their descriptions, sorted.</summary>
    public IReadOnlyList<(string Id, DeviceModelManifest Model)> Models =>
        [.. Usable.SelectMany(p => p.Manifest!.Models.Select(m => ($"{p.Id}/{m.Id}", m))).OrderBy(m => m.Item1, StringComparer.Ordinal)];

    /// <summary>Strategies with the plugin that brings them.</summary>
    public IReadOnlyList<(StrategyManifest Strategy, DiscoveredPlugin Plugin)> Strategies =>
        [.. Usable.SelectMany(p => p.Manifest!.Strategies.Select(s => (s, p)))];

    private IEnumerable<DiscoveredPlugin> Usable => Plugins.Where(p => p.Error is null);

    /// <summary>Why a plugin cannot be used, found out by loading it; null when it can.</summary>
    public VirtException? TryLoad(DiscoveredPlugin plugin)
    {
        try
        {
            Load(plugin);
            return null;
        }
        catch (VirtException e)
        {
            return e;
        }
    }

    /// <summary>Loads the code of VirtPS's own device models, so that it is there when a machine is put together. What is wrong with one is said when it is used.</summary>
    public void LoadDevicesAhead()
    {
        foreach (DiscoveredPlugin plugin in Usable.Where(p => p.IsOwn && p.Manifest!.Models.Count > 0))
            TryLoad(plugin);
    }

    public IStrategy GetStrategy(string name, IReadOnlyDictionary<string, string> options)
    {
        (StrategyManifest manifest, DiscoveredPlugin plugin) = Strategies.FirstOrDefault(s => s.Strategy.Name.Equals(name, StringComparison.OrdinalIgnoreCase));
        if (manifest is null)
            throw NotFound("StrategyNotFound", "strategy", name, Strategies.Select(s => s.Strategy.Name));
        SpecValidator.CheckOptions(manifest, options);
        return Load(plugin).Strategy(manifest.Name);
    }

    public IDeviceFactory GetDeviceFactory(JsonObject spec)
    {
        string id = (string?)spec["model"] ?? "";
        int slash = id.IndexOf('/', StringComparison.Ordinal);
        DiscoveredPlugin? plugin = slash < 0 ? null : Usable.FirstOrDefault(p => p.Id == id[..slash]);
        DeviceModelManifest? model = plugin?.Manifest!.Models.FirstOrDefault(m => m.Id == id[(slash + 1)..]);
        if (plugin is null || model is null)
            throw NotFound("DeviceModelNotFound", "device model", id, Models.Select(m => m.Id));
        SpecValidator.CheckSpec(id, model, spec);
        return Load(plugin).Factory(model.Id);
    }

    // A broken plugin may be the reason why something is missing: it is named along.
    private VirtException NotFound(string errorId, string kind, string name, IEnumerable<string> present)
    {
        string broken = string.Concat(Plugins.Where(p => p.Error is not null).Select(p => $" {p.Error!.Message}"));
        string all = string.Join(", ", present.Order(StringComparer.Ordinal));
        return new VirtException(errorId, $"There is no {kind} '{name}'. There are: {(all.Length == 0 ? "none" : all)}.{broken}", "Get-VirtPlugin shows which plugins were found.", name);
    }

    private LoadedPlugin Load(DiscoveredPlugin plugin)
    {
        if (plugin.Error is { } error)
            throw error;
        lock (_gate)
        {
            if (_loaded.TryGetValue(plugin.Folder, out LoadedPlugin? loaded))
                return loaded;
            if (!plugin.IsOwn)
                _registry.Verify(plugin.Folder);
            return _loaded[plugin.Folder] = LoadedPlugin.Load(plugin);
        }
    }
}
