using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace VirtPS.Emulation;

/// <summary>What of Linux the store needs and .NET does not offer.</summary>
internal static unsafe partial class HostFile
{
    // x86-64: the system calls' numbers, and struct stat of the kernel.
    private const long SysFstat = 5;
    private const int ModeOffset = 24, OwnerOffset = 28, OthersMayWrite = 0x12, TypeMask = 0xF000, Regular = 0x8000;

    /// <summary>An ordinary file that belongs to this process's user, and that nobody else may write.</summary>
    public static bool IsOursAlone(SafeFileHandle file)
    {
        // SAFETY: struct stat has 144 bytes.
        byte* stat = stackalloc byte[256];
        if (Posix.Syscall(SysFstat, (nint)file.DangerousGetHandle(), (nint)stat) != 0)
            return false;
        uint mode = *(uint*)(stat + ModeOffset);
        return (mode & TypeMask) == Regular && (mode & OthersMayWrite) == 0 && *(uint*)(stat + OwnerOffset) == Posix.EffectiveUser();
    }

    /// <summary>Maps a file for reading; null: refused.</summary>
    public static byte* Map(SafeFileHandle file, long length)
    {
        const int ProtRead = 1, MapPrivate = 2;
        nint p = Posix.Mmap(0, (nuint)length, ProtRead, MapPrivate, (int)file.DangerousGetHandle(), 0);
        return p == -1 ? null : (byte*)p;
    }

    public static void Unmap(byte* start, long length) => _ = Posix.Munmap((nint)start, (nuint)length);

    private static partial class Posix
    {
        // syscall() is variadic; on x86-64 a variadic call with integers is a plain one.
        [LibraryImport("libc", EntryPoint = "syscall")]
        public static partial long Syscall(long number, nint a, nint b);

        [LibraryImport("libc", EntryPoint = "geteuid")]
        public static partial uint EffectiveUser();

        [LibraryImport("libc", EntryPoint = "mmap")]
        public static partial nint Mmap(nint address, nuint length, int protection, int flags, int fd, long offset);

        [LibraryImport("libc", EntryPoint = "munmap")]
        public static partial int Munmap(nint address, nuint length);
    }
}
