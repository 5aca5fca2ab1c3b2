namespace VirtPS.Shell.Hosting;

/// <summary>Where the shell looks for the VirtPS module and, in the source tree, for the Pester runner.</summary>
internal static class ModulePaths
{
    private const string ManifestName = "VirtPS.psd1";

    /// <summary>
    /// Adds this installation's folders to PSModulePath: the module first (a shell and its module belong together), the Pester runner last
    /// (a genuine Pester wins).
    /// </summary>
    public static void Extend(string baseDirectory)
    {
        var before = new List<string>();
        var after = new List<string>();
        if (FindRepository(baseDirectory) is { } repository)
        {
            before.Add(Path.Combine(repository, "artifacts", "module"));
            after.Add(Path.Combine(repository, "tests", "pester", "runner"));
        }
        if (FindPackaged(baseDirectory) is { } packaged)
        {
            before.Insert(0, packaged);
        }
        string[] current = (Environment.GetEnvironmentVariable("PSModulePath") ?? "")
            .Split(Path.PathSeparator, StringSplitOptions.RemoveEmptyEntries);
        Environment.SetEnvironmentVariable("PSModulePath", string.Join(Path.PathSeparator, before.Concat(current).Concat(after).Distinct()));
    }

    /// <summary>The root of the source tree the executable was built in: the nearest folder above that holds the manifest; else null.</summary>
    internal static string? FindRepository(string baseDirectory)
    {
        for (DirectoryInfo? folder = new(baseDirectory); folder is not null; folder = folder.Parent)
        {
            // A packaged module folder holds the manifest too, but no sources.
            if (File.Exists(Path.Combine(folder.FullName, ManifestName)) && Directory.Exists(Path.Combine(folder.FullName, "src", "Shell")))
            {
                return folder.FullName;
            }
        }
        return null;
    }

    /// <summary>The folder that contains VirtPS/VirtPS.psd1, looked for in and beside the executable's folder; else null.</summary>
    internal static string? FindPackaged(string baseDirectory)
    {
        string here = Path.TrimEndingDirectorySeparator(Path.GetFullPath(baseDirectory));
        string?[] candidates = [here, Path.Combine(here, "Modules"), Path.GetDirectoryName(here), Path.GetDirectoryName(Path.GetDirectoryName(here))];
        return candidates.FirstOrDefault(c => c is not null && File.Exists(Path.Combine(c, "VirtPS", ManifestName)));
    }
}
