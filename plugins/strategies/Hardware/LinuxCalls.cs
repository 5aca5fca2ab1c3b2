using System.Runtime.InteropServices;

namespace VirtPS.Strategy.Hardware;

/// <summary>The system calls KVM needs. Return values as libc gives them; errors are read with <see cref="Marshal.GetLastPInvokeError"/>.</summary>
internal static unsafe partial class LinuxCalls
{
    public const int EPERM = 1, EINTR = 4, EAGAIN = 11, EACCES = 13, ENOENT = 2, ENODEV = 19, ENOMEM = 12;
    public const int ReadWrite = 2, CloseOnExec = 0x80000;
    public const short PollIn = 1;
    public const int ProtReadWrite = 3, MapShared = 1;
    public const int SigBlock = 0;

    /// <summary>The real-time signal that ends KVM_RUN: blocked in vCPU threads, let through by KVM only.</summary>
    public const int KickSignal = 40;

    [LibraryImport("libc", EntryPoint = "open", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int Open(string path, int flags);

    [LibraryImport("libc", EntryPoint = "close", SetLastError = true)]
    public static partial int Close(int fd);

    [LibraryImport("libc", EntryPoint = "ioctl", SetLastError = true)]
    public static partial int Ioctl(int fd, nuint request, nuint argument);

    [LibraryImport("libc", EntryPoint = "ioctl", SetLastError = true)]
    public static partial int Ioctl(int fd, nuint request, void* argument);

    [LibraryImport("libc", EntryPoint = "mmap", SetLastError = true)]
    public static partial void* Mmap(void* address, nuint length, int protection, int flags, int fd, nint offset);

    [LibraryImport("libc", EntryPoint = "munmap", SetLastError = true)]
    public static partial int Munmap(void* address, nuint length);

    [LibraryImport("libc", EntryPoint = "pthread_sigmask")]
    public static partial int PthreadSigmask(int how, ulong* set, ulong* old);

    [LibraryImport("libc", EntryPoint = "sigtimedwait", SetLastError = true)]
    public static partial int SigTimedWait(ulong* set, void* info, long* timeout);

    [LibraryImport("libc", EntryPoint = "gettid")]
    public static partial int GetTid();

    [LibraryImport("libc", EntryPoint = "tgkill", SetLastError = true)]
    public static partial int TgKill(int process, int thread, int signal);

    [LibraryImport("libc", EntryPoint = "statx", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int Statx(int folder, string path, int flags, uint mask, byte* buffer);

    /// <summary>Who owns a file and with which rights (struct statx: stx_uid at 20, stx_gid at 24, stx_mode at 28); null when that cannot be told.</summary>
    public static (uint User, uint Group, int Mode)? OwnerOf(string path)
    {
        const int CurrentFolder = -100;
        const uint ModeAndOwners = 2 | 8 | 16;
        byte* buffer = stackalloc byte[256];
        return Statx(CurrentFolder, path, 0, ModeAndOwners, buffer) == 0 ? (*(uint*)(buffer + 20), *(uint*)(buffer + 24), *(ushort*)(buffer + 28) & 0xFFF) : null;
    }

    [LibraryImport("libc", EntryPoint = "eventfd", SetLastError = true)]
    public static partial int EventFd(uint value, int flags);

    [LibraryImport("libc", EntryPoint = "read", SetLastError = true)]
    public static partial nint Read(int fd, void* buffer, nuint count);

    [LibraryImport("libc", EntryPoint = "write", SetLastError = true)]
    public static partial nint Write(int fd, void* buffer, nuint count);

    [LibraryImport("libc", EntryPoint = "poll", SetLastError = true)]
    public static partial int Poll(PollDescriptor* descriptors, nuint count, int milliseconds);

    [LibraryImport("libc", EntryPoint = "clock_gettime", SetLastError = true)]
    public static partial int ClockGetTime(int clock, long* time);

    /// <summary>The clock that counts a thread's processor time (include/linux/posix-timers.h: ~tid, per thread, scheduler's clock).</summary>
    public static int ThreadClock(int tid) => ~tid << 3 | 6;

    /// <summary>A non-blocking eventfd. Throws <see cref="Sdk.VirtException"/>.</summary>
    public static int CreateEvent()
    {
        const int NonBlocking = 0x800;
        int fd = EventFd(0, NonBlocking | CloseOnExec);
        return fd >= 0 ? fd : throw new Sdk.VirtException("StrategyUnavailable", $"No event descriptor can be had: {ErrorText()}.");
    }

    /// <summary>Adds 1 to an eventfd.</summary>
    public static void Raise(int fd)
    {
        ulong one = 1;
        _ = Write(fd, &one, sizeof(ulong));
    }

    /// <summary>Takes what an eventfd holds; false when nothing.</summary>
    public static bool TryTake(int fd)
    {
        ulong count;
        return Read(fd, &count, sizeof(ulong)) == sizeof(ulong);
    }

    public static string ErrorText() => Marshal.GetPInvokeErrorMessage(Marshal.GetLastPInvokeError());
}

/// <summary>struct pollfd.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct PollDescriptor
{
    public int Fd;
    public short Events, Returned;
}
