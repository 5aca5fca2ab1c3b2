using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using VirtPS.Sdk;
using VirtPS.Sdk.Backends;

namespace VirtPS.Engine.Host;

/// <summary>A disk file on Linux: positional reads and writes, fdatasync, hole punching, an open-file-description lock (fcntl(2)) that dies with the process.</summary>
internal sealed unsafe partial class LinuxDiskFile : HostDiskFile
{
    private const int Eintr = 4, Eagain = 11, Eacces = 13, Efbig = 27, Enospc = 28, Enosys = 38, Eopnotsupp = 95, Edquot = 122;
    private const int OfdSetLock = 37;
    private const short ReadLock = 0, WriteLock = 1;
    private const uint FormatMask = 0xF000, RegularFile = 0x8000, Folder = 0x4000;

    private readonly SafeFileHandle _handle;
    private readonly string _path;
    private volatile bool _canPunch;

    private LinuxDiskFile(SafeFileHandle handle, string path, bool readOnly)
    {
        (_handle, _path, _canPunch) = (handle, path, !readOnly);
        Length = (ulong)RandomAccess.GetLength(handle);
        BlockSize = Look(path) is { } seen ? Math.Clamp((int)seen.BlockSize, 512, 1 << 20) : 4096;
    }

    public override ulong Length { get; }

    public override int BlockSize { get; }

    public override bool CanPunchHoles => _canPunch;

    public static LinuxDiskFile Open(string path, bool readOnly)
    {
        // Looked at before opening: opening a pipe would wait for its other end.
        (uint Mode, uint BlockSize)? seen = Look(path);
        if (seen is { } s && (s.Mode & FormatMask) != RegularFile)
            throw NotAFile(path, (s.Mode & FormatMask) == Folder ? "a folder" : "a device, pipe or socket");
        SafeFileHandle? handle = null;
        try
        {
            // With these share modes .NET adds no flock(2) of its own.
            handle = File.OpenHandle(path, FileMode.Open, readOnly ? FileAccess.Read : FileAccess.ReadWrite, FileShare.ReadWrite | FileShare.Delete);
            if (!TryLock(handle, readOnly ? ReadLock : WriteLock, path))
                throw InUse(path);
            var file = new LinuxDiskFile(handle, path, readOnly);
            handle = null;
            return file;
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            throw NotFound(path);
        }
        catch (Exception e) when (e is UnauthorizedAccessException or IOException)
        {
            throw Denied(path, readOnly, e);
        }
        finally
        {
            handle?.Dispose();
        }
    }

    public override void Read(Span<byte> buffer, ulong offset)
    {
        while (buffer.Length > 0)
        {
            nint n;
            fixed (byte* p = buffer)
                n = PRead(_handle, p, (nuint)buffer.Length, (long)offset);
            if (n < 0)
            {
                ThrowUnlessInterrupted("read");
                continue;
            }

            // The file has become shorter than the disk: somebody outside cut it.
            if (n == 0)
                throw new BlockException(BlockFault.Io, $"'{_path}' ends before byte {offset}: it was made shorter while in use.");
            buffer = buffer[(int)n..];
            offset += (ulong)n;
        }
    }

    public override void Write(ReadOnlySpan<byte> buffer, ulong offset)
    {
        while (buffer.Length > 0)
        {
            nint n;
            fixed (byte* p = buffer)
                n = PWrite(_handle, p, (nuint)buffer.Length, (long)offset);
            if (n < 0)
            {
                ThrowUnlessInterrupted("write");
                continue;
            }

            buffer = buffer[(int)n..];
            offset += (ulong)n;
        }
    }

    public override void Flush()
    {
        while (FDataSync(_handle) != 0)
            ThrowUnlessInterrupted("fdatasync");
    }

    public override bool TryPunchHole(ulong offset, ulong length)
    {
        while (_canPunch)
        {
            if (FAllocate(_handle, LinuxNative.FallocKeepSizePunchHole, (long)offset, (long)length) == 0)
                return true;
            if (Marshal.GetLastPInvokeError() is Eopnotsupp or Enosys)
                _canPunch = false;
            else
                ThrowUnlessInterrupted("fallocate");
        }

        return false;
    }

    public override void Dispose() => _handle.Dispose();

    private void ThrowUnlessInterrupted(string call)
    {
        int error = Marshal.GetLastPInvokeError();
        if (error == Eintr)
            return;
        BlockFault fault = error is Enospc or Edquot or Efbig ? BlockFault.NoSpace : BlockFault.Io;
        throw new BlockException(fault, $"{call} on '{_path}': {Marshal.GetPInvokeErrorMessage(error)}");
    }

    private static bool TryLock(SafeFileHandle handle, short type, string path)
    {
        var whole = new FileLockRequest { Type = type };
        while (Fcntl(handle, OfdSetLock, &whole) != 0)
        {
            int error = Marshal.GetLastPInvokeError();
            if (error is Eagain or Eacces)
                return false;
            if (error != Eintr)
                throw new VirtException("DiskInvalid", $"The disk file '{path}' cannot be locked: {Marshal.GetPInvokeErrorMessage(error)}", "Put it on a file system that knows file locks.", path);
        }

        return true;
    }

    /// <summary>Mode and preferred block size; null where there is nothing to be seen.</summary>
    private static (uint Mode, uint BlockSize)? Look(string path)
    {
        const int CurrentFolder = -100;
        const uint TypeAndMode = 3;
        // struct statx has one layout on every processor: stx_blksize is at 4, stx_mode (16 bits) at 28 (statx(2)).
        byte* buffer = stackalloc byte[256];
        return Statx(CurrentFolder, path, 0, TypeAndMode, buffer) == 0 ? (*(ushort*)(buffer + 28), *(uint*)(buffer + 4)) : null;
    }

    /// <summary><c>struct flock</c> of the 64-bit ABIs.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct FileLockRequest
    {
        public short Type;
        public short Whence;
        public long Start;
        public long Length;
        public int Pid;
    }

    [LibraryImport("libc", EntryPoint = "pread", SetLastError = true)]
    private static partial nint PRead(SafeFileHandle file, byte* buffer, nuint length, long offset);

    [LibraryImport("libc", EntryPoint = "pwrite", SetLastError = true)]
    private static partial nint PWrite(SafeFileHandle file, byte* buffer, nuint length, long offset);

    [LibraryImport("libc", EntryPoint = "fdatasync", SetLastError = true)]
    private static partial int FDataSync(SafeFileHandle file);

    [LibraryImport("libc", EntryPoint = "fallocate", SetLastError = true)]
    private static partial int FAllocate(SafeFileHandle file, int mode, long offset, long length);

    [LibraryImport("libc", EntryPoint = "statx", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int Statx(int folder, string path, int flags, uint mask, byte* buffer);

    // fcntl is variadic in C; on Linux x64 and Arm64 a variadic call with integer arguments passes them as a plain call does.
    [LibraryImport("libc", EntryPoint = "fcntl", SetLastError = true)]
    private static partial int Fcntl(SafeFileHandle file, int command, FileLockRequest* argument);
}
