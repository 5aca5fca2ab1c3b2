using System.Globalization;
using Microsoft.Win32.SafeHandles;
using VirtPS.Client.Platform;
using VirtPS.Sdk;

namespace VirtPS.Client.Store;

/// <summary>Raw disk images as files: made, looked at, resized. A worker that has one open has it locked.</summary>
internal static class DiskFiles
{
    public const ulong SectorSize = 512;

    // Beyond it file systems refuse, each with its own words.
    private const ulong MaxSize = 1ul << 50;

    // What other programs' images begin with: taken as raw, a guest would see their inner tables, and spoil them.
    private static readonly (string Format, byte[] Magic)[] s_others =
    [
        ("qcow2", [0x51, 0x46, 0x49, 0xFB]),
        ("VHDX", "vhdxfile"u8.ToArray()),
        ("VHD", "conectix"u8.ToArray()),
        ("VMDK", "KDMV"u8.ToArray()),
        ("VMDK description", "# Disk DescriptorFile"u8.ToArray()),
    ];

    /// <summary>Makes a sparse file. Errors: DiskExists, DiskInvalid, AccessDenied, StoreWriteFailed.</summary>
    public static void Create(string path, ulong size)
    {
        CheckSize(size, path);
        if (Directory.Exists(path))
            throw new VirtException(ErrorIds.DiskExists, $"'{path}' is a folder.", "Give the path of the file to be made.", path);
        try
        {
            using SafeFileHandle file = File.OpenHandle(path, FileMode.CreateNew, FileAccess.ReadWrite, FileShare.None);
            SetLength(file, path, size, created: true);
        }
        catch (DirectoryNotFoundException)
        {
            throw new VirtException(ErrorIds.DiskNotFound, $"There is no folder '{Path.GetDirectoryName(path)}' to make the disk in.", "Make the folder first.", path);
        }
        catch (IOException) when (File.Exists(path))
        {
            throw new VirtException(ErrorIds.DiskExists, $"The file '{path}' exists already.", "Give another path, or remove the file.", path);
        }
        catch (UnauthorizedAccessException e)
        {
            throw Denied(path, e);
        }
        catch (IOException e)
        {
            throw new VirtException(ErrorIds.StoreWriteFailed, $"The disk '{path}' cannot be made: {e.Message}", null, path, e);
        }
    }

    /// <summary>Size, allocated size, whether a VM has it open. Errors: DiskNotFound, DiskInvalid, AccessDenied.</summary>
    public static (ulong Size, ulong? Allocated, bool InUse) Look(string path)
    {
        using SafeFileHandle file = Open(path, FileAccess.Read);
        return ((ulong)RandomAccess.GetLength(file), OperatingSystem.IsLinux() ? Posix.AllocatedBytes(path) : null, IsLocked(file));
    }

    /// <summary>Errors: those of <see cref="Look"/>, DiskInUse, and DiskInvalid for a smaller size without <paramref name="shrink"/>.</summary>
    public static void Resize(string path, ulong size, bool shrink)
    {
        CheckSize(size, path);
        using SafeFileHandle file = Open(path, FileAccess.ReadWrite);
        if (OperatingSystem.IsLinux() && !Posix.TryLock(file))
            throw new VirtException(ErrorIds.DiskInUse, $"The disk '{path}' is in use by a running VM.", "Stop the VM first.", path);
        ulong now = (ulong)RandomAccess.GetLength(file);
        if (size < now && !shrink)
            throw new VirtException(ErrorIds.DiskInvalid, string.Create(CultureInfo.InvariantCulture, $"The disk '{path}' has {now} bytes; at {size} what is behind them would be lost."), "Add -Shrink if that is what you want.", path);
        SetLength(file, path, size, created: false);
    }

    /// <summary>That a file can be a VM's raw disk. Errors: DiskNotFound, DiskInvalid, AccessDenied.</summary>
    public static void Check(string path)
    {
        using SafeFileHandle file = Open(path, FileAccess.Read);
        ulong size = (ulong)RandomAccess.GetLength(file);
        Span<byte> head = stackalloc byte[32];
        head = head[..RandomAccess.Read(file, head, 0)];
        foreach ((string format, byte[] magic) in s_others)
        {
            if (head.StartsWith(magic))
                throw new VirtException(ErrorIds.DiskInvalid, $"'{path}' is a {format} image; only raw images can be used.", $"Convert it, for example with qemu-img convert -O raw '{path}' disk.img.", path);
        }

        if (size == 0 || size % SectorSize != 0)
            throw new VirtException(ErrorIds.DiskInvalid, string.Create(CultureInfo.InvariantCulture, $"The disk '{path}' has {size} bytes, which is no multiple of {SectorSize}."), string.Create(CultureInfo.InvariantCulture, $"Resize-VirtDisk -Path '{path}' -Size {Math.Max(1, (size + SectorSize - 1) / SectorSize) * SectorSize} rounds it up."), path);
    }

    private static void CheckSize(ulong size, string path)
    {
        if (size == 0 || size % SectorSize != 0 || size > MaxSize)
            throw new VirtException(ErrorIds.DiskInvalid, string.Create(CultureInfo.InvariantCulture, $"A disk cannot have {size} bytes."), string.Create(CultureInfo.InvariantCulture, $"Give a multiple of {SectorSize} up to 1 PB: 10GB."), path);
    }

    private static void SetLength(SafeFileHandle file, string path, ulong size, bool created)
    {
        try
        {
            RandomAccess.SetLength(file, (long)size);
        }
        catch (Exception e) when (e is IOException or ArgumentException)
        {
            if (created)
                File.Delete(path);
            throw new VirtException(ErrorIds.DiskInvalid, string.Create(CultureInfo.InvariantCulture, $"The host's file system cannot hold a disk of {size} bytes at '{path}': {e.Message}"), "Give a smaller size, or another file system.", path, e);
        }
    }

    private static SafeFileHandle Open(string path, FileAccess access)
    {
        if (Directory.Exists(path))
            throw new VirtException(ErrorIds.DiskInvalid, $"'{path}' is a folder, not a disk.", "Give the path of a disk image.", path);
        // Opening a pipe would wait for its other end.
        if (OperatingSystem.IsLinux() && File.Exists(path) && !Posix.IsRegularFile(path))
            throw new VirtException(ErrorIds.DiskInvalid, $"'{path}' is a device, pipe or socket, not a disk image.", "Give the path of a disk image.", path);
        try
        {
            return File.OpenHandle(path, FileMode.Open, access, OperatingSystem.IsLinux() ? FileShare.ReadWrite | FileShare.Delete : access == FileAccess.Read ? FileShare.ReadWrite : FileShare.None);
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            throw new VirtException(ErrorIds.DiskNotFound, $"There is no disk '{path}'.", "Make one with New-VirtDisk.", path);
        }
        catch (UnauthorizedAccessException e)
        {
            throw Denied(path, e);
        }
        catch (IOException e)
        {
            throw new VirtException(ErrorIds.DiskInUse, $"The disk '{path}' cannot be opened: {e.Message}", "Stop the VM that uses it.", path, e);
        }
    }

    private static bool IsLocked(SafeFileHandle file) => OperatingSystem.IsLinux() && Posix.IsLockedByOther(file);

    private static VirtException Denied(string path, Exception e) =>
        new(ErrorIds.AccessDenied, $"The disk '{path}' cannot be opened: {e.Message}", "Check the rights of the file and its folder.", path, e);
}
