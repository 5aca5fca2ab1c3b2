using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using VirtPS.Sdk;
using VirtPS.Sdk.Machine;

namespace VirtPS.Client.Store;

/// <summary>Device specs as vm.json holds them: JSON objects with <c>model</c> and <c>name</c>.</summary>
internal static class DeviceList
{
    private const string Model = "model", Name = "name";

    public static string NameOf(JsonObject device) => Text(device, Name) ?? "";

    public static string ModelOf(JsonObject device) => Text(device, Model) ?? "";

    /// <summary>Makes sure that a new device has a model, and a name that none of <paramref name="others"/> has.</summary>
    public static void Complete(JsonObject device, IReadOnlyList<JsonObject> others)
    {
        string model = ModelOf(device);
        int slash = model.IndexOf('/', StringComparison.Ordinal);
        if (slash <= 0 || slash == model.Length - 1)
            throw new VirtException(ErrorIds.DevicePropertyInvalid, $"A device's 'model' is '{model}'; it must be 'plugin/model'.", "Get-VirtDeviceModel lists what there is.", model);
        string name = NameOf(device);
        if (name.Length > 0)
        {
            if (Find(others, name) is not null)
                throw new VirtException(ErrorIds.DeviceNameInUse, $"The VM has a device named '{name}' already.", "Choose another name.", name);
            return;
        }

        string stem = model[(slash + 1)..];
        int number = 0;
        while (Find(others, stem + number.ToString(CultureInfo.InvariantCulture)) is not null)
            number++;
        device[Name] = stem + number.ToString(CultureInfo.InvariantCulture);
    }

    /// <summary>The VM's devices without one. Errors: DeviceNotFound.</summary>
    public static IReadOnlyList<JsonObject> Without(VmConfiguration configuration, string name)
    {
        JsonObject doomed = Find(configuration.Devices, name) ?? throw NotFound(configuration, name);
        return [.. configuration.Devices.Where(d => d != doomed)];
    }

    public static JsonObject? Find(IEnumerable<JsonObject> devices, string name) =>
        devices.FirstOrDefault(d => NameOf(d).Equals(name, StringComparison.OrdinalIgnoreCase));

    public static VirtException NotFound(VmConfiguration configuration, string name)
    {
        string there = configuration.Devices.Count == 0 ? "It has none that were added." : $"It has: {string.Join(", ", configuration.Devices.Select(NameOf))}.";
        return new VirtException(ErrorIds.DeviceNotFound, $"VM '{configuration.Name}' has no device '{name}'. {there}", "Get-VirtVMDevice lists them.", name);
    }

    /// <summary>The properties as plain .NET values.</summary>
    public static IReadOnlyDictionary<string, object?> PropertiesOf(JsonObject device) =>
        device.Where(p => p.Key is not (Model or Name)).ToDictionary(p => p.Key, p => Plain(p.Value), StringComparer.OrdinalIgnoreCase);

    private static object? Plain(JsonNode? node) => node?.GetValueKind() switch
    {
        null or JsonValueKind.Null => null,
        JsonValueKind.String => node.GetValue<string>(),
        JsonValueKind.True => true,
        JsonValueKind.False => false,
        JsonValueKind.Number => long.TryParse(node.ToJsonString(), NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out long whole)
            ? (object)whole
            : double.Parse(node.ToJsonString(), CultureInfo.InvariantCulture),
        _ => node.ToJsonString(),
    };

    private static string? Text(JsonObject device, string property) => device[property] is JsonValue v && v.TryGetValue(out string? text) ? text : null;
}
