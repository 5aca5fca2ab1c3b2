using VirtPS.Sdk;

namespace VirtPS.Client.Processes;

/// <summary>Finds the program that runs a VM: the packaged worker, else <c>dotnet virtps-worker.dll</c>.</summary>
internal static class WorkerLocator
{
    private const string Name = "virtps-worker";

    /// <summary>
    /// The command to start a worker with. Looked for in <c>$VIRTPS_WORKER</c>, then in <c>worker/</c> under the module's folder,
    /// then in the source tree's build output. Errors: WorkerNotFound, which lists the places.
    /// </summary>
    public static IReadOnlyList<string> Find(VirtHostOptions options)
    {
        if (options.WorkerCommand is { Count: > 0 } given)
            return given;
        var tried = new List<string>();
        foreach (string folder in Folders(options))
        {
            string program = Path.Combine(folder, OperatingSystem.IsWindows() ? Name + ".exe" : Name);
            string assembly = Path.Combine(folder, Name + ".dll");
            tried.Add(folder);
            // A framework-dependent build has a program, too: it needs the runtime that its .runtimeconfig.json asks for.
            if (File.Exists(program) && (File.Exists(Path.Combine(folder, HostPolicy)) || !File.Exists(assembly)))
                return [program];
            if (File.Exists(assembly) && FindDotnet() is { } dotnet)
                return [dotnet, assembly];
            if (File.Exists(assembly))
                throw new VirtException(ErrorIds.WorkerNotFound, $"'{assembly}' needs the .NET 10 runtime, and no 'dotnet' was found.", "Install the .NET runtime 10 or newer, or use the packaged module, which brings its own.", assembly);
        }

        throw new VirtException(ErrorIds.WorkerNotFound, $"There is no virtps-worker in: {string.Join(", ", tried)}.", "Build the project (build.ps1 -Task Build), or set VIRTPS_WORKER to the folder that has virtps-worker.");
    }

    private static string HostPolicy => OperatingSystem.IsWindows() ? "hostpolicy.dll" : OperatingSystem.IsMacOS() ? "libhostpolicy.dylib" : "libhostpolicy.so";

    private static IEnumerable<string> Folders(VirtHostOptions options)
    {
        if (Environment.GetEnvironmentVariable("VIRTPS_WORKER") is { Length: > 0 } named)
            yield return Path.GetFullPath(named);
        if (ModuleLocator.Find(options) is { } module)
            yield return Path.Combine(module, "worker");
        for (DirectoryInfo? folder = new(ModuleLocator.ClientFolder); folder is not null; folder = folder.Parent)
        {
            // The root of the source tree.
            if (File.Exists(Path.Combine(folder.FullName, "Directory.Packages.props")) && Directory.Exists(Path.Combine(folder.FullName, "src", "Worker")))
            {
                yield return Path.Combine(folder.FullName, "src", "Worker", "bin", "Release", "net10.0");
                yield return Path.Combine(folder.FullName, "src", "Worker", "bin", "Debug", "net10.0");
                yield break;
            }
        }
    }

    private static string? FindDotnet()
    {
        string name = OperatingSystem.IsWindows() ? "dotnet.exe" : "dotnet";
        // A shell that was itself started through dotnet knows best which one works.
        if (Environment.ProcessPath is { } self && Path.GetFileName(self) == name)
            return self;
        IEnumerable<string?> folders =
        [
            Environment.GetEnvironmentVariable("DOTNET_ROOT"),
            .. (Environment.GetEnvironmentVariable("PATH") ?? "").Split(Path.PathSeparator),
            OperatingSystem.IsWindows() ? Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.ProgramFiles), "dotnet") : "/usr/share/dotnet",
            "/usr/lib/dotnet",
        ];
        return folders.Where(f => !string.IsNullOrEmpty(f)).Select(f => Path.Combine(f!, name)).FirstOrDefault(File.Exists);
    }
}
