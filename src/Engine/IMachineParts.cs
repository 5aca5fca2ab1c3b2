using System.Text.Json.Nodes;
using VirtPS.Sdk;
using VirtPS.Sdk.Devices;
using VirtPS.Sdk.Plugins;

namespace VirtPS.Engine;

/// <summary>Where a machine's strategy and device models come from: the plugin catalog, or a list in tests. Thread-safe.</summary>
public interface IMachineParts
{
    /// <summary>The strategy called <paramref name="name"/> (ignoring case), after <paramref name="options"/> were checked. Throws <see cref="VirtException"/> (<c>StrategyNotFound</c>, which lists what there is; <c>PluginLoadFailed</c> …).</summary>
    IStrategy GetStrategy(string name, IReadOnlyDictionary<string, string> options);

    /// <summary>
    /// The factory of <paramref name="spec"/>'s model, after the spec's properties were checked against the model's description. Throws <see cref="VirtException"/>
    /// (<c>DeviceModelNotFound</c>, <c>DevicePropertyInvalid</c>, <c>PluginLoadFailed</c> …).
    /// </summary>
    IDeviceFactory GetDeviceFactory(JsonObject spec);
}

/// <summary>Parts given as objects: for programs that bring their own, and for tests. Specs are not checked beyond the model's name.</summary>
public sealed class ListedParts(IEnumerable<IStrategy> strategies, IEnumerable<KeyValuePair<string, IDeviceFactory>> factories) : IMachineParts
{
    private readonly List<IStrategy> _strategies = [.. strategies];
    private readonly Dictionary<string, IDeviceFactory> _factories = new(factories);

    public IStrategy GetStrategy(string name, IReadOnlyDictionary<string, string> options) =>
        _strategies.FirstOrDefault(s => s.Info.Name.Equals(name, StringComparison.OrdinalIgnoreCase))
        ?? throw new VirtException("StrategyNotFound", $"There is no strategy '{name}'. There are: {string.Join(", ", _strategies.Select(s => s.Info.Name))}.", null, name);

    public IDeviceFactory GetDeviceFactory(JsonObject spec)
    {
        string model = (string?)spec["model"] ?? "";
        return _factories.TryGetValue(model, out IDeviceFactory? factory)
            ? factory
            : throw new VirtException("DeviceModelNotFound", $"There is no device model '{model}'. There are: {string.Join(", ", _factories.Keys.Order())}.", null, model);
    }
}
