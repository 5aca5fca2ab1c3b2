using System.Reflection;
using System.Text.Json.Nodes;
using VirtPS.Sdk.Plugins;

namespace VirtPS.Devices.Tests;

/// <summary>What plugin.json tells the shell is what the assembly has.</summary>
public sealed class ManifestTests
{
    public static TheoryData<string> Folders => [.. Directory.GetDirectories(Root).Where(d => File.Exists(Path.Combine(d, "plugin.json"))).Select(d => Path.GetFileName(d)!)];

    private static string Root =>
        typeof(ManifestTests).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>().Single(a => a.Key == "PluginsFolder").Value!;

    [Theory]
    [MemberData(nameof(Folders))]
    public void Manifest_and_assembly_agree(string folder)
    {
        JsonObject manifest = JsonNode.Parse(File.ReadAllText(Path.Combine(Root, folder, "plugin.json")))!.AsObject();
        Assembly assembly = Assembly.Load(Path.GetFileNameWithoutExtension((string)manifest["assembly"]!));
        IPlugin plugin = (IPlugin)Activator.CreateInstance(assembly.GetCustomAttribute<PluginAttribute>()!.Type)!;
        IDeviceFactory[] factories = [.. plugin.DeviceFactories];
        JsonArray models = manifest["models"]!.AsArray();
        Assert.Equal(factories.Select(f => f.Model).Order(), models.Select(m => (string)m!["id"]!).Order());
        foreach (IDeviceFactory factory in factories)
        {
            JsonArray properties = models.Single(m => (string)m!["id"]! == factory.Model)!["properties"]!.AsArray();
            Type spec = factory.GetType().BaseType!.GetGenericArguments().Single();
            Assert.Equal(
                spec.GetProperties().Select(p => p.Name.ToUpperInvariant()).Order(),
                properties.Select(p => ((string)p!["name"]!).ToUpperInvariant()).Order());
            object defaults = Activator.CreateInstance(spec)!;
            foreach (JsonNode? property in properties)
            {
                object? actual = spec.GetProperty((string)property!["name"]!, BindingFlags.IgnoreCase | BindingFlags.Public | BindingFlags.Instance)!.GetValue(defaults);
                Assert.Equal(System.Text.Json.JsonSerializer.Serialize(actual), property["default"]?.ToJsonString() ?? "null");
            }
        }
    }
}
