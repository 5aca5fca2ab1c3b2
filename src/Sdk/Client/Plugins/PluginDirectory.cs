using System.Text.Json.Nodes;
using VirtPS.Client.Processes;
using VirtPS.Client.Store;
using VirtPS.Sdk;
using VirtPS.Sdk.Machine;
using VirtPS.Sdk.Plugins;

namespace VirtPS.Client.Plugins;

/// <summary>Plugins as their manifests tell, for a shell: no plugin code is run. Looks anew each time, because plugins come and go.</summary>
internal sealed class PluginDirectory
{
    private readonly PluginRegistry _registry;

    public PluginDirectory(VirtHostOptions options)
    {
        ModuleFolder = ModuleLocator.Find(options);
        _registry = new PluginRegistry(options.StorePath is { } store ? Path.Combine(Path.GetFullPath(store), "plugins.json") : PluginLocations.RegistryFile);
    }

    public string? ModuleFolder { get; }

    public string RegistryFile => _registry.Path;

    public PluginRegistry Registry => _registry;

    public IReadOnlyList<DiscoveredPlugin> Discover() => PluginLocations.Discover(PluginLocations.Default(ModuleFolder, _registry));

    /// <summary>Every plugin, with the verdict whether it would be loaded.</summary>
    public IReadOnlyList<VirtPluginInfo> Describe() => [.. Discover().Select(Describe)];

    public VirtPluginInfo Describe(DiscoveredPlugin plugin)
    {
        (PluginStatus status, string reason) = Judge(plugin);
        PluginManifest? manifest = plugin.Manifest;
        return new VirtPluginInfo
        {
            Id = plugin.Id,
            Version = manifest?.Version ?? "",
            Description = manifest?.Description ?? "",
            Kind = manifest?.Kind ?? "",
            Path = plugin.Folder,
            EntryAssembly = manifest?.Assembly ?? "",
            SdkRange = manifest?.Sdk ?? "",
            Source = plugin.Source,
            Status = status,
            StatusReason = reason,
            Models = [.. manifest?.Models.Select(m => m.Id) ?? []],
            Strategies = [.. manifest?.Strategies.Select(s => s.Name) ?? []],
        };
    }

    public IReadOnlyList<VirtDeviceModel> Models() =>
    [
        .. Usable().SelectMany(p => p.Models.Select(m => new VirtDeviceModel
        {
            Model = $"{p.Id}/{m.Id}",
            Plugin = p.Id,
            Description = m.Description,
            Class = m.Class,
            Properties = [.. m.Properties.Select(ToProperty)],
        })).OrderBy(m => m.Model, StringComparer.Ordinal),
    ];

    /// <summary>Strategies by their manifests alone, not probed.</summary>
    public IReadOnlyList<VirtStrategy> Strategies() =>
    [
        .. Usable().SelectMany(p => p.Strategies.Select(s => new VirtStrategy
        {
            Name = s.Name,
            Description = s.Description,
            Plugin = p.Id,
            IsSupported = null,
            Reason = "Not probed.",
        })),
    ];

    /// <summary>The strategy's name as its plugin spells it. Errors: StrategyNotFound, which lists what there is.</summary>
    public string CheckStrategy(string name)
    {
        IReadOnlyList<VirtStrategy> all = Strategies();
        return all.FirstOrDefault(s => s.Name.Equals(name, StringComparison.OrdinalIgnoreCase))?.Name
            ?? throw new VirtException(ErrorIds.StrategyNotFound, $"There is no strategy '{name}'. There are: {Listed(all.Select(s => s.Name))}.", "Get-VirtStrategy tells more about them.", name);
    }

    /// <summary>The disk model for a strategy's guests. Errors: DeviceModelNotFound where it has none.</summary>
    public string DiskModelFor(string strategy)
    {
        string model = Usable().SelectMany(p => p.Strategies).FirstOrDefault(s => s.Name.Equals(strategy, StringComparison.OrdinalIgnoreCase))?.Disk ?? "";
        if (model.Length > 0)
            return model;
        string with = Listed(Usable().SelectMany(p => p.Strategies).Where(s => s.Disk.Length > 0).Select(s => s.Name));
        throw new VirtException(ErrorIds.DeviceModelNotFound, $"The strategy '{strategy}' has no disk model of its own. Strategies with one: {with}.", "Choose one of those, or name a model of a plugin with -Model.", strategy);
    }

    /// <summary>Models that are disks, as <c>plugin/model</c>.</summary>
    public IReadOnlySet<string> DiskModels() => Usable().SelectMany(p => p.Models.Where(m => m.Class == "disk").Select(m => $"{p.Id}/{m.Id}")).ToHashSet();

    /// <summary>Errors: DeviceModelNotFound, DevicePropertyInvalid; both list what there is.</summary>
    public void CheckDevice(JsonObject device)
    {
        string model = DeviceList.ModelOf(device);
        var models = Usable().SelectMany(p => p.Models.Select(m => (Name: $"{p.Id}/{m.Id}", Manifest: m))).ToList();
        DeviceModelManifest manifest = models.FirstOrDefault(m => m.Name == model).Manifest
            ?? throw new VirtException(ErrorIds.DeviceModelNotFound, $"There is no device model '{model}'. There are: {Listed(models.Select(m => m.Name).Order(StringComparer.Ordinal))}.", "Get-VirtDeviceModel tells more about them.", model);
        DevicePropertyCheck.Check(device, model, manifest.Properties);
    }

    private IEnumerable<PluginManifest> Usable() => Discover().Where(p => p is { Error: null, Manifest: not null }).Select(p => p.Manifest!);

    private (PluginStatus Status, string Reason) Judge(DiscoveredPlugin plugin)
    {
        if (plugin.Error is { } error)
            return (PluginStatus.Broken, error.Message);
        if (SdkVersionRange.TryParse(plugin.Manifest!.Sdk, out SdkVersionRange? range) && !range!.Contains(SdkVersionRange.Current))
            return (PluginStatus.Broken, $"It was built for VirtPS.Sdk {plugin.Manifest.Sdk}; this is {SdkVersionRange.Current}.");
        if (plugin.IsOwn)
            return (PluginStatus.Ready, "");
        try
        {
            _registry.Verify(plugin.Folder);
            return (PluginStatus.Ready, "");
        }
        catch (VirtException e)
        {
            bool known = _registry.Read().Any(r => Path.GetFullPath(r.Folder) == Path.GetFullPath(plugin.Folder));
            return (known ? PluginStatus.Changed : PluginStatus.NotRegistered, e.Message);
        }
    }

    private static VirtDeviceProperty ToProperty(PropertyManifest p) => new()
    {
        Name = p.Name,
        Type = DevicePropertyCheck.TypeName(p.Type),
        Default = p.Default?.ToString(),
        IsRequired = p.Required,
        Help = p.Help,
        Values = p.Values ?? [],
    };

    private static string Listed(IEnumerable<string> names) => string.Join(", ", names) is { Length: > 0 } list ? list : "none";
}
