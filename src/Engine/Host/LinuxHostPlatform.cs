using System.Runtime.InteropServices;
using VirtPS.Sdk;
using VirtPS.Sdk.Memory;

namespace VirtPS.Engine.Host;

/// <summary>Linux: anonymous memory in huge pages, futexes, fine timer slack.</summary>
internal sealed class LinuxHostPlatform : IHostPlatform
{
    public string Name => "Linux";

    public ulong PhysicalMemory => (ulong)LinuxNative.Sysconf(LinuxNative.ScPhysPages) * (ulong)LinuxNative.Sysconf(LinuxNative.ScPageSize);

    public IHostMemoryRegion AllocateGuestMemory(string name, ulong size) => new AnonymousMemoryRegion(name, size);

    public HostEvent CreateEvent() => new FutexEvent();

    public HostDiskFile OpenDiskFile(string path, bool readOnly) => LinuxDiskFile.Open(path, readOnly);

    public HostRunDelay? OpenRunDelay() => LinuxRunDelay.TryOpen();

    // The default slack of 50 µs would be added to every sleep; failure only costs precision.
    public void PrepareTimingThread() => LinuxNative.Prctl(LinuxNative.PrSetTimerSlack, 1, 0, 0, 0);
}

/// <summary>
/// Private anonymous memory, in huge pages where the host gives them: the guest's own page walks come on top of the host's, and a boot touches tens of thousands of pages. (Shared memory, such as a
/// memfd, gets no huge pages on a host in its default state.) A child process does not inherit it.
/// </summary>
internal sealed unsafe class AnonymousMemoryRegion : IHostMemoryRegion
{
    private const ulong HugePage = 2 << 20, PageSize = 4096;
    private readonly byte* _mapping;
    private readonly nuint _mapped;
    private byte* _address;

    public AnonymousMemoryRegion(string name, ulong size)
    {
        Size = size;
        // A huge page begins at a multiple of its size.
        _mapped = (nuint)(size >= HugePage && size <= ulong.MaxValue - HugePage ? size + HugePage : size);
        // SAFETY: unmapped in Dispose only; the slot that owns the region disposes it after its last lease.
        void* p = LinuxNative.Map(null, _mapped, LinuxNative.ProtReadWrite, LinuxNative.MapPrivate | LinuxNative.MapAnonymous | LinuxNative.MapNoReserve, -1, 0);
        if (p == (void*)-1)
        {
            throw new VirtException("MemoryUnavailable", $"The host gave no {size} bytes for '{name}' (mmap: {Marshal.GetLastPInvokeErrorMessage()}).",
                "Give the VM less memory, or raise the limit of address space.", name);
        }

        _mapping = (byte*)p;
        _address = size >= HugePage ? (byte*)(((ulong)p + HugePage - 1) & ~(HugePage - 1)) : _mapping;
        // A host that refuses either is slower, no more.
        _ = LinuxNative.Advise(p, _mapped, LinuxNative.AdviseDontFork);
        if (size >= HugePage)
            _ = LinuxNative.Advise(_address, (nuint)size, LinuxNative.AdviseHugePage);
    }

    public byte* Address => _address;

    public ulong Size { get; }

    public int FileDescriptor => -1;

    public ulong ResidentBytes
    {
        get
        {
            const ulong Pages = 1 << 16;
            var pages = new byte[Pages];
            ulong resident = 0;
            fixed (byte* p = pages)
            {
                for (ulong offset = 0; offset < Size; offset += Pages * PageSize)
                {
                    ulong length = Math.Min(Size - offset, Pages * PageSize);
                    int count = (int)((length + PageSize - 1) / PageSize);
                    if (LinuxNative.Resident(_address + offset, (nuint)length, p) != 0)
                        return resident * PageSize;
                    for (int i = 0; i < count; i++)
                        resident += (ulong)(p[i] & 1);
                }
            }

            return resident * PageSize;
        }
    }

    public void Discard(ulong offset, ulong length)
    {
        if (offset > Size || length > Size - offset)
            throw new ArgumentOutOfRangeException(nameof(offset), offset, "Outside the region.");
        if (length == 0)
            return;
        if (LinuxNative.Advise(_address + offset, (nuint)length, LinuxNative.AdviseDontNeed) != 0)
            throw new VirtException("MemoryUnavailable", $"The host refused to take back guest memory (madvise: {Marshal.GetLastPInvokeErrorMessage()}).");
    }

    public void Dispose()
    {
        if (_address != null && LinuxNative.Unmap(_mapping, _mapped) == 0)
            _address = null;
    }
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
