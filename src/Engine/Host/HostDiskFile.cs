using VirtPS.Sdk;
using VirtPS.Sdk.Backends;

namespace VirtPS.Engine.Host;

/// <summary>An open and locked disk file. Calls block; any number of threads. Failures are <see cref="BlockException"/>s.</summary>
public abstract class HostDiskFile : IDisposable
{
    /// <summary>Bytes.</summary>
    public abstract ulong Length { get; }

    /// <summary>What the host's file system writes at once, in bytes.</summary>
    public abstract int BlockSize { get; }

    /// <summary>The room of a range can be given back. May turn false when the first try shows that it cannot.</summary>
    public abstract bool CanPunchHoles { get; }

    /// <summary>Fills the buffer from <paramref name="offset"/>; the range lies inside the file.</summary>
    public abstract void Read(Span<byte> buffer, ulong offset);

    public abstract void Write(ReadOnlySpan<byte> buffer, ulong offset);

    /// <summary>Brings the data of all writes that have returned to the medium.</summary>
    public abstract void Flush();

    /// <summary>Gives the range's room back; it reads as zeros then. False where the host cannot, and nothing has changed.</summary>
    public abstract bool TryPunchHole(ulong offset, ulong length);

    public abstract void Dispose();

    private protected static VirtException NotFound(string path) =>
        new("DiskNotFound", $"There is no disk file '{path}'.", "Give the path of a raw disk image, or make one with New-VirtDisk.", path);

    private protected static VirtException NotAFile(string path, string what) =>
        new("DiskInvalid", $"'{path}' is {what}, not a disk file.", "Give the path of a raw disk image, or make one with New-VirtDisk.", path);

    private protected static VirtException InUse(string path) =>
        new("DiskInUse", $"The disk file '{path}' is in use by another VM.", "Stop that VM, or give each VM a disk of its own; several can share one only if all have it read-only.", path);

    private protected static VirtException Denied(string path, bool readOnly, Exception inner) =>
        new("AccessDenied", $"The disk file '{path}' cannot be opened for {(readOnly ? "reading" : "writing")}: {inner.Message}", readOnly ? "Check the file's rights." : "Check the file's rights, or add the disk with -ReadOnly.", path, inner);
}
