using VirtPS.Client.Platform;
using VirtPS.Sdk;

namespace VirtPS.Client.Store;

/// <summary>Where things are. Nothing here touches the disk except <see cref="EnsureRuntimeFolder"/>.</summary>
internal sealed class StorePaths(string root)
{
    /// <summary>sun_path holds 108 bytes with the final zero (unix(7)); macOS 104.</summary>
    private const int MaxSocketPath = 100;

    public string Root { get; } = Path.GetFullPath(root);

    public string VirtualMachines => Path.Combine(Root, "vms");

    /// <summary>Held while a name is chosen.</summary>
    public string StoreLock => Path.Combine(Root, "store.lock");

    public string Folder(Guid id) => Path.Combine(VirtualMachines, id.ToString("D"));

    public string Document(Guid id) => Path.Combine(Folder(id), "vm.json");

    public string VmLock(Guid id) => Path.Combine(Folder(id), "lock");

    public string ConsoleLog(Guid id) => Path.Combine(Folder(id), "console.log");

    /// <summary>Older output, then newer; either may be missing.</summary>
    public IReadOnlyList<string> ConsoleLogs(Guid id) => [Path.Combine(Folder(id), "console.1.log"), ConsoleLog(id)];

    public string WorkerLog(Guid id) => Path.Combine(Folder(id), "worker.log");

    /// <summary><c>$VIRTPS_HOME</c>, else <c>%LOCALAPPDATA%\VirtPS</c> or <c>$XDG_STATE_HOME/virtps</c> or <c>~/.local/state/virtps</c>.</summary>
    public static string DefaultRoot()
    {
        if (Environment.GetEnvironmentVariable("VIRTPS_HOME") is { Length: > 0 } home)
            return home;
        if (OperatingSystem.IsWindows())
            return Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.LocalApplicationData), "VirtPS");
        // The XDG base directory specification has relative values ignored.
        if (Environment.GetEnvironmentVariable("XDG_STATE_HOME") is { Length: > 0 } state && Path.IsPathRooted(state))
            return Path.Combine(state, "virtps");
        return Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".local", "state", "virtps");
    }

    /// <summary>Where a run's socket goes: a path short enough, in a folder that is the user's alone. On Windows a pipe's name.</summary>
    public static string SocketFor(Guid runId)
    {
        string name = runId.ToString("N")[..16];
        if (OperatingSystem.IsWindows())
            return "virtps-" + name;
        string? runtime = Environment.GetEnvironmentVariable("XDG_RUNTIME_DIR");
        if (!string.IsNullOrEmpty(runtime) && Path.IsPathRooted(runtime) && Directory.Exists(runtime))
        {
            string inRuntime = Path.Combine(runtime, "virtps", name + ".sock");
            if (System.Text.Encoding.UTF8.GetByteCount(inRuntime) <= MaxSocketPath)
                return inRuntime;
        }

        return $"/tmp/virtps-{Posix.UserId}/{name}.sock";
    }

    /// <summary>Removes the socket that a dead run left. The path comes from a file, so only one that such a run makes is touched.</summary>
    public static void RemoveSocket(RunRecord run)
    {
        if (OperatingSystem.IsWindows() || run.Socket != SocketFor(run.RunId))
            return;
        try
        {
            File.Delete(run.Socket);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // It is in nobody's way: each run has a socket of its own.
        }
    }

    /// <summary>Makes the socket's folder with mode 0700, or makes sure that it is one and not somebody else's.</summary>
    public static void EnsureRuntimeFolder(string socket)
    {
        if (OperatingSystem.IsWindows())
            return;
        string folder = Path.GetDirectoryName(socket)!;
        const UnixFileMode Private = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute;
        var info = new DirectoryInfo(folder);
        if (!info.Exists)
            Directory.CreateDirectory(folder, Private);
        info.Refresh();
        if (info.LinkTarget is not null)
            throw new VirtException(ErrorIds.AccessDenied, $"'{folder}' is a symbolic link; sockets need a folder of the user's own.", "Remove it, or set XDG_RUNTIME_DIR to a private folder.", folder);
        try
        {
            if (OperatingSystem.IsLinux() && Posix.OwnerOf(folder) != Posix.UserId)
                throw new UnauthorizedAccessException("Another owner.");
            // Elsewhere: only the owner may do this, so it is also the test of whose folder it is.
            File.SetUnixFileMode(folder, Private);
        }
        catch (Exception e) when (e is UnauthorizedAccessException or IOException)
        {
            throw new VirtException(ErrorIds.AccessDenied, $"'{folder}' belongs to another user.", "Remove it, or set XDG_RUNTIME_DIR to a private folder.", folder, e);
        }
    }
}
