using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace VirtPS.Sdk.Memory;

/// <summary>Host memory behind a slot (anonymous pages, native heap in tests). Freed once, by the slot.</summary>
public unsafe interface IHostMemoryRegion : IDisposable
{
    byte* Address { get; }

    ulong Size { get; }

    /// <summary>File descriptor of a file behind it that other processes can map, or -1.</summary>
    int FileDescriptor { get; }

    /// <summary>Gives pages back to the host; they read as zero afterwards.</summary>
    void Discard(ulong offset, ulong length);

    /// <summary>Bytes of host memory in use now.</summary>
    ulong ResidentBytes { get; }
}

/// <summary>
/// A run of guest-physical memory. <see cref="PageFlags"/> has a byte per 4 KiB page: <see cref="CodeFlag"/>, and one dirty mark per consumer
/// (<see cref="DirtyMask"/>); change it with atomic operations only.
/// </summary>
public sealed unsafe class MemorySlot : IDisposable
{
    /// <summary>A software backend holds code decoded or translated from this page.</summary>
    public const byte CodeFlag = 1;

    /// <summary>All dirty marks; a writer sets them together.</summary>
    public const byte DirtyMask = 0xFC;

    private readonly IHostMemoryRegion _region;
    private int _leases;
    private byte* _pageFlags;

    /// <summary>Takes ownership of <paramref name="region"/>. Address and size are multiples of 4096.</summary>
    public MemorySlot(string name, ulong gpa, IHostMemoryRegion region, bool readOnly = false)
    {
        if ((gpa & 0xFFF) != 0 || (region.Size & 0xFFF) != 0 || region.Size == 0)
            throw new ArgumentException($"Memory slot '{name}' at 0x{gpa:X}, 0x{region.Size:X} bytes, is not page-aligned.", nameof(gpa));
        (Name, Gpa, _region, ReadOnly) = (name, gpa, region, readOnly);
        Size = region.Size;
        // SAFETY: freed in Dispose only, after the partition has unmapped the slot.
        _pageFlags = (byte*)NativeMemory.AllocZeroed((nuint)PageCount);
    }

    public string Name { get; }

    /// <summary>First guest-physical address.</summary>
    public ulong Gpa { get; }

    /// <summary>Bytes.</summary>
    public ulong Size { get; }

    /// <summary>First guest-physical address behind it.</summary>
    public ulong End => Gpa + Size;

    public ulong PageCount => Size >> 12;

    /// <summary>The guest cannot write it: writes go to <see cref="Cpu.IVcpuHost.WriteMmio"/> (ROM).</summary>
    public bool ReadOnly { get; }

    /// <summary>Host-virtual address of the first byte.</summary>
    public byte* Address => _region.Address;

    public byte* PageFlags => _pageFlags;

    public IHostMemoryRegion Region => _region;

    /// <summary>Sets all dirty marks of a page; returns the flags before.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public byte MarkDirty(ulong page) => AtomicOr(_pageFlags + page, DirtyMask);

    public static byte AtomicOr(byte* target, byte bits)
    {
        byte old = Volatile.Read(ref *target);
        while ((old & bits) != bits)
        {
            byte seen = Interlocked.CompareExchange(ref *target, (byte)(old | bits), old);
            if (seen == old)
                break;
            old = seen;
        }

        return old;
    }

    public static byte AtomicAnd(byte* target, byte bits)
    {
        byte old = Volatile.Read(ref *target);
        while ((old & bits) != old)
        {
            byte seen = Interlocked.CompareExchange(ref *target, (byte)(old & bits), old);
            if (seen == old)
                break;
            old = seen;
        }

        return old;
    }

    internal bool TryAddLease()
    {
        if (Interlocked.Increment(ref _leases) > 0)
            return true;
        Interlocked.Decrement(ref _leases);
        return false;
    }

    internal void ReleaseLease() => Interlocked.Decrement(ref _leases);

    /// <summary>Forbids new leases and waits until the open ones are disposed.</summary>
    internal void WaitForLeases()
    {
        Interlocked.Add(ref _leases, int.MinValue / 2);
        SpinWait.SpinUntil(() => Volatile.Read(ref _leases) == int.MinValue / 2);
    }

    public void Dispose()
    {
        if (_pageFlags == null)
            return;
        NativeMemory.Free(_pageFlags);
        _pageFlags = null;
        _region.Dispose();
    }
}

/// <summary>A checked window on guest memory; valid until disposed, which must be soon and on the same thread.</summary>
public readonly unsafe ref struct MemoryLease
{
    private readonly GuestMemory _memory;
    private readonly MemorySlot _slot;
    private readonly ulong _offset;
    private readonly int _length;
    private readonly bool _writable;

    internal MemoryLease(GuestMemory memory, MemorySlot slot, ulong offset, int length, bool writable) =>
        (_memory, _slot, _offset, _length, _writable) = (memory, slot, offset, length, writable);

    // SAFETY: offset + length lie in the slot (checked by GuestMemory.TryLease) and the slot cannot go while the lease is counted.
    public Span<byte> Span => new(_slot.Address + _offset, _length);

    public byte* Pointer => _slot.Address + _offset;

    public void Dispose()
    {
        if (_slot is null)
            return;
        if (_writable)
            _memory.NoteWrite(_slot, _offset, (ulong)_length);
        _slot.ReleaseLease();
    }
}

/// <summary>Zeroed native heap as slot memory, for tests and small firmware regions.</summary>
public sealed unsafe class HeapMemoryRegion : IHostMemoryRegion
{
    private byte* _address;

    public HeapMemoryRegion(ulong size)
    {
        Size = size;
        // SAFETY: freed in Dispose only.
        _address = (byte*)NativeMemory.AlignedAlloc((nuint)size, 4096);
        NativeMemory.Clear(_address, (nuint)size);
    }

    public byte* Address => _address;

    public ulong Size { get; }

    public int FileDescriptor => -1;

    public ulong ResidentBytes => Size;

    public void Discard(ulong offset, ulong length)
    {
        if (offset > Size || length > Size - offset)
            throw new ArgumentOutOfRangeException(nameof(offset));
        NativeMemory.Clear(_address + offset, (nuint)length);
    }

    public void Dispose()
    {
        NativeMemory.AlignedFree(_address);
        _address = null;
    }
}
