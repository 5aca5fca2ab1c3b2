using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace VirtPS.Emulation;

/// <summary>One entry of a TLB view; a tag is the linear page address, or <see cref="NoTag"/>. 32 bytes.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct TlbEntry
{
    /// <summary>Never equal to a page-aligned address.</summary>
    public const ulong NoTag = 1;

    /// <summary>Flags in the low bits of <see cref="Gpa"/>: global page; part of a large page; writing is allowed (dirty bit set) though there may be no write tag.</summary>
    public const ulong Global = 1, Large = 2, MayWrite = 4;

    public ulong ReadTag;

    /// <summary>Data views: as <see cref="ReadTag"/>. Code views: the address of the page's <see cref="PageInfo"/>.</summary>
    public ulong WriteTag;

    /// <summary>Host address minus linear address.</summary>
    public ulong Addend;

    /// <summary>Guest-physical page address and flags.</summary>
    public ulong Gpa;
}

/// <summary>
/// A direct-mapped TLB for one kind of access. Remembers which entries were filled, so that a flush costs what was used since the last one: a Linux
/// boot flushes tens of thousands of times.
/// </summary>
internal sealed unsafe class Tlb : IDisposable
{
    public const int Size = 4096;
    public const ulong IndexMask = Size - 1;
    private const int ListCapacity = 2 * Size;

    public readonly TlbEntry* Entries;
    private readonly ushort* _local;
    private readonly ushort* _global;
    private int _localCount, _globalCount;

    public Tlb()
    {
        // SAFETY: freed in Dispose; indices are masked by IndexMask, list lengths checked in Add.
        Entries = (TlbEntry*)NativeMemory.AlignedAlloc(Size * (nuint)sizeof(TlbEntry), 64);
        _local = (ushort*)NativeMemory.Alloc(ListCapacity, sizeof(ushort));
        _global = (ushort*)NativeMemory.Alloc(ListCapacity, sizeof(ushort));
        ClearAll();
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TlbEntry* Entry(TlbEntry* entries, ulong linear) =>
        (TlbEntry*)((byte*)entries + ((linear >> 7) & (IndexMask << 5)));

    /// <summary>The entry of a page, prepared to be filled: noted in the list that its next flush needs.</summary>
    public TlbEntry* Take(ulong linear, bool global)
    {
        TlbEntry* e = Entry(Entries, linear);
        bool fresh = e->ReadTag == TlbEntry.NoTag && e->WriteTag == TlbEntry.NoTag;
        if (!fresh && ((e->Gpa & TlbEntry.Global) != 0) == global)
        {
            e->ReadTag = e->WriteTag = TlbEntry.NoTag;
            return e;
        }

        if (_localCount >= ListCapacity || _globalCount >= ListCapacity)
            ClearAll();
        ushort index = (ushort)((linear >> 12) & IndexMask);
        if (global)
            _global[_globalCount++] = index;
        else
            _local[_localCount++] = index;
        e->ReadTag = e->WriteTag = TlbEntry.NoTag;
        return e;
    }

    public void Flush(bool global)
    {
        for (int i = 0; i < _localCount; i++)
        {
            TlbEntry* e = Entries + _local[i];
            if ((e->Gpa & TlbEntry.Global) == 0)
                Clear(e);
        }

        _localCount = 0;
        if (!global)
            return;
        for (int i = 0; i < _globalCount; i++)
            Clear(Entries + _global[i]);
        _globalCount = 0;
    }

    /// <summary>Drops all write tags; the entries may be read on.</summary>
    public void FlushWrites()
    {
        for (int i = 0; i < _localCount; i++)
            Entries[_local[i]].WriteTag = TlbEntry.NoTag;
        for (int i = 0; i < _globalCount; i++)
            Entries[_global[i]].WriteTag = TlbEntry.NoTag;
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
            TlbEntry* e = Entries + list[i];
            if ((e->Gpa & ~0xFFFul) == gpa)
                e->WriteTag = TlbEntry.NoTag;
        }
    }

    public void FlushPage(ulong linear)
    {
        TlbEntry* e = Entry(Entries, linear);
        if (e->ReadTag == (linear & ~0xFFFul) || e->WriteTag == (linear & ~0xFFFul))
            Clear(e);
    }

    // The entry stays in its list: cheaper than to look for it.
    private static void Clear(TlbEntry* e)
    {
        e->ReadTag = e->WriteTag = TlbEntry.NoTag;
        e->Gpa = 0;
    }

    private void ClearAll()
    {
        for (int i = 0; i < Size; i++)
            Clear(Entries + i);
        _localCount = _globalCount = 0;
    }

    public void Dispose()
    {
        NativeMemory.AlignedFree(Entries);
        NativeMemory.Free(_local);
        NativeMemory.Free(_global);
    }
}
