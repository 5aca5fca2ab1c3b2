using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using VirtPS.X86;

namespace VirtPS.Emulation;

/// <summary>
/// One entry of a TLB view. The fields lie in arrays of their own, <see cref="Tlb.ArrayStride"/> apart, because generated code scales an index by 8; a pointer to an
/// entry points at its read tag and the others follow at fixed distances. Never used by value.
/// <para>
/// A tag is minus the linear address of the page. Adding an address gives the offset in the page, and "less than 4096 − size" is a hit that stays within
/// the page, in one compare. What is absent holds <see cref="Tlb.NoTag"/>.
/// </para>
/// </summary>
[StructLayout(LayoutKind.Explicit)]
internal struct TlbEntry
{
    /// <summary>Flags in the low bits of <see cref="Gpa"/>: global page; writing is allowed (dirty bit set) though there may be no write tag.</summary>
    public const ulong Global = 1, MayWrite = 4;

    [FieldOffset(0)] public ulong ReadTag;

    /// <summary>Data views: as <see cref="ReadTag"/>. Code views: the address of the page's <see cref="PageInfo"/>.</summary>
    [FieldOffset(Tlb.ArrayStride)] public ulong WriteTag;

    /// <summary>Host address minus linear address.</summary>
    [FieldOffset(2 * Tlb.ArrayStride)] public ulong Addend;

    /// <summary>Guest-physical page address and flags.</summary>
    [FieldOffset(3 * Tlb.ArrayStride)] public ulong Gpa;

    /// <summary>Host address of the page (for generated code that has the offset in the page at hand).</summary>
    [FieldOffset(4 * Tlb.ArrayStride)] public ulong HostPage;
}

/// <summary>
/// A direct-mapped TLB for one kind of access. Remembers which entries were filled, so that a flush costs what was used since the last one: a Linux
/// boot flushes tens of thousands of times.
/// </summary>
internal sealed unsafe class Tlb : IDisposable
{
    public const int IndexBits = 14, Size = 1 << IndexBits;
    public const ulong IndexMask = Size - 1;

    /// <summary>Bytes from one field's array to the next; not a multiple of 4 KiB, so that the fields of an entry do not compete for one set of the cache.</summary>
    public const int ArrayStride = Size * 8 + 192;

    /// <summary>Bytes of a view.</summary>
    public const int ViewBytes = 5 * ArrayStride;
    private const int ListCapacity = 2 * Size;

    public readonly TlbEntry* Entries;
    private readonly ushort* _local;
    private readonly ushort* _global;
    private int _localCount, _globalCount;

    /// <summary>A view in <paramref name="memory"/>, which has <see cref="ViewBytes"/> and outlives it.</summary>
    public Tlb(byte* memory)
    {
        // SAFETY: the lists are freed in Dispose; indices are masked by IndexMask, list lengths checked in Take.
        Entries = (TlbEntry*)memory;
        _local = (ushort*)NativeMemory.Alloc(ListCapacity, sizeof(ushort));
        _global = (ushort*)NativeMemory.Alloc(ListCapacity, sizeof(ushort));
        ClearAll();
    }

    /// <summary>Entries were filled or dropped so often; tells whether something may have been dropped.</summary>
    public int Filled => _localCount + _globalCount;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TlbEntry* Entry(TlbEntry* entries, ulong linear) =>
        (TlbEntry*)((byte*)entries + ((linear >> 9) & (IndexMask << 3)));

    /// <summary>
    /// The tag that no address of entry <paramref name="index"/> matches: that of a page with another index. Half the table away, so that an access
    /// that begins in the page before does not match either.
    /// </summary>
    public static ulong NoTag(ulong index) => 0 - (((index ^ Size / 2) & IndexMask) << 12);

    public static ulong TagOf(ulong linear) => 0 - (linear & ~0xFFFul);

    /// <summary>Whether <paramref name="size"/> bytes at <paramref name="linear"/> lie in the page of <paramref name="tag"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static bool Hit(ulong tag, ulong linear, int size) => linear + tag <= 4096 - (ulong)size;

    private TlbEntry* At(ulong index) => (TlbEntry*)((byte*)Entries + index * 8);

    /// <summary>The entry of a page, prepared to be filled: noted in the list that its next flush needs.</summary>
    public TlbEntry* Take(ulong linear, bool global)
    {
        TlbEntry* e = Entry(Entries, linear);
        ulong index = (linear >> 12) & IndexMask;
        bool fresh = e->Gpa == 0 && e->ReadTag == NoTag(index);
        if (!fresh && ((e->Gpa & TlbEntry.Global) != 0) == global)
        {
            e->ReadTag = e->WriteTag = NoTag(index);
            return e;
        }

        if (_localCount >= ListCapacity || _globalCount >= ListCapacity)
            ClearAll();
        if (global)
            _global[_globalCount++] = (ushort)index;
        else
            _local[_localCount++] = (ushort)index;
        e->ReadTag = e->WriteTag = NoTag(index);
        return e;
    }

    public void Flush(bool global)
    {
        for (int i = 0; i < _localCount; i++)
        {
            if ((At(_local[i])->Gpa & TlbEntry.Global) == 0)
                Clear(_local[i]);
        }

        _localCount = 0;
        if (!global)
            return;
        for (int i = 0; i < _globalCount; i++)
            Clear(_global[i]);
        _globalCount = 0;
    }

    /// <summary>Drops all write tags; the entries may be read on.</summary>
    public void FlushWrites()
    {
        for (int i = 0; i < _localCount; i++)
            At(_local[i])->WriteTag = NoTag(_local[i]);
        for (int i = 0; i < _globalCount; i++)
            At(_global[i])->WriteTag = NoTag(_global[i]);
    }

    /// <summary>Drops the write tags of one guest-physical page under whatever linear address.</summary>
    public void FlushWrites(ulong gpa)
    {
        FlushWrites(_local, _localCount, gpa);
        FlushWrites(_global, _globalCount, gpa);
    }

    private void FlushWrites(ushort* list, int count, ulong gpa)
    {
        for (int i = 0; i < count; i++)
        {
            TlbEntry* e = At(list[i]);
            if ((e->Gpa & ~0xFFFul) == gpa)
                e->WriteTag = NoTag(list[i]);
        }
    }

    /// <summary>Forgets that one guest-physical page may be written, under whatever linear address: the next write walks the tables.</summary>
    public void RevokeWrites(ulong gpa)
    {
        RevokeWrites(_local, _localCount, gpa);
        RevokeWrites(_global, _globalCount, gpa);
    }

    private void RevokeWrites(ushort* list, int count, ulong gpa)
    {
        for (int i = 0; i < count; i++)
        {
            TlbEntry* e = At(list[i]);
            if ((e->Gpa & ~0xFFFul) != gpa)
                continue;
            e->WriteTag = NoTag(list[i]);
            e->Gpa &= ~TlbEntry.MayWrite;
        }
    }

    /// <summary>Drops so many pages from an address on.</summary>
    public void FlushPages(ulong linear, int count)
    {
        for (; count > 0; count--, linear += PageBits.PageSize)
        {
            if (Entry(Entries, linear)->ReadTag == TagOf(linear))
                Clear((linear >> 12) & IndexMask);
        }
    }

    // The entry stays in its list: cheaper than to look for it.
    private void Clear(ulong index)
    {
        TlbEntry* e = At(index);
        e->ReadTag = e->WriteTag = NoTag(index);
        e->Gpa = 0;
    }

    private void ClearAll()
    {
        for (ulong i = 0; i < Size; i++)
            Clear(i);
        _localCount = _globalCount = 0;
    }

    public void Dispose()
    {
        NativeMemory.Free(_local);
        NativeMemory.Free(_global);
    }
}
