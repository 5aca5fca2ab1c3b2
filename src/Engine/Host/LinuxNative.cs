using System.Runtime.InteropServices;

namespace VirtPS.Engine.Host;

/// <summary>The Linux calls that the engine uses (man pages, section 2).</summary>
internal static unsafe partial class LinuxNative
{
    public const int ProtReadWrite = 3, MapShared = 1, MapNoReserve = 0x4000;
    public const uint MfdCloexec = 1;
    public const int FallocKeepSizePunchHole = 1 | 2;
    public const int FutexWaitPrivate = 0 | 128, FutexWakePrivate = 1 | 128;
    public const int PrSetTimerSlack = 29;
    public const int AtEmptyPath = 0x1000;
    public const uint StatxBlocks = 0x400;
    public const int Eintr = 4, Eagain = 11, Etimedout = 110;
    public const int ScPhysPages = 85, ScPageSize = 30;

    [StructLayout(LayoutKind.Sequential)]
    public struct Timespec
    {
        public long Seconds;
        public long Nanoseconds;
    }

    /// <summary>The futex system call's number on this processor; null where it is not known.</summary>
    public static nint? FutexNumber => RuntimeInformation.ProcessArchitecture switch
    {
        Architecture.X64 => 202,
        Architecture.Arm64 => 98,
        _ => null,
    };

    [LibraryImport("libc", EntryPoint = "memfd_create", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int MemfdCreate(string name, uint flags);

    [LibraryImport("libc", EntryPoint = "ftruncate", SetLastError = true)]
    public static partial int Truncate(int fd, long length);

    [LibraryImport("libc", EntryPoint = "mmap", SetLastError = true)]
    public static partial void* Map(void* address, nuint length, int protection, int flags, int fd, long offset);

    [LibraryImport("libc", EntryPoint = "munmap", SetLastError = true)]
    public static partial int Unmap(void* address, nuint length);

    [LibraryImport("libc", EntryPoint = "fallocate", SetLastError = true)]
    public static partial int Allocate(int fd, int mode, long offset, long length);

    [LibraryImport("libc", EntryPoint = "close")]
    public static partial int Close(int fd);

    [LibraryImport("libc", EntryPoint = "statx", SetLastError = true)]
    public static partial int Statx(int fd, byte* path, int flags, uint mask, byte* buffer);

    [LibraryImport("libc", EntryPoint = "syscall", SetLastError = true)]
    public static partial nint Futex(nint number, int* address, nint operation, nint value, Timespec* timeout, nint address2, nint value3);

    [LibraryImport("libc", EntryPoint = "prctl", SetLastError = true)]
    public static partial int Prctl(int option, nuint a2, nuint a3, nuint a4, nuint a5);

    [LibraryImport("libc", EntryPoint = "sysconf", SetLastError = true)]
    public static partial nint Sysconf(int name);
}
