using System.Text.Json;
using System.Text.Json.Nodes;
using VirtPS.Sdk;
using VirtPS.Sdk.Plugins;

namespace VirtPS.Client.Plugins;

/// <summary>Checks a device spec against its model's manifest, so that a wrong property is said when it is typed and not when the VM starts.</summary>
internal static class DevicePropertyCheck
{
    public static void Check(JsonObject device, string model, IReadOnlyList<PropertyManifest> properties)
    {
        foreach ((string name, JsonNode? value) in device)
        {
            if (name is "model" or "name")
                continue;
            PropertyManifest property = properties.FirstOrDefault(p => p.Name.Equals(name, StringComparison.OrdinalIgnoreCase))
                ?? throw Invalid(name, $"Model '{model}' has no property '{name}'. It has: {(properties.Count > 0 ? string.Join(", ", properties.Select(p => p.Name)) : "none")}.");
            if (value is not null && !IsOfType(value, property.Type))
                throw Invalid(name, $"Property '{name}' of model '{model}' takes {TypeName(property.Type)}, not {value.ToJsonString()}.");
            if (value is not null && property.Values is { Count: > 0 } allowed && !allowed.Contains(value.ToString(), StringComparer.OrdinalIgnoreCase))
                throw Invalid(name, $"Property '{name}' of model '{model}' cannot be {value.ToJsonString()}. It takes: {string.Join(", ", allowed)}.");
        }

        PropertyManifest? missing = properties.FirstOrDefault(p => p.Required && !device.Any(d => d.Value is not null && d.Key.Equals(p.Name, StringComparison.OrdinalIgnoreCase)));
        if (missing is not null)
            throw Invalid(missing.Name, $"Model '{model}' needs the property '{missing.Name}'. {missing.Help}");
    }

    /// <summary>Manifests may use the short names.</summary>
    public static string TypeName(string type) => type switch
    {
        "int" => "integer",
        "bool" => "boolean",
        _ => type,
    };

    private static bool IsOfType(JsonNode value, string type) => TypeName(type) switch
    {
        "string" => value.GetValueKind() == JsonValueKind.String,
        "integer" => IsInteger(value),
        "number" => value.GetValueKind() == JsonValueKind.Number,
        "boolean" => value.GetValueKind() is JsonValueKind.True or JsonValueKind.False,
        "array" => value is JsonArray,
        "object" => value is JsonObject,
        // A type that a newer manifest has invented is left to the device itself.
        _ => true,
    };

    private static bool IsInteger(JsonNode value)
    {
        if (value.GetValueKind() != JsonValueKind.Number)
            return false;
        string digits = value.ToJsonString();
        return digits.TrimStart('-').All(char.IsAsciiDigit);
    }

    private static VirtException Invalid(string name, string message) =>
        new(ErrorIds.DevicePropertyInvalid, message, "Get-VirtDeviceModel lists the properties and their types.", name);
}
