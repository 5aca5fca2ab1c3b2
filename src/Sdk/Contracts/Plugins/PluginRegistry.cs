using System.Security.Cryptography;
using System.Text.Json;

namespace VirtPS.Sdk.Plugins;

/// <summary>A plugin that the user has registered: its folder and the hash of every file in it at that time.</summary>
/// <param name="Id">The manifest's id.</param>
/// <param name="Folder">Full path.</param>
/// <param name="RegisteredAt">When.</param>
/// <param name="Files">SHA-256 in hexadecimal by path relative to the folder, with forward slashes.</param>
public sealed record PluginRegistration(string Id, string Folder, DateTimeOffset RegisteredAt, IReadOnlyDictionary<string, string> Files);

/// <summary>
/// The user's list of plugins that may be loaded from outside the module's own folder. The hash detects change, no more: a plugin runs with its user's
/// rights. One file, replaced as a whole; thread-safe within a process, last writer wins between processes.
/// </summary>
public sealed class PluginRegistry(string path)
{
    private static readonly JsonSerializerOptions s_options = new() { WriteIndented = true, PropertyNameCaseInsensitive = true };

    private readonly Lock _gate = new();

    /// <summary>The registry file.</summary>
    public string Path { get; } = path;

    /// <summary>All registrations; empty when there is no file. Throws <see cref="VirtException"/> (<c>PluginRegistryInvalid</c>) when it is damaged.</summary>
    public IReadOnlyList<PluginRegistration> Read()
    {
        try
        {
            return JsonSerializer.Deserialize<List<PluginRegistration>>(File.ReadAllBytes(Path), s_options) ?? [];
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            return [];
        }
        catch (JsonException e)
        {
            throw new VirtException("PluginRegistryInvalid", $"The plugin registry '{Path}' is damaged (line {e.LineNumber + 1}).", "Delete it and register the plugins again.", Path, e);
        }
    }

    /// <summary>Records the hash of every file in <paramref name="folder"/>. A registration of the same folder is replaced.</summary>
    public PluginRegistration Register(string folder)
    {
        folder = Normalize(folder);
        PluginManifest manifest = PluginManifest.Read(System.IO.Path.Combine(folder, PluginManifest.FileName));
        var registration = new PluginRegistration(manifest.Id, folder, DateTimeOffset.UtcNow, HashFolder(folder));
        lock (_gate)
            Write([.. Read().Where(r => r.Folder != folder), registration]);
        return registration;
    }

    /// <summary>Forgets the registration of a folder; false when there was none.</summary>
    public bool Unregister(string folder)
    {
        folder = Normalize(folder);
        lock (_gate)
        {
            IReadOnlyList<PluginRegistration> all = Read();
            if (all.All(r => r.Folder != folder))
                return false;
            Write([.. all.Where(r => r.Folder != folder)]);
            return true;
        }
    }

    /// <summary>
    /// Compares every file with what was registered. Throws <see cref="VirtException"/> (<c>PluginNotRegistered</c>) when the folder was never registered, or a file was
    /// changed, added or removed since: the message names it.
    /// </summary>
    public void Verify(string folder)
    {
        folder = Normalize(folder);
        PluginRegistration registration = Read().LastOrDefault(r => r.Folder == folder)
            ?? throw NotRegistered(folder, $"The plugin in '{folder}' is not registered.");
        IReadOnlyDictionary<string, string> now = HashFolder(folder);
        foreach ((string file, string hash) in registration.Files)
        {
            if (!now.TryGetValue(file, out string? present))
                throw NotRegistered(folder, $"The plugin in '{folder}' has lost '{file}' since it was registered.");
            if (present != hash)
                throw NotRegistered(folder, $"The plugin in '{folder}' was changed since it was registered: '{file}' differs.");
        }

        if (now.Keys.FirstOrDefault(f => !registration.Files.ContainsKey(f)) is { } added)
            throw NotRegistered(folder, $"The plugin in '{folder}' was changed since it was registered: '{added}' is new.");
    }

    /// <summary>SHA-256 of every file below <paramref name="folder"/>.</summary>
    public static IReadOnlyDictionary<string, string> HashFolder(string folder)
    {
        var hashes = new SortedDictionary<string, string>(StringComparer.Ordinal);
        foreach (string file in Directory.EnumerateFiles(folder, "*", SearchOption.AllDirectories))
        {
            using FileStream stream = File.OpenRead(file);
            hashes[System.IO.Path.GetRelativePath(folder, file).Replace('\\', '/')] = Convert.ToHexString(SHA256.HashData(stream));
        }

        return hashes;
    }

    private void Write(List<PluginRegistration> registrations)
    {
        Directory.CreateDirectory(System.IO.Path.GetDirectoryName(System.IO.Path.GetFullPath(Path))!);
        string temporary = $"{Path}.{Environment.ProcessId}.tmp";
        File.WriteAllBytes(temporary, JsonSerializer.SerializeToUtf8Bytes(registrations, s_options));
        File.Move(temporary, Path, overwrite: true);
    }

    private static string Normalize(string folder) => System.IO.Path.TrimEndingDirectorySeparator(System.IO.Path.GetFullPath(folder));

    private static VirtException NotRegistered(string folder, string message) =>
        new("PluginNotRegistered", message, $"Look at what is there, then run Register-VirtPlugin -Path '{folder}'.", folder);
}
