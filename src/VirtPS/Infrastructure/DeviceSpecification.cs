using System.Collections;
using System.Management.Automation;
using System.Text.Json.Nodes;

namespace VirtPS.Infrastructure;

/// <summary>Turns the hashtables that people write into device specs.</summary>
internal static class DeviceSpecification
{
    internal static JsonObject FromHashtable(Hashtable table)
    {
        var spec = new JsonObject();
        foreach (DictionaryEntry entry in table)
        {
            string key = $"{entry.Key}";
            spec[char.ToLowerInvariant(key[0]) + key[1..]] = ToNode(entry.Value);
        }

        return spec;
    }

    private static JsonNode? ToNode(object? value) => (value is PSObject wrapped ? wrapped.BaseObject : value) switch
    {
        null => null,
        string s => JsonValue.Create(s),
        bool b => JsonValue.Create(b),
        SwitchParameter s => JsonValue.Create(s.IsPresent),
        int i => JsonValue.Create(i),
        long l => JsonValue.Create(l),
        uint u => JsonValue.Create(u),
        ulong u => JsonValue.Create(u),
        double d => JsonValue.Create(d),
        Hashtable nested => FromHashtable(nested),
        IEnumerable items => new JsonArray([.. items.Cast<object?>().Select(ToNode)]),
        object other => JsonValue.Create(other.ToString()),
    };
}
