using System.Reflection;
using System.Runtime.Loader;
using McMaster.NETCore.Plugins.Loader;
using VirtPS.Sdk;
using VirtPS.Sdk.Devices;
using VirtPS.Sdk.Plugins;

namespace VirtPS.Engine.Catalog;

/// <summary>A plugin whose code is in this process, in a load context of its own. Never unloaded.</summary>
internal sealed class LoadedPlugin
{
    // Types that cross the border between plugins and the engine exist once. The last two are shared by the plugins that use them, where the host has them.
    private static readonly string[] s_sharedNames = ["VirtPS.Sdk", "VirtPS.X86", "VirtPS.Emulation", "Iced"];

    private readonly DiscoveredPlugin _plugin;
    private readonly Dictionary<string, IDeviceFactory> _factories = [];
    private readonly Dictionary<string, IStrategy> _strategies = new(StringComparer.OrdinalIgnoreCase);

    private LoadedPlugin(DiscoveredPlugin plugin, IPlugin entry)
    {
        _plugin = plugin;
        foreach (IDeviceFactory factory in entry.DeviceFactories)
            _factories[factory.Model] = factory;
        foreach (IStrategy strategy in entry.Strategies)
            _strategies[strategy.Info.Name] = strategy;
    }

    public IDeviceFactory Factory(string model) => _factories.GetValueOrDefault(model) ?? throw Failed(_plugin, $"its manifest names the model '{model}', which its code does not have");

    public IStrategy Strategy(string name) => _strategies.GetValueOrDefault(name) ?? throw Failed(_plugin, $"its manifest names the strategy '{name}', which its code does not have");

    /// <summary>Throws <see cref="VirtException"/> (<c>PluginLoadFailed</c>) with what is wrong.</summary>
    public static LoadedPlugin Load(DiscoveredPlugin plugin)
    {
        CheckSdk(plugin);
        string path = Path.Combine(plugin.Folder, plugin.Manifest!.Assembly);
        if (!File.Exists(path))
            throw Failed(plugin, $"its assembly '{plugin.Manifest.Assembly}' is missing");
        try
        {
            return new LoadedPlugin(plugin, CreateEntry(plugin, LoadAssembly(path)));
        }
        catch (VirtException)
        {
            throw;
        }
        catch (TargetInvocationException e)
        {
            throw Failed(plugin, $"its constructor failed: {e.InnerException?.Message ?? e.Message}", e.InnerException ?? e);
        }
        catch (BadImageFormatException e)
        {
            throw Failed(plugin, $"'{plugin.Manifest.Assembly}' is damaged or not a .NET assembly", e);
        }
        catch (Exception e) when (e is TypeLoadException or MissingMemberException or ReflectionTypeLoadException)
        {
            throw Failed(plugin, $"it was built against another VirtPS.Sdk: {e.Message}", e);
        }
        catch (Exception e)
        {
            throw Failed(plugin, e.Message, e);
        }
    }

    private static void CheckSdk(DiscoveredPlugin plugin)
    {
        if (SdkVersionRange.TryParse(plugin.Manifest!.Sdk, out SdkVersionRange? range) && range!.Contains(SdkVersionRange.Current))
            return;
        throw Failed(plugin, $"it is made for VirtPS.Sdk {plugin.Manifest.Sdk}; this is {SdkVersionRange.Current.ToString(3)}");
    }

    private static Assembly LoadAssembly(string path)
    {
        // The builder alone: PluginLoader would look into the .runtimeconfig.json of worker and plugin for further folders, and a plugin is one folder (its files' hashes are
        // what is registered). Lazy: what shared assemblies refer to comes from the worker as well, but is loaded when it is used, not all 70 at once.
        AssemblyLoadContextBuilder builder = new AssemblyLoadContextBuilder().SetMainAssemblyPath(path).IsLazyLoaded(true);
        foreach (string name in s_sharedNames.Where(IsInHost))
            builder.PreferDefaultLoadContextAssembly(new AssemblyName(name));
        return builder.Build().LoadFromAssemblyPath(path);
    }

    // The loader wants every shared assembly to be there; a host without the emulation lets its users bring their own.
    private static bool IsInHost(string name)
    {
        try
        {
            AssemblyLoadContext.Default.LoadFromAssemblyName(new AssemblyName(name));
            return true;
        }
        catch (FileNotFoundException)
        {
            return false;
        }
    }

    private static IPlugin CreateEntry(DiscoveredPlugin plugin, Assembly assembly)
    {
        Type type = assembly.GetCustomAttribute<PluginAttribute>()?.Type
            ?? throw Failed(plugin, $"'{plugin.Manifest!.Assembly}' has no [assembly: Plugin(typeof(…))]");
        return Activator.CreateInstance(type) as IPlugin
            ?? throw Failed(plugin, $"'{type.FullName}' does not implement VirtPS.Sdk.Plugins.IPlugin of this process");
    }

    private static VirtException Failed(DiscoveredPlugin plugin, string why, Exception? inner = null) =>
        new("PluginLoadFailed", $"The plugin '{plugin.Id}' in '{plugin.Folder}' cannot be used: {why}.", "Install a version of the plugin that fits, or remove its folder.", plugin.Id, inner);
}
