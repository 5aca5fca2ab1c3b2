using System.Reflection;
using System.Text.Json.Nodes;
using VirtPS.Engine;
using VirtPS.Sdk.Devices;
using VirtPS.Sdk.Plugins;

namespace VirtPS.Guest.Tests;

/// <summary>All plugins of the repository, loaded straight from this program's folder.</summary>
internal static class Parts
{
    public static IMachineParts Load()
    {
        List<IStrategy> strategies = [];
        List<KeyValuePair<string, IDeviceFactory>> factories = [];
        string folder = typeof(Parts).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>().Single(a => a.Key == "PluginsFolder").Value!;
        foreach (string manifest in Directory.EnumerateFiles(folder, "plugin.json", SearchOption.AllDirectories).Where(f => !f.Contains("/bin/", StringComparison.Ordinal)))
        {
            JsonNode json = JsonNode.Parse(File.ReadAllText(manifest))!;
            string file = Path.Combine(AppContext.BaseDirectory, (string)json["assembly"]!);
            if (!File.Exists(file))
                continue;
            Assembly assembly = Assembly.LoadFrom(file);
            var plugin = (IPlugin)Activator.CreateInstance(assembly.GetCustomAttribute<PluginAttribute>()!.Type)!;
            strategies.AddRange(plugin.Strategies);
            factories.AddRange(plugin.DeviceFactories.Select(f => KeyValuePair.Create($"{json["id"]}/{f.Model}", f)));
        }

        return new ListedParts(strategies, factories);
    }
}
