using System.Text.Json;
using System.Text.Json.Nodes;

namespace VirtPS.Sdk.Plugins;

/// <summary>Makes a <see cref="PluginManifest"/> of a JSON object. Missing fields have their defaults, unknown ones are ignored.</summary>
internal static class ManifestReader
{
    /// <summary>A field has the wrong kind of value.</summary>
    public sealed class FieldException(string message) : Exception(message);

    public static PluginManifest ReadPlugin(JsonObject json) => new()
    {
        Id = Text(json, "id"),
        Version = Text(json, "version"),
        Kind = Text(json, "kind"),
        Assembly = Text(json, "assembly"),
        Sdk = Text(json, "sdk"),
        Description = Text(json, "description"),
        Models = Objects(json, "models", m => new DeviceModelManifest
        {
            Id = Text(m, "id"),
            Description = Text(m, "description"),
            Class = Text(m, "class"),
            Properties = Objects(m, "properties", ReadProperty),
        }),
        Strategies = Objects(json, "strategies", s => new StrategyManifest
        {
            Name = Text(s, "name"),
            Description = Text(s, "description"),
            Disk = Text(s, "disk"),
            Options = Objects(s, "options", ReadProperty),
        }),
    };

    private static PropertyManifest ReadProperty(JsonObject json) => new()
    {
        Name = Text(json, "name"),
        Type = Text(json, "type") is { Length: > 0 } type ? type : "string",
        Default = json["default"]?.DeepClone(),
        Required = json["required"] switch
        {
            null => false,
            JsonValue v when v.GetValueKind() is JsonValueKind.True or JsonValueKind.False => v.GetValue<bool>(),
            _ => throw new FieldException("'required' is not true or false"),
        },
        Values = json["values"] switch
        {
            null => null,
            JsonArray array => [.. array.Select(v => v is JsonValue text && text.GetValueKind() == JsonValueKind.String ? text.GetValue<string>() : throw new FieldException("'values' is not an array of strings"))],
            _ => throw new FieldException("'values' is not an array of strings"),
        },
        Help = Text(json, "help"),
    };

    private static string Text(JsonObject json, string name) => json[name] switch
    {
        null => "",
        JsonValue v when v.GetValueKind() == JsonValueKind.String => v.GetValue<string>(),
        _ => throw new FieldException($"'{name}' is not a string"),
    };

    private static List<T> Objects<T>(JsonObject json, string name, Func<JsonObject, T> read) => json[name] switch
    {
        null => [],
        JsonArray array => [.. array.Select(n => n is JsonObject o ? read(o) : throw new FieldException($"'{name}' is not an array of objects"))],
        _ => throw new FieldException($"'{name}' is not an array of objects"),
    };
}
