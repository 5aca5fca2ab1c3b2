using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using VirtPS.Sdk;
using VirtPS.Sdk.Plugins;

namespace VirtPS.Engine.Catalog;

/// <summary>Checks device specs and strategy options against what the manifests say, without running plugin code.</summary>
public static class SpecValidator
{
    // What every spec may have: its own name and model, and the vCPU of a per-processor device, which is the machine's business.
    private static readonly string[] s_common = ["model", "name", "vcpu"];

    /// <summary>Throws <see cref="VirtException"/> (<c>DevicePropertyInvalid</c>) that names the property and what there is.</summary>
    public static void CheckSpec(string modelId, DeviceModelManifest model, JsonObject spec)
    {
        string device = (string?)spec["name"] ?? modelId;
        foreach ((string name, JsonNode? value) in spec)
        {
            if (s_common.Contains(name))
                continue;
            PropertyManifest property = model.Properties.FirstOrDefault(p => p.Name.Equals(name, StringComparison.OrdinalIgnoreCase))
                ?? throw Invalid(device, $"'{modelId}' has no property '{name}'. It has: {List(model.Properties.Select(p => p.Name))}.");
            if (value is not null)
                CheckValue(device, property, value);
        }

        if (model.Properties.FirstOrDefault(p => p.Required && !spec.Any(s => s.Key.Equals(p.Name, StringComparison.OrdinalIgnoreCase))) is { } missing)
            throw Invalid(device, $"'{modelId}' needs the property '{missing.Name}'. {missing.Help}".TrimEnd());
    }

    /// <summary>Throws <see cref="VirtException"/> (<c>StrategyOptionInvalid</c>).</summary>
    public static void CheckOptions(StrategyManifest strategy, IReadOnlyDictionary<string, string> options)
    {
        foreach ((string name, string value) in options)
        {
            PropertyManifest option = strategy.Options.FirstOrDefault(o => o.Name.Equals(name, StringComparison.OrdinalIgnoreCase))
                ?? throw new VirtException("StrategyOptionInvalid", $"The strategy '{strategy.Name}' has no option '{name}'. It has: {List(strategy.Options.Select(o => o.Name))}.", null, name);
            if (option.Values is { Count: > 0 } values && !values.Contains(value, StringComparer.OrdinalIgnoreCase))
                throw new VirtException("StrategyOptionInvalid", $"The option '{name}' of strategy '{strategy.Name}' is '{value}'; it may be: {List(values)}.", null, name);
            if (!TextFits(option.Type, value))
                throw new VirtException("StrategyOptionInvalid", $"The option '{name}' of strategy '{strategy.Name}' is '{value}'; it must be of type {option.Type}.", null, name);
        }
    }

    private static void CheckValue(string device, PropertyManifest property, JsonNode value)
    {
        JsonValueKind kind = value.GetValueKind();
        string text = kind == JsonValueKind.String ? value.GetValue<string>() : value.ToJsonString();
        bool fits = property.Type switch
        {
            "string" => kind == JsonValueKind.String,
            "boolean" or "bool" => kind is JsonValueKind.True or JsonValueKind.False,
            "object" => kind == JsonValueKind.Object,
            "array" => kind == JsonValueKind.Array,
            // Numbers may be written as strings (DeviceJson.Options reads them so).
            _ => kind is JsonValueKind.Number or JsonValueKind.String && TextFits(property.Type, text),
        };
        if (!fits)
            throw Invalid(device, $"property '{property.Name}' is {value.ToJsonString()}; it must be of type {property.Type}.");
        if (property.Values is { Count: > 0 } values && !values.Contains(text, StringComparer.OrdinalIgnoreCase))
            throw Invalid(device, $"property '{property.Name}' is '{text}'; it may be: {List(values)}.");
    }

    private static bool TextFits(string type, string text) => type switch
    {
        "integer" or "int" => Int128.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out _),
        "number" => double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out _),
        "boolean" or "bool" => bool.TryParse(text, out _),
        _ => true,
    };

    private static string List(IEnumerable<string> names)
    {
        string all = string.Join(", ", names.Order(StringComparer.Ordinal));
        return all.Length == 0 ? "none" : all;
    }

    private static VirtException Invalid(string device, string what) =>
        new("DevicePropertyInvalid", $"Device '{device}': {what}", "Get-VirtDeviceModel lists the models and their properties.", device);
}
