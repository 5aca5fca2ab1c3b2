using System.IO.Compression;
using System.Text;
using VirtPS.Sdk;

namespace VirtPS.Client.Images;

/// <summary>
/// Collects files, folders, symbolic links and device nodes, and writes them as an initial RAM disk for Linux. Paths are those in the guest (<c>/bin/busybox</c>);
/// missing parent folders are made; a path added again replaces the former entry. The same content gives the same bytes. Not thread-safe.
/// </summary>
public sealed class InitrdBuilder
{
    private readonly SortedDictionary<string, Entry> _entries = new(StringComparer.Ordinal);

    private abstract record Entry(uint Mode);

    private sealed record FolderEntry(uint Mode) : Entry(Mode);

    private sealed record BytesEntry(uint Mode, byte[] Content) : Entry(Mode);

    private sealed record HostFileEntry(uint Mode, string Path) : Entry(Mode);

    private sealed record LinkEntry(string Target) : Entry(UnixMode.SymbolicLink | 0x1FF);

    private sealed record DeviceEntry(uint Mode, uint Major, uint Minor) : Entry(Mode);

    /// <summary>Paths of all entries, in the archive's order.</summary>
    public IReadOnlyCollection<string> Paths => _entries.Keys;

    /// <summary>A folder; default permissions rwxr-xr-x.</summary>
    public InitrdBuilder AddFolder(string path, UnixFileMode? mode = null) => Add(path, new FolderEntry(UnixMode.Folder | Bits(mode, 0x1ED)));

    /// <summary>A file with this content; default permissions rw-r--r--.</summary>
    public InitrdBuilder AddFile(string path, byte[] content, UnixFileMode? mode = null) => Add(path, new BytesEntry(UnixMode.Regular | Bits(mode, 0x1A4), content));

    /// <summary>A text file with Unix line ends.</summary>
    public InitrdBuilder AddText(string path, string text, UnixFileMode? mode = null) =>
        AddFile(path, Encoding.UTF8.GetBytes(text.ReplaceLineEndings("\n")), mode);

    /// <summary>A copy of a file of this host, read when the archive is written. Permissions default to the file's own (rwxr-xr-x where the host has none). Errors: ImageNotFound.</summary>
    public InitrdBuilder AddHostFile(string path, string hostPath, UnixFileMode? mode = null)
    {
        if (!File.Exists(hostPath))
            throw new VirtException(ErrorIds.ImageNotFound, $"There is no file '{hostPath}'.", "Check the path.", hostPath);
        return Add(path, new HostFileEntry(UnixMode.Regular | Bits(mode ?? HostMode(hostPath), 0x1ED), hostPath));
    }

    public InitrdBuilder AddSymbolicLink(string path, string target) => Add(path, new LinkEntry(target));

    /// <summary>A device node; default permissions rw-------.</summary>
    public InitrdBuilder AddCharacterDevice(string path, uint major, uint minor, UnixFileMode? mode = null) =>
        Add(path, new DeviceEntry(UnixMode.CharacterDevice | Bits(mode, 0x180), major, minor));

    public InitrdBuilder AddBlockDevice(string path, uint major, uint minor, UnixFileMode? mode = null) =>
        Add(path, new DeviceEntry(UnixMode.BlockDevice | Bits(mode, 0x180), major, minor));

    /// <summary>Everything in a folder of this host, recursively, links as links. Errors: ImageNotFound, AccessDenied.</summary>
    public InitrdBuilder AddHostTree(string path, string hostFolder)
    {
        var root = new DirectoryInfo(hostFolder);
        if (!root.Exists)
            throw new VirtException(ErrorIds.ImageNotFound, $"There is no folder '{hostFolder}'.", "Check the path.", hostFolder);
        try
        {
            AddTree(path, root);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new VirtException(ErrorIds.AccessDenied, $"'{hostFolder}' cannot be read: {e.Message}", "Check the folder's permissions.", hostFolder, e);
        }

        return this;
    }

    /// <summary>Writes the archive to a stream.</summary>
    public async Task WriteAsync(Stream output, CancellationToken cancellation = default)
    {
        var cpio = new CpioWriter(output);
        foreach ((string path, Entry entry) in _entries)
            await WriteAsync(cpio, path, entry, cancellation).ConfigureAwait(false);
        await cpio.FinishAsync(cancellation).ConfigureAwait(false);
    }

    /// <summary>
    /// Writes the archive to a file, gzip-compressed when <paramref name="compress"/>. The file appears whole or not at all; an existing one is replaced.
    /// Errors: StoreWriteFailed.
    /// </summary>
    public async Task WriteFileAsync(string path, bool compress, CancellationToken cancellation = default)
    {
        string temporary = $"{path}.{Guid.NewGuid():N}.tmp";
        try
        {
            await using (FileStream file = new(temporary, FileMode.CreateNew, FileAccess.Write))
            {
                if (compress)
                {
                    await using var gzip = new GZipStream(file, CompressionLevel.Fastest);
                    await WriteAsync(gzip, cancellation).ConfigureAwait(false);
                }
                else
                {
                    await WriteAsync(file, cancellation).ConfigureAwait(false);
                }
            }

            File.Move(temporary, path, overwrite: true);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new VirtException(ErrorIds.StoreWriteFailed, $"Cannot write '{path}': {e.Message}", "Make room on the disk, or check the rights of the folder.", path, e);
        }
        finally
        {
            if (File.Exists(temporary))
                File.Delete(temporary);
        }
    }

    private static async Task WriteAsync(CpioWriter cpio, string path, Entry entry, CancellationToken cancellation)
    {
        switch (entry)
        {
            case HostFileEntry host:
                await using (FileStream file = OpenHostFile(host.Path))
                    await cpio.WriteAsync(path, host.Mode, file, file.Length, 0, 0, DateTimeOffset.UnixEpoch, cancellation).ConfigureAwait(false);
                break;
            case BytesEntry bytes:
                await cpio.WriteAsync(path, bytes.Mode, new MemoryStream(bytes.Content), bytes.Content.Length, 0, 0, DateTimeOffset.UnixEpoch, cancellation).ConfigureAwait(false);
                break;
            case LinkEntry link:
                byte[] target = Encoding.UTF8.GetBytes(link.Target);
                await cpio.WriteAsync(path, link.Mode, new MemoryStream(target), target.Length, 0, 0, DateTimeOffset.UnixEpoch, cancellation).ConfigureAwait(false);
                break;
            case DeviceEntry device:
                await cpio.WriteAsync(path, device.Mode, null, 0, device.Major, device.Minor, DateTimeOffset.UnixEpoch, cancellation).ConfigureAwait(false);
                break;
            case FolderEntry folder:
                await cpio.WriteAsync(path, folder.Mode, null, 0, 0, 0, DateTimeOffset.UnixEpoch, cancellation).ConfigureAwait(false);
                break;
        }
    }

    private static FileStream OpenHostFile(string path)
    {
        try
        {
            return new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new VirtException(ErrorIds.AccessDenied, $"'{path}' cannot be read: {e.Message}", "Check the file's permissions.", path, e);
        }
    }

    private void AddTree(string path, DirectoryInfo folder)
    {
        foreach (FileSystemInfo item in folder.EnumerateFileSystemInfos())
        {
            string inside = path.TrimEnd('/') + "/" + item.Name;
            if (item.LinkTarget is { } target)
                AddSymbolicLink(inside, target);
            else if (item is DirectoryInfo sub)
            {
                AddFolder(inside, HostMode(sub.FullName));
                AddTree(inside, sub);
            }
            else
                AddHostFile(inside, item.FullName);
        }
    }

    private InitrdBuilder Add(string path, Entry entry)
    {
        string name = path.Trim('/');
        string[] parts = name.Split('/');
        if (parts.Any(p => p is "" or "." or "..") || name.Contains('\0', StringComparison.Ordinal))
            throw new VirtException(ErrorIds.ImageInvalid, $"'{path}' is not a path that a guest's file can have.", "Use an absolute path without empty parts, '.' and '..'.", path);
        for (int i = 1; i < parts.Length; i++)
        {
            string parent = string.Join('/', parts[..i]);
            if (!_entries.TryGetValue(parent, out Entry? existing))
                _entries[parent] = new FolderEntry(UnixMode.Folder | 0x1ED);
            else if (existing is not (FolderEntry or LinkEntry))
                throw new VirtException(ErrorIds.ImageInvalid, $"'{path}' lies in '/{parent}', which is a file.", "Choose another path.", path);
        }

        _entries[name] = entry;
        return this;
    }

    private static UnixFileMode? HostMode(string path) => OperatingSystem.IsWindows() ? null : File.GetUnixFileMode(path);

    private static uint Bits(UnixFileMode? mode, uint fallback) => mode is { } m ? (uint)m & 0xFFF : fallback;
}
