using System.Runtime.InteropServices;
using VirtPS.Sdk;

namespace VirtPS.Emulation;

/// <summary>
/// Memory for generated code. On Linux a memfd mapped twice, writable and executable, so that no page is ever both and no protection has to
/// be changed while other threads run in it. Windows and macOS use one mapping (unproven). Pages cost memory when they are first written.
/// </summary>
internal sealed unsafe partial class DoubleMapping : IDisposable
{
    public DoubleMapping(int size)
    {
        Size = size;
        if (OperatingSystem.IsLinux())
        {
            MapTwice();
            return;
        }

        if (OperatingSystem.IsWindows())
        {
            nint p = Windows.VirtualAlloc(0, (nuint)size, Windows.MemCommitReserve, Windows.PageExecuteReadWrite);
            Writable = Executable = p != 0 ? (byte*)p : throw Refused("VirtualAlloc");
            return;
        }

        nint m = Posix.Mmap(0, (nuint)size, Posix.ProtRead | Posix.ProtWrite | Posix.ProtExec, Posix.MacMapPrivateAnonymous, -1, 0);
        Writable = Executable = m != -1 ? (byte*)m : throw Refused("mmap");
    }

    public int Size { get; }

    public byte* Writable { get; private set; }

    public byte* Executable { get; private set; }

    /// <summary>
    /// The bytes up to <paramref name="end"/> are to be written soon: on Linux both mappings get their pages some at a time (since kernel 5.14), which costs less than a page fault for each.
    /// </summary>
    public void Populate(int end)
    {
        if (end <= _populated || !OperatingSystem.IsLinux())
            return;
        int from = _populated;
        _populated = Math.Min(Size, (end + PopulatedAtOnce - 1) & ~(PopulatedAtOnce - 1));
        nuint length = (nuint)(_populated - from);
        // Refused by an older kernel: the faults come one by one.
        _ = Posix.Madvise((nint)(Writable + from), length, Posix.PopulateWrite);
        _ = Posix.Madvise((nint)(Executable + from), length, Posix.PopulateRead);
    }

    private const int PopulatedAtOnce = 512 * 1024;
    private int _populated;

    public void Dispose()
    {
        if (Writable == null)
            return;
        if (OperatingSystem.IsWindows())
        {
            _ = Windows.VirtualFree((nint)Writable, 0, Windows.MemRelease);
        }
        else
        {
            _ = Posix.Munmap((nint)Writable, (nuint)Size);
            if (Executable != Writable)
                _ = Posix.Munmap((nint)Executable, (nuint)Size);
        }

        Writable = Executable = null;
    }

    private void MapTwice()
    {
        int fd = Posix.MemfdCreate("virtps-code", Posix.MfdCloexec);
        if (fd < 0)
            throw Refused("memfd_create");
        try
        {
            if (Posix.Ftruncate(fd, Size) != 0)
                throw Refused("ftruncate");
            nint rw = Posix.Mmap(0, (nuint)Size, Posix.ProtRead | Posix.ProtWrite, Posix.MapShared, fd, 0);
            if (rw == -1)
                throw Refused("mmap");
            nint rx = Posix.Mmap(0, (nuint)Size, Posix.ProtRead | Posix.ProtExec, Posix.MapShared, fd, 0);
            if (rx == -1)
            {
                VirtException refused = Refused("mmap (executable)");
                _ = Posix.Munmap(rw, (nuint)Size);
                throw refused;
            }

            Writable = (byte*)rw;
            Executable = (byte*)rx;
        }
        finally
        {
            _ = Posix.Close(fd);
        }
    }

    private static VirtException Refused(string call) => new("HostMemoryUnavailable",
        $"The host refused memory for generated code: {call}, error {Marshal.GetLastPInvokeError()}.",
        "Allow this process to map executable memory.");

    private static partial class Posix
    {
        public const int ProtRead = 1, ProtWrite = 2, ProtExec = 4, MapShared = 1, MacMapPrivateAnonymous = 0x1002;
        public const int PopulateRead = 22, PopulateWrite = 23;
        public const uint MfdCloexec = 1;

        [LibraryImport("libc", EntryPoint = "memfd_create", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
        public static partial int MemfdCreate(string name, uint flags);

        [LibraryImport("libc", EntryPoint = "ftruncate", SetLastError = true)]
        public static partial int Ftruncate(int fd, long length);

        [LibraryImport("libc", EntryPoint = "mmap", SetLastError = true)]
        public static partial nint Mmap(nint address, nuint length, int protection, int flags, int fd, long offset);

        [LibraryImport("libc", EntryPoint = "madvise")]
        public static partial int Madvise(nint address, nuint length, int advice);

        [LibraryImport("libc", EntryPoint = "munmap", SetLastError = true)]
        public static partial int Munmap(nint address, nuint length);

        [LibraryImport("libc", EntryPoint = "close", SetLastError = true)]
        public static partial int Close(int fd);
    }

    private static partial class Windows
    {
        public const uint MemCommitReserve = 0x3000, MemRelease = 0x8000, PageExecuteReadWrite = 0x40;

        [LibraryImport("kernel32", EntryPoint = "VirtualAlloc", SetLastError = true)]
        public static partial nint VirtualAlloc(nint address, nuint size, uint type, uint protection);

        [LibraryImport("kernel32", EntryPoint = "VirtualFree", SetLastError = true)]
        public static partial int VirtualFree(nint address, nuint size, uint type);
    }
}
