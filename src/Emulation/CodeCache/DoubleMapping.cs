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
        public const uint MfdCloexec = 1;

        [LibraryImport("libc", EntryPoint = "memfd_create", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
        public static partial int MemfdCreate(string name, uint flags);

        [LibraryImport("libc", EntryPoint = "ftruncate", SetLastError = true)]
        public static partial int Ftruncate(int fd, long length);

        [LibraryImport("libc", EntryPoint = "mmap", SetLastError = true)]
        public static partial nint Mmap(nint address, nuint length, int protection, int flags, int fd, long offset);

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
