using System.Runtime.InteropServices;
using VirtPS.Sdk;
using VirtPS.Sdk.Memory;

namespace VirtPS.Engine.Host;

/// <summary>Linux: memfd memory, futexes, fine timer slack.</summary>
internal sealed class LinuxHostPlatform : IHostPlatform
{
    public string Name => "Linux";

    public ulong PhysicalMemory => (ulong)LinuxNative.Sysconf(LinuxNative.ScPhysPages) * (ulong)LinuxNative.Sysconf(LinuxNative.ScPageSize);

    public IHostMemoryRegion AllocateGuestMemory(string name, ulong size) => new MemfdMemoryRegion(name, size);

    public HostEvent CreateEvent() => new FutexEvent();

    public HostDiskFile OpenDiskFile(string path, bool readOnly) => LinuxDiskFile.Open(path, readOnly);

    public HostRunDelay? OpenRunDelay() => LinuxRunDelay.TryOpen();

    // The default slack of 50 µs would be added to every sleep; failure only costs precision.
    public void PrepareTimingThread() => LinuxNative.Prctl(LinuxNative.PrSetTimerSlack, 1, 0, 0, 0);
}

/// <summary>Shared memory of an anonymous file, so that other processes can map it and pages can be given back.</summary>
internal sealed unsafe class MemfdMemoryRegion : IHostMemoryRegion
{
    private byte* _address;
    private int _fd;

    public MemfdMemoryRegion(string name, ulong size)
    {
        Size = size;
        _fd = LinuxNative.MemfdCreate($"virtps-{name}", LinuxNative.MfdCloexec);
        if (_fd < 0)
            throw Failed(name, size, "memfd_create");
        if (LinuxNative.Truncate(_fd, (long)size) != 0)
            throw FailedAndClosed(name, size, "ftruncate");
        // SAFETY: unmapped in Dispose only; the slot that owns the region disposes it after its last lease.
        void* p = LinuxNative.Map(null, (nuint)size, LinuxNative.ProtReadWrite, LinuxNative.MapShared | LinuxNative.MapNoReserve, _fd, 0);
        if (p == (void*)-1)
            throw FailedAndClosed(name, size, "mmap");
        _address = (byte*)p;
    }

    public byte* Address => _address;

    public ulong Size { get; }

    public int FileDescriptor => _fd;

    public ulong ResidentBytes
    {
        get
        {
            // struct statx is the same on every processor; stx_blocks (512-byte units) is at offset 48.
            byte* buffer = stackalloc byte[256];
            byte empty = 0;
            return LinuxNative.Statx(_fd, &empty, LinuxNative.AtEmptyPath, LinuxNative.StatxBlocks, buffer) == 0 ? *(ulong*)(buffer + 48) * 512 : 0;
        }
    }

    public void Discard(ulong offset, ulong length)
    {
        if (offset > Size || length > Size - offset)
            throw new ArgumentOutOfRangeException(nameof(offset), offset, "Outside the region.");
        if (length == 0)
            return;
        if (LinuxNative.Allocate(_fd, LinuxNative.FallocKeepSizePunchHole, (long)offset, (long)length) != 0)
            throw new VirtException("MemoryUnavailable", $"The host refused to take back guest memory (fallocate: {Marshal.GetLastPInvokeErrorMessage()}).");
    }

    public void Dispose()
    {
        if (_address != null && LinuxNative.Unmap(_address, (nuint)Size) == 0)
            _address = null;
        if (_fd >= 0)
            _ = LinuxNative.Close(_fd);
        _fd = -1;
    }

    private VirtException FailedAndClosed(string name, ulong size, string call)
    {
        VirtException e = Failed(name, size, call);
        _ = LinuxNative.Close(_fd);
        return e;
    }

    private static VirtException Failed(string name, ulong size, string call) =>
        new("MemoryUnavailable", $"The host gave no {size} bytes for '{name}' ({call}: {Marshal.GetLastPInvokeErrorMessage()}).", "Give the VM less memory, or raise the limits of address space and open files.", name);
}

/// <summary>A futex word: 0 = nothing, 1 = signalled, -1 = somebody waits.</summary>
internal sealed unsafe class FutexEvent : HostEvent
{
    private readonly nint _futex = LinuxNative.FutexNumber!.Value;
    private int* _word;

    // SAFETY: native memory, because the kernel compares the word at its address; freed in Dispose, after waiter and setters have ended.
    public FutexEvent() => _word = (int*)NativeMemory.AllocZeroed(64);

    public override bool Wait(ulong nanoseconds)
    {
        if (Interlocked.CompareExchange(ref *_word, 0, 1) == 1)
            return true;
        ulong start = nanoseconds == ulong.MaxValue ? 0 : Now();
        if (Interlocked.CompareExchange(ref *_word, -1, 0) == 1)
        {
            Volatile.Write(ref *_word, 0);
            return true;
        }

        while (true)
        {
            ulong left = ulong.MaxValue;
            if (nanoseconds != ulong.MaxValue)
            {
                ulong gone = Now() - start;
                if (gone >= nanoseconds)
                    return Interlocked.Exchange(ref *_word, 0) == 1;
                left = nanoseconds - gone;
            }

            Sleep(left);
            if (Interlocked.CompareExchange(ref *_word, 0, 1) == 1)
                return true;
        }
    }

    public override void Set()
    {
        if (Interlocked.Exchange(ref *_word, 1) == -1)
            LinuxNative.Futex(_futex, _word, LinuxNative.FutexWakePrivate, 1, null, 0, 0);
    }

    public override void Dispose()
    {
        NativeMemory.Free(_word);
        _word = null;
    }

    private void Sleep(ulong nanoseconds)
    {
        // A day at a time keeps the timespec in range; spurious returns are looked at by the caller.
        const ulong Day = 86_400_000_000_000;
        ulong n = Math.Min(nanoseconds, Day);
        var timeout = new LinuxNative.Timespec { Seconds = (long)(n / 1_000_000_000), Nanoseconds = (long)(n % 1_000_000_000) };
        LinuxNative.Futex(_futex, _word, LinuxNative.FutexWaitPrivate, -1, nanoseconds == ulong.MaxValue ? null : &timeout, 0, 0);
    }

    private static ulong Now() => (ulong)System.Diagnostics.Stopwatch.GetTimestamp();
}
