namespace VirtPS.Client.Processes;

/// <summary>Finds the module's folder: the one with VirtPS.psd1, <c>client/</c>, <c>plugins/</c> and <c>worker/</c> in it.</summary>
internal static class ModuleLocator
{
    /// <summary>The folder of VirtPS.Client.dll; in a single-file program, the program's.</summary>
    public static string ClientFolder =>
        typeof(ModuleLocator).Assembly.Location is { Length: > 0 } location ? Path.GetDirectoryName(location)! : AppContext.BaseDirectory;

    /// <summary>As given, else the packaged module that the client is in, else the one built in the source tree around it; null where there is none.</summary>
    public static string? Find(VirtHostOptions options)
    {
        if (options.ModulePath is { } given)
            return Path.GetFullPath(given);
        for (DirectoryInfo? folder = new(ClientFolder); folder is not null; folder = folder.Parent)
        {
            if (IsModule(folder.FullName))
                return folder.FullName;
            string built = Path.Combine(folder.FullName, "artifacts", "module", "VirtPS");
            if (IsModule(built))
                return built;
        }

        return null;
    }

    // The source tree's root has VirtPS.psd1 and plugins/, too, but no VirtPS.dll.
    private static bool IsModule(string folder) => File.Exists(Path.Combine(folder, "VirtPS.psd1")) && File.Exists(Path.Combine(folder, "VirtPS.dll"));
}
