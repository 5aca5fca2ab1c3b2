using System.Runtime.InteropServices;
using VirtPS.Sdk;
using VirtPS.Sdk.Memory;

namespace VirtPS.Engine.Host;

/// <summary>What .NET alone offers: for Windows and macOS, unproven. Sleeps are in milliseconds, rounded up; memory is never given back before the end.</summary>
internal sealed class PortableHostPlatform : IHostPlatform
{
    public string Name => "Portable";

    public ulong PhysicalMemory => (ulong)GC.GetGCMemoryInfo().TotalAvailableMemoryBytes;

    public IHostMemoryRegion AllocateGuestMemory(string name, ulong size) => new ZeroedHeapRegion(name, size);

    public HostEvent CreateEvent() => new MonitorEvent();

    public HostDiskFile OpenDiskFile(string path, bool readOnly) => PortableDiskFile.Open(path, readOnly);

    public void PrepareTimingThread()
    {
        // Nothing finer is available here.
    }
}

/// <summary>calloc'ed memory, which operating systems commit as it is touched.</summary>
internal sealed unsafe class ZeroedHeapRegion : IHostMemoryRegion
{
    private void* _block;

    public ZeroedHeapRegion(string name, ulong size)
    {
        Size = size;
        try
        {
            // SAFETY: freed in Dispose only. Over-allocated, because the zeroing allocator does not align to pages.
            _block = NativeMemory.AllocZeroed((nuint)size + 4096);
        }
        catch (OutOfMemoryException e)
        {
            throw new VirtException("MemoryUnavailable", $"The host gave no {size} bytes for '{name}'.", "Give the VM less memory.", name, e);
        }

        Address = (byte*)(((nuint)_block + 4095) & ~(nuint)4095);
    }

    public byte* Address { get; private set; }

    public ulong Size { get; }

    public int FileDescriptor => -1;

    public ulong ResidentBytes => Size;

    public void Discard(ulong offset, ulong length)
    {
        if (offset > Size || length > Size - offset)
            throw new ArgumentOutOfRangeException(nameof(offset), offset, "Outside the region.");
        NativeMemory.Clear(Address + offset, (nuint)length);
    }

    public void Dispose()
    {
        NativeMemory.Free(_block);
        _block = null;
        Address = null;
    }
}

internal sealed class MonitorEvent : HostEvent
{
    private readonly object _gate = new();
    private bool _set;

    public override bool Wait(ulong nanoseconds)
    {
        long end = nanoseconds == ulong.MaxValue ? long.MaxValue : Environment.TickCount64 + (long)Math.Min((nanoseconds + 999_999) / 1_000_000, int.MaxValue);
        lock (_gate)
        {
            while (!_set)
            {
                long left = end == long.MaxValue ? int.MaxValue : end - Environment.TickCount64;
                if (left <= 0)
                    return false;
                Monitor.Wait(_gate, (int)Math.Min(left, int.MaxValue));
            }

            _set = false;
            return true;
        }
    }

    public override void Set()
    {
        lock (_gate)
        {
            _set = true;
            Monitor.Pulse(_gate);
        }
    }

    public override void Dispose()
    {
        // Nothing native.
    }
}
