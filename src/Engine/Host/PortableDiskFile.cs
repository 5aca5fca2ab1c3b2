using Microsoft.Win32.SafeHandles;
using VirtPS.Sdk.Backends;

namespace VirtPS.Engine.Host;

/// <summary>A disk file with what .NET alone offers (Windows, macOS; unproven): no hole punching; the file's share mode is the lock.</summary>
internal sealed class PortableDiskFile : HostDiskFile
{
    private const int DiskFull = unchecked((int)0x80070070), HandleDiskFull = unchecked((int)0x80070027);

    private readonly SafeFileHandle _handle;

    private PortableDiskFile(SafeFileHandle handle)
    {
        _handle = handle;
        Length = (ulong)RandomAccess.GetLength(handle);
    }

    public override ulong Length { get; }

    public override int BlockSize => 4096;

    public override bool CanPunchHoles => false;

    public static PortableDiskFile Open(string path, bool readOnly)
    {
        if (Directory.Exists(path))
            throw NotAFile(path, "a folder");
        try
        {
            return new PortableDiskFile(File.OpenHandle(path, FileMode.Open, readOnly ? FileAccess.Read : FileAccess.ReadWrite, readOnly ? FileShare.Read : FileShare.None));
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            throw NotFound(path);
        }
        catch (UnauthorizedAccessException e)
        {
            throw Denied(path, readOnly, e);
        }
        catch (IOException)
        {
            throw InUse(path);
        }
    }

    public override void Read(Span<byte> buffer, ulong offset)
    {
        while (buffer.Length > 0)
        {
            int n;
            try
            {
                n = RandomAccess.Read(_handle, buffer, (long)offset);
            }
            catch (IOException e)
            {
                throw Fault(e);
            }

            if (n == 0)
                throw new BlockException(BlockFault.Io, $"The disk file ends before byte {offset}: it was made shorter while in use.");
            buffer = buffer[n..];
            offset += (ulong)n;
        }
    }

    public override void Write(ReadOnlySpan<byte> buffer, ulong offset)
    {
        try
        {
            RandomAccess.Write(_handle, buffer, (long)offset);
        }
        catch (IOException e)
        {
            throw Fault(e);
        }
    }

    public override void Flush()
    {
        try
        {
            RandomAccess.FlushToDisk(_handle);
        }
        catch (IOException e)
        {
            throw Fault(e);
        }
    }

    public override bool TryPunchHole(ulong offset, ulong length) => false;

    public override void Dispose() => _handle.Dispose();

    private static BlockException Fault(IOException e) =>
        new(e.HResult is DiskFull or HandleDiskFull ? BlockFault.NoSpace : BlockFault.Io, e.Message, e);
}
