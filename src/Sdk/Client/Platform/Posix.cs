using System.Net.Sockets;
using System.Runtime.InteropServices;

namespace VirtPS.Client.Platform;

/// <summary>The few calls of the operating system that .NET has no name for. Each says where it works; callers ask <see cref="OperatingSystem"/> first.</summary>
internal static partial class Posix
{
    /// <summary>Linux: <c>struct flock</c> of the 64-bit ABIs (fcntl(2)).</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct Flock
    {
        public short Type;
        public short Whence;
        public long Start;
        public long Length;
        public int Pid;
    }

    private const int F_OFD_GETLK = 36, F_OFD_SETLK = 37;
    private const short F_WRLCK = 1, F_UNLCK = 2;
    private const int EAGAIN = 11, EACCES = 13, EINTR = 4;

    // fcntl is variadic in C; on Linux x64 and Arm64 a variadic call with integer arguments passes them as a plain call does.
    [LibraryImport("libc", EntryPoint = "fcntl", SetLastError = true)]
    private static partial int FcntlLock(int fd, int command, ref Flock argument);

    [LibraryImport("libc", EntryPoint = "geteuid")]
    private static partial uint GetEuid();

    [LibraryImport("libc", EntryPoint = "getpeereid", SetLastError = true)]
    private static partial int GetPeerEid(int fd, out uint uid, out uint gid);

    [LibraryImport("libc", EntryPoint = "open", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int Open(string path, int flags);

    [LibraryImport("libc", EntryPoint = "fsync", SetLastError = true)]
    private static partial int FSync(int fd);

    [LibraryImport("libc", EntryPoint = "close")]
    private static partial int Close(int fd);

    // struct statx has one layout on all architectures: stx_uid is at 20 (statx(2)).
    [LibraryImport("libc", EntryPoint = "statx", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int Statx(int folderFd, string path, int flags, uint mask, Span<byte> buffer);

    public static uint UserId => GetEuid();

    /// <summary>Linux: who owns a path; a final symbolic link is not followed.</summary>
    public static uint OwnerOf(string path)
    {
        const int AT_FDCWD = -100, AT_SYMLINK_NOFOLLOW = 0x100, STATX_UID = 8;
        Span<byte> buffer = stackalloc byte[256];
        if (Statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, STATX_UID, buffer) != 0)
            throw new IOException($"Cannot look at '{path}': {Marshal.GetLastPInvokeErrorMessage()}");
        return MemoryMarshal.Read<uint>(buffer[20..]);
    }

    /// <summary>Linux: bytes that a file takes on its file system; null when it cannot be seen.</summary>
    public static ulong? AllocatedBytes(string path)
    {
        const int AT_FDCWD = -100, STATX_BLOCKS = 0x400;
        Span<byte> buffer = stackalloc byte[256];
        // stx_blocks is at 48, in units of 512 bytes.
        return Statx(AT_FDCWD, path, 0, STATX_BLOCKS, buffer) == 0 ? MemoryMarshal.Read<ulong>(buffer[48..]) * 512 : null;
    }

    /// <summary>Linux: whether a path leads to a regular file.</summary>
    public static bool IsRegularFile(string path)
    {
        const int AT_FDCWD = -100, STATX_TYPE = 1;
        const ushort S_IFMT = 0xF000, S_IFREG = 0x8000;
        Span<byte> buffer = stackalloc byte[256];
        // stx_mode is at 28.
        return Statx(AT_FDCWD, path, 0, STATX_TYPE, buffer) == 0 && (MemoryMarshal.Read<ushort>(buffer[28..]) & S_IFMT) == S_IFREG;
    }

    /// <summary>Linux: takes the whole file for this open file description; false when somebody else has it.</summary>
    public static bool TryLock(SafeHandle file)
    {
        var whole = new Flock { Type = F_WRLCK };
        while (FcntlLock((int)file.DangerousGetHandle(), F_OFD_SETLK, ref whole) != 0)
        {
            int error = Marshal.GetLastPInvokeError();
            if (error is EAGAIN or EACCES)
                return false;
            if (error != EINTR)
                throw new IOException($"Cannot lock: {Marshal.GetPInvokeErrorMessage(error)}");
        }

        return true;
    }

    /// <summary>Linux: whether somebody else holds the lock; asks without taking it, so that it disturbs nobody.</summary>
    public static bool IsLockedByOther(SafeHandle file)
    {
        var whole = new Flock { Type = F_WRLCK };
        if (FcntlLock((int)file.DangerousGetHandle(), F_OFD_GETLK, ref whole) != 0)
            throw new IOException($"Cannot ask for a lock: {Marshal.GetLastPInvokeErrorMessage()}");
        return whole.Type != F_UNLCK;
    }

    /// <summary>User id at the other end of a connected unix socket.</summary>
    public static uint PeerUserId(Socket socket)
    {
        if (OperatingSystem.IsLinux())
        {
            // SOL_SOCKET = 1, SO_PEERCRED = 17; struct ucred is pid, uid, gid (unix(7)).
            Span<byte> credentials = stackalloc byte[12];
            socket.GetRawSocketOption(1, 17, credentials);
            return MemoryMarshal.Read<uint>(credentials[4..]);
        }

        if (GetPeerEid((int)socket.Handle, out uint uid, out _) != 0)
            throw new IOException($"Cannot tell who is at the other end: {Marshal.GetLastPInvokeErrorMessage()}");
        return uid;
    }

    /// <summary>Makes a rename in <paramref name="folder"/> durable. Best effort: some file systems refuse to sync folders, and the rename is atomic without it.</summary>
    public static void SyncFolder(string folder)
    {
        int fd = Open(folder, 0);
        if (fd < 0)
            return;
        _ = FSync(fd);
        _ = Close(fd);
    }
}
