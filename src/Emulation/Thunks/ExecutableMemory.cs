using System.Runtime.InteropServices;
using VirtPS.Sdk;

namespace VirtPS.Emulation.Thunks;

/// <summary>
/// A bump allocator for generated code. On Linux each chunk is a memfd mapped twice, writable and executable, so that no page is ever both and
/// no protection has to be changed while other threads run in it. Windows and macOS use one mapping (unproven). Not thread-safe.
/// </summary>
internal sealed unsafe partial class ExecutableMemory : IDisposable
{
    private const int ChunkSize = 256 * 1024;
    private readonly List<Chunk> _chunks = [];
    private int _used = ChunkSize;

    private readonly record struct Chunk(nint Writable, nint Executable);

    /// <summary>Bytes of generated code so far.</summary>
    public long CodeBytes { get; private set; }

    /// <summary>Copies <paramref name="code"/> in, 16-byte aligned, and returns where it can be called.</summary>
    public nint Add(ReadOnlySpan<byte> code)
    {
        if (_used + code.Length > ChunkSize)
        {
            _chunks.Add(Map());
            _used = 0;
        }

        Chunk chunk = _chunks[^1];
        // SAFETY: the chunk has ChunkSize bytes and the bound was checked above.
        code.CopyTo(new Span<byte>((byte*)chunk.Writable + _used, code.Length));
        nint entry = chunk.Executable + _used;
        _used = (_used + code.Length + 15) & ~15;
        CodeBytes += code.Length;
        return entry;
    }

    public void Dispose()
    {
        foreach (Chunk chunk in _chunks)
            Unmap(chunk);
        _chunks.Clear();
        _used = ChunkSize;
    }

    private static Chunk Map()
    {
        if (OperatingSystem.IsLinux())
            return MapTwice();
        if (OperatingSystem.IsWindows())
        {
            nint p = Windows.VirtualAlloc(0, ChunkSize, Windows.MemCommitReserve, Windows.PageExecuteReadWrite);
            return p != 0 ? new Chunk(p, p) : throw Refused("VirtualAlloc");
        }

        nint m = Posix.Mmap(0, ChunkSize, Posix.ProtRead | Posix.ProtWrite | Posix.ProtExec, Posix.MacMapPrivateAnonymous, -1, 0);
        return m != -1 ? new Chunk(m, m) : throw Refused("mmap");
    }

    private static Chunk MapTwice()
    {
        int fd = Posix.MemfdCreate("virtps-thunks", Posix.MfdCloexec);
        if (fd < 0)
            throw Refused("memfd_create");
        try
        {
            if (Posix.Ftruncate(fd, ChunkSize) != 0)
                throw Refused("ftruncate");
            nint rw = Posix.Mmap(0, ChunkSize, Posix.ProtRead | Posix.ProtWrite, Posix.MapShared, fd, 0);
            if (rw == -1)
                throw Refused("mmap");
            nint rx = Posix.Mmap(0, ChunkSize, Posix.ProtRead | Posix.ProtExec, Posix.MapShared, fd, 0);
            if (rx != -1)
                return new Chunk(rw, rx);
            VirtException refused = Refused("mmap (executable)");
            _ = Posix.Munmap(rw, ChunkSize);
            throw refused;
        }
        finally
        {
            _ = Posix.Close(fd);
        }
    }

    private static VirtException Refused(string call) => new("HostMemoryUnavailable",
        $"The host refused memory for generated code: {call}, error {Marshal.GetLastPInvokeError()}.",
        "Allow this process to map executable memory.");

    private static void Unmap(Chunk chunk)
    {
        if (OperatingSystem.IsWindows())
        {
            _ = Windows.VirtualFree(chunk.Writable, 0, Windows.MemRelease);
            return;
        }

        _ = Posix.Munmap(chunk.Writable, ChunkSize);
        if (chunk.Executable != chunk.Writable)
            _ = Posix.Munmap(chunk.Executable, ChunkSize);
    }

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
