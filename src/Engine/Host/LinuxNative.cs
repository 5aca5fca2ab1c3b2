using System.Runtime.InteropServices;

namespace VirtPS.Engine.Host;

/// <summary>The Linux calls that the engine uses (man pages, section 2).</summary>
internal static unsafe partial class LinuxNative
{
    public const int ProtReadWrite = 3, MapPrivate = 2, MapAnonymous = 0x20, MapNoReserve = 0x4000;
    public const int FallocKeepSizePunchHole = 1 | 2;
    public const int AdviseDontNeed = 4, AdviseDontFork = 10, AdviseHugePage = 14;
    public const int FutexWaitPrivate = 0 | 128, FutexWakePrivate = 1 | 128;
    public const int PrSetTimerSlack = 29;
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

    [LibraryImport("libc", EntryPoint = "mmap", SetLastError = true)]
    public static partial void* Map(void* address, nuint length, int protection, int flags, int fd, long offset);

    [LibraryImport("libc", EntryPoint = "munmap", SetLastError = true)]
    public static partial int Unmap(void* address, nuint length);

    [LibraryImport("libc", EntryPoint = "fallocate", SetLastError = true)]
    public static partial int Allocate(int fd, int mode, long offset, long length);

    [LibraryImport("libc", EntryPoint = "madvise", SetLastError = true)]
    public static partial int Advise(void* address, nuint length, int advice);

    /// <summary>A byte for each page, whose bit 0 says that it is resident.</summary>
    [LibraryImport("libc", EntryPoint = "mincore", SetLastError = true)]
    public static partial int Resident(void* address, nuint length, byte* pages);

    [LibraryImport("libc", EntryPoint = "syscall", SetLastError = true)]
    public static partial nint Futex(nint number, int* address, nint operation, nint value, Timespec* timeout, nint address2, nint value3);

    [LibraryImport("libc", EntryPoint = "getrandom", SetLastError = true)]
    public static partial nint GetRandom(byte* buffer, nuint length, uint flags);

    [LibraryImport("libc", EntryPoint = "prctl", SetLastError = true)]
    public static partial int Prctl(int option, nuint a2, nuint a3, nuint a4, nuint a5);

    [LibraryImport("libc", EntryPoint = "sysconf", SetLastError = true)]
    public static partial nint Sysconf(int name);
}
