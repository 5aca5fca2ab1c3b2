using VirtPS.Sdk.Machine;

namespace VirtPS.Sdk.Plugins;

/// <summary>A folder whose sub-folders are plugins.</summary>
/// <param name="Path">The folder.</param>
/// <param name="Source">How it came to be looked at; from <see cref="PluginSource.Module"/> plugins load without registration.</param>
public sealed record PluginRoot(string Path, PluginSource Source);

/// <summary>A plugin found on disk: its folder and manifest, or why the manifest cannot be used. No plugin code has run.</summary>
public sealed record DiscoveredPlugin(string Folder, PluginSource Source, PluginManifest? Manifest, VirtException? Error)
{
    /// <summary>It came with the module: no registration is needed.</summary>
    public bool IsOwn => Source == PluginSource.Module;

    /// <summary>The manifest's id, else the folder's name.</summary>
    public string Id => Manifest?.Id ?? System.IO.Path.GetFileName(Folder);
}

/// <summary>Where plugins are looked for, and what is there.</summary>
public static class PluginLocations
{
    /// <summary>Names further folders, separated as in PATH.</summary>
    public const string PathVariable = "VIRTPS_PLUGIN_PATH";

    /// <summary>The module's own folder, the user's, those of <c>$VIRTPS_PLUGIN_PATH</c>, and registered folders elsewhere, in this order.</summary>
    /// <param name="moduleFolder">Folder that has <c>plugins/</c> in it; null where there is none.</param>
    /// <param name="registry">The user's registry; null leaves registered folders out.</param>
    public static IReadOnlyList<PluginRoot> Default(string? moduleFolder, PluginRegistry? registry)
    {
        List<PluginRoot> roots = [];
        if (moduleFolder is not null)
            roots.Add(new(Path.Combine(moduleFolder, "plugins"), PluginSource.Module));
        roots.Add(new(UserFolder, PluginSource.User));
        string? more = Environment.GetEnvironmentVariable(PathVariable);
        if (!string.IsNullOrEmpty(more))
            roots.AddRange(more.Split(Path.PathSeparator, StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries).Select(p => new PluginRoot(Path.GetFullPath(p), PluginSource.PluginPath)));
        if (registry is not null)
            roots.AddRange(registry.Read().Select(r => new PluginRoot(r.Folder, PluginSource.Registered)));
        return roots;
    }

    /// <summary><c>$XDG_DATA_HOME/virtps/plugins</c>, on Windows <c>%LOCALAPPDATA%\VirtPS\plugins</c>.</summary>
    public static string UserFolder => Path.Combine(UserData, "plugins");

    /// <summary>The user's plugin registry file: in the store where <c>$VIRTPS_HOME</c> is set, else beside the user's plugins.</summary>
    public static string RegistryFile =>
        Environment.GetEnvironmentVariable("VIRTPS_HOME") is { Length: > 0 } home ? Path.Combine(Path.GetFullPath(home), "plugins.json") : Path.Combine(UserData, "plugins.json");

    private static string UserData
    {
        get
        {
            if (OperatingSystem.IsWindows())
                return Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.LocalApplicationData), "VirtPS");
            string? data = Environment.GetEnvironmentVariable("XDG_DATA_HOME");
            return Path.Combine(string.IsNullOrEmpty(data) ? Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".local", "share") : data, "virtps");
        }
    }

    /// <summary>
    /// Reads the manifests below <paramref name="roots"/>: a root's sub-folders that hold <c>plugin.json</c>, or a root that holds one itself. A broken manifest is an entry
    /// with an error; of two plugins with one id the first wins and the second is an entry with an error.
    /// </summary>
    public static IReadOnlyList<DiscoveredPlugin> Discover(IEnumerable<PluginRoot> roots)
    {
        List<DiscoveredPlugin> found = [];
        foreach (PluginRoot root in roots)
        {
            foreach (string folder in PluginFolders(root.Path))
            {
                // A registered folder is also listed by itself.
                if (found.All(p => p.Folder != folder))
                    found.Add(Open(folder, root.Source, found));
            }
        }

        return found;
    }

    private static IEnumerable<string> PluginFolders(string root)
    {
        if (!Directory.Exists(root))
            return [];
        return File.Exists(Path.Combine(root, PluginManifest.FileName))
            ? [root]
            : Directory.EnumerateDirectories(root).Where(d => File.Exists(Path.Combine(d, PluginManifest.FileName))).Order(StringComparer.Ordinal);
    }

    private static DiscoveredPlugin Open(string folder, PluginSource source, List<DiscoveredPlugin> earlier)
    {
        PluginManifest manifest;
        try
        {
            manifest = PluginManifest.Read(Path.Combine(folder, PluginManifest.FileName));
        }
        catch (VirtException e)
        {
            return new(folder, source, null, e);
        }

        DiscoveredPlugin? other = earlier.FirstOrDefault(p => p.Error is null && p.Id == manifest.Id);
        return other is null
            ? new(folder, source, manifest, null)
            : new(folder, source, manifest, new VirtException("PluginLoadFailed", $"The plugin in '{folder}' has the id '{manifest.Id}', which the one in '{other.Folder}' has already.", "Remove one of them.", folder));
    }
}
