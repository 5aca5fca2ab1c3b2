using System.Globalization;
using System.Text.Json.Nodes;
using VirtPS.Sdk;

namespace VirtPS.Client.Store;

/// <summary>Reads a stored JSON object's properties; whatever is missing or of the wrong kind is an error that names the file and the property.</summary>
internal sealed class JsonReader(JsonObject json, string path, string prefix)
{
    public VirtException Missing(string name) => VmDocument.Unreadable(path, $"property '{prefix}{name}' is missing");

    public string String(string name) => OptionalString(name) ?? throw Missing(name);

    public string? OptionalString(string name) => json[name] is null ? null : Value<string>(name, "a string");

    public bool? OptionalBoolean(string name) => json[name] is null ? null : Value<bool>(name, "true or false");

    public int Int32(string name) => OptionalInt32(name) ?? throw Missing(name);

    public int? OptionalInt32(string name) => json[name] is null ? null : Value<int>(name, "a whole number");

    public ulong UInt64(string name) => OptionalUInt64(name) ?? throw Missing(name);

    public ulong? OptionalUInt64(string name) => json[name] is null ? null : Value<ulong>(name, "a whole number that is not negative");

    public Guid Guid(string name) => System.Guid.TryParseExact(String(name), "D", out Guid value) ? value : throw Wrong(name, "a GUID");

    public DateTimeOffset Time(string name) => OptionalTime(name) ?? throw Missing(name);

    public DateTimeOffset? OptionalTime(string name)
    {
        if (OptionalString(name) is not { } text)
            return null;
        return DateTimeOffset.TryParseExact(text, "O", CultureInfo.InvariantCulture, DateTimeStyles.None, out DateTimeOffset value) ? value : throw Wrong(name, "a time (ISO 8601)");
    }

    public T Enum<T>(string name, T missing) where T : struct, Enum
    {
        if (OptionalString(name) is not { } text)
            return missing;
        return System.Enum.TryParse(text, ignoreCase: true, out T value) && System.Enum.IsDefined(value) ? value : throw Wrong(name, "one of " + string.Join(", ", System.Enum.GetNames<T>()));
    }

    public JsonReader? Object(string name) => json[name] switch
    {
        null => null,
        JsonObject child => new JsonReader(child, path, $"{prefix}{name}."),
        _ => throw Wrong(name, "an object"),
    };

    public IReadOnlyDictionary<string, string> StringMap(string name)
    {
        if (Object(name) is not { } child)
            return new Dictionary<string, string>();
        return child.Names.ToDictionary(n => n, child.String);
    }

    public IReadOnlyList<string> Strings(string name) => [.. Array(name).Select(n => n is JsonValue v && v.TryGetValue(out string? s) ? s : throw Wrong(name, "an array of strings"))];

    public IReadOnlyList<JsonObject> Objects(string name) => [.. Array(name).Select(n => n is JsonObject o ? (JsonObject)o.DeepClone() : throw Wrong(name, "an array of objects"))];

    private IEnumerable<string> Names => json.Select(p => p.Key);

    private JsonArray Array(string name) => json[name] switch
    {
        null => [],
        JsonArray array => array,
        _ => throw Wrong(name, "an array"),
    };

    private T Value<T>(string name, string kind) => json[name] is JsonValue v && v.TryGetValue(out T? value) ? value : throw Wrong(name, kind);

    private VirtException Wrong(string name, string kind) => VmDocument.Unreadable(path, $"property '{prefix}{name}' is not {kind}");
}
