using System.Runtime.CompilerServices;
using VirtPS.Emulation.Thunks;

namespace VirtPS.Emulation;

/// <summary>A place in generated code that jumps to another block once that is translated.</summary>
internal unsafe struct Link
{
    /// <summary>The jump's 32-bit distance (0: there is none to change), and where it leads while it is not linked; offsets in the code memory.</summary>
    public int Field, Unlinked;
    public Block* From;

    /// <summary>The target, from the first byte of <see cref="From"/>.</summary>
    public int Distance;

    /// <summary>Translation it is linked to (0: none), and the next link to the same.</summary>
    public int To, NextToSame;

    /// <summary>Leads to another page: good while neither page's mapping changes.</summary>
    public bool CrossesPage;
    public LinkKind Kind;

    /// <summary>In ring 3, the slot that says whether such a link is good now; else -1.</summary>
    public int Slot;
}

internal enum LinkKind : byte
{
    Branch,

    /// <summary>From a block that crosses into the next page to a place there: its guard vouches for the page.</summary>
    SecondPage,

    /// <summary>No branch: the guard of a block that crosses into the next page, which must be looked at.</summary>
    Guard,
}

/// <summary>A block's generated code.</summary>
internal unsafe struct TranslatedBlock
{
    public Block* Block;

    /// <summary>What was translated: the block, or the block with what follows its last branch.</summary>
    public Block* Decoded;

    /// <summary>Linear address that it was made for.</summary>
    public ulong Linear;

    /// <summary>Offset of the code, and its size.</summary>
    public int Code, Size;

    /// <summary>First link to it, next translation from the same guest page (0: none), and from the same second page where it crosses.</summary>
    public int FirstLink, NextInPage, NextInSecondPage;

    /// <summary>Its jumps to the second translation: first and number in the list of all.</summary>
    public int FirstUnpinned, UnpinnedCount;

    /// <summary>Where the second translation, which checks each access, begins and ends; 0: there is none yet.</summary>
    public int Unpinned, UnpinnedEnd;
}

/// <summary>
/// One vCPU's generated code: memory, translations by page, links between them. Nothing is freed singly; when the memory is full everything goes.
/// Only the vCPU's thread uses it, and never while it is in generated code.
/// </summary>
internal sealed unsafe class TranslationCache : IDisposable
{
    /// <summary>Room for the largest block is kept free.</summary>
    private const int Margin = 128 * 1024, TypicalBlock = 4096;
    private const int PageHashSize = 1 << 12, MaxLinks = 1 << 20;
    private readonly DoubleMapping _memory;
    private readonly int[] _pages = new int[PageHashSize], _secondPages = new int[PageHashSize];
    private readonly List<int> _crossLinks = [];

    /// <summary>Pages for which something was translated since everything was forgotten.</summary>
    public CodePages CodePages { get; } = new();
    private Link[] _links = new Link[1024];
    private TranslatedBlock[] _translations = new TranslatedBlock[1024];
    private readonly List<(int Field, int Index)> _unpinned = [];
    private int _committedUnpinned;
    private int _linkCount = 1, _translationCount = 1, _slotCount;

    /// <summary>Slots of ring 3's branches from page to page, and which are filled.</summary>
    private readonly ulong* _slots;
    private readonly List<int> _filledSlots = [], _filledGlobalGuards = [];

    public TranslationCache(int size, ulong* slots, HostFeatures host)
    {
        Stubs = new Stubs(host);
        _memory = new DoubleMapping(size);
        _slots = slots;
        Clear();
    }

    public Stubs Stubs { get; }

    public int Used { get; private set; }

    public int TranslationCount => _translationCount - 1;

    public bool IsFull => Used + Margin > _memory.Size || _linkCount + 256 > MaxLinks;

    /// <summary>Offset from a writable address to the executable one.</summary>
    public nint Shift => (nint)(_memory.Executable - _memory.Writable);

    /// <summary>Forgets everything.</summary>
    public void Clear()
    {
        Array.Clear(_pages);
        Array.Clear(_secondPages);
        CodePages.Clear();
        _crossLinks.Clear();
        _unpinned.Clear();
        _committedUnpinned = 0;
        _linkCount = _translationCount = 1;
        EmptySlots();
        EmptyGlobalGuards();
        _slotCount = 0;
        var a = new HostAssembler(_memory.Writable, _memory.Size);
        Stubs.Emit(ref a);
        Used = (int)(a.Next - _memory.Writable + 63) & ~63;
    }

    /// <summary>Begins a translation: where to write it. What depends on its place is noted in <paramref name="relocations"/>.</summary>
    public HostAssembler Begin(RelocationList? relocations = null)
    {
        (FirstLink, FirstSlot) = (_linkCount, _slotCount);
        _memory.Populate(Math.Min(Used + TypicalBlock, _memory.Size));
        return new HostAssembler(_memory.Writable + Used, _memory.Size - Used, relocations);
    }

    /// <summary>Where the code of the translation that is being written begins.</summary>
    public byte* NextCode => _memory.Writable + Used;

    /// <summary>The first link, slot and jump to a second translation of the block that is being written.</summary>
    public int FirstLink { get; private set; }

    public int FirstSlot { get; private set; }

    public int SlotCount => _slotCount;

    /// <summary>Jumps to the second translation, in the translation being written: fields by their offset in the code memory, and instructions.</summary>
    public ReadOnlySpan<(int Field, int Index)> NewUnpinned => System.Runtime.InteropServices.CollectionsMarshal.AsSpan(_unpinned)[_committedUnpinned..];

    /// <summary>Forgets what was written since <see cref="Begin"/>: it was not to be executed.</summary>
    public void Withdraw()
    {
        (_linkCount, _slotCount) = (FirstLink, FirstSlot);
        _unpinned.RemoveRange(_committedUnpinned, _unpinned.Count - _committedUnpinned);
    }

    public int OffsetOf(byte* writable) => (int)(writable - _memory.Writable);

    /// <summary>Start and size of all generated code, as executed.</summary>
    public byte* Start => _memory.Executable;

    public int Size => _memory.Size;

    /// <summary>The translation that an address in executable memory belongs to; 0: none.</summary>
    public int Find(byte* address)
    {
        long offset = address - _memory.Executable;
        for (int i = 1; i < _translationCount; i++)
        {
            ref TranslatedBlock t = ref _translations[i];
            if ((offset >= t.Code && offset < t.Code + t.Size) || (offset >= t.Unpinned && offset < t.UnpinnedEnd))
                return i;
        }

        return 0;
    }

    /// <summary>The executable address of a writable one.</summary>
    public byte* Executable(byte* writable) => writable + Shift;

    public byte* Executable(int translation) => _memory.Executable + _translations[translation].Code;

    public ref TranslatedBlock At(int translation) => ref _translations[translation];

    /// <summary>Notes a jump, in the translation being written, from instruction <paramref name="index"/> to the same one in the block's second translation.</summary>
    public void AddUnpinned(byte* field, int index) => _unpinned.Add((OffsetOf(field), index));

    /// <summary>Ends the second translation of a block.</summary>
    public void CommitUnpinned(Block* block, in HostAssembler a, ReadOnlySpan<nint> labels)
    {
        ref TranslatedBlock t = ref _translations[block->Translation];
        t.Unpinned = Used;
        t.UnpinnedEnd = OffsetOf(a.Next);
        for (int i = t.FirstUnpinned; i < t.FirstUnpinned + t.UnpinnedCount; i++)
            HostAssembler.Bind(_memory.Writable + _unpinned[i].Field, (byte*)labels[_unpinned[i].Index]);
        Used = t.UnpinnedEnd + 15 & ~15;
    }

    public ref Link LinkAt(int link) => ref _links[link];

    public int AddLink(Block* from, int distance, bool crossesPage, byte* field, byte* unlinked, int slot = -1, LinkKind kind = LinkKind.Branch)
    {
        if (_linkCount == _links.Length)
            Array.Resize(ref _links, _links.Length * 2);
        _links[_linkCount] = new Link { From = from, Distance = distance, CrossesPage = crossesPage, Slot = slot, Kind = kind, Field = field == null ? 0 : OffsetOf(field), Unlinked = OffsetOf(unlinked) };
        return _linkCount++;
    }

    /// <summary>A slot for a branch of ring 3 from page to page; -1 when all are taken.</summary>
    public int AddSlot()
    {
        if (_slotCount == VcpuMemory.SlotCount)
            return -1;
        _slots[_slotCount] = EmptySlot;
        return _slotCount++;
    }

    /// <summary>Minus an address that no code has: it is not canonical.</summary>
    private const ulong EmptySlot = 1ul << 63;

    /// <summary>Ring 3's mappings may have changed.</summary>
    public void EmptySlots()
    {
        foreach (int slot in _filledSlots)
            _slots[slot] = EmptySlot;
        _filledSlots.Clear();
    }

    /// <summary>Mappings of global pages may have changed.</summary>
    public void EmptyGlobalGuards()
    {
        foreach (int slot in _filledGlobalGuards)
            _slots[slot] = EmptySlot;
        _filledGlobalGuards.Clear();
    }

    /// <summary>The guard of a block that crosses into another page lets pass until <see cref="EmptySlots"/>, or until <see cref="EmptyGlobalGuards"/>.</summary>
    public void FillGuard(int link, ulong value, bool global)
    {
        int slot = _links[link].Slot;
        _slots[slot] = value;
        (global ? _filledGlobalGuards : _filledSlots).Add(slot);
    }

    /// <summary>A branch of ring 3 leads to a translation while the page at <paramref name="page"/> stays mapped as it is.</summary>
    public void FillSlot(int link, int translation, ulong page)
    {
        ref Link l = ref _links[link];
        if (l.To != translation)
        {
            if (l.To != 0)
            {
                Remove(ref _translations[l.To], link);
                Disconnect(ref l);
            }

            Connect(link, translation);
        }

        _slots[l.Slot] = 0 - page;
        _filledSlots.Add(l.Slot);
    }

    /// <summary>The index that the next <see cref="AddLink"/> will give.</summary>
    public int NextLink => _linkCount;

    /// <summary>Ends a translation: it becomes the block's.</summary>
    public int Commit(Block* block, Block* decoded, in HostAssembler a)
    {
        if (_translationCount == _translations.Length)
            Array.Resize(ref _translations, _translations.Length * 2);
        int index = _translationCount++;
        int end = OffsetOf(a.Next);
        CodePages.Mark(block->EntryLinear, block->Mode);
        ref int page = ref _pages[PageHash(block->Gpa)];
        _translations[index] = new TranslatedBlock { Block = block, Decoded = decoded, Linear = block->EntryLinear, Code = Used, Size = end - Used, NextInPage = page, FirstUnpinned = _committedUnpinned, UnpinnedCount = _unpinned.Count - _committedUnpinned };
        _committedUnpinned = _unpinned.Count;
        page = index;
        if (block->CrossesPage)
        {
            CodePages.Mark(block->EntryLinear + 0x1000, block->Mode);
            ref int second = ref _secondPages[PageHash(block->Gpa2)];
            _translations[index].NextInSecondPage = second;
            second = index;
        }

        Used = end + 15 & ~15;
        block->Translation = decoded->Translation = index;
        return index;
    }

    /// <summary>Makes a branch jump to a translation.</summary>
    public void Connect(int link, int translation)
    {
        ref Link l = ref _links[link];
        if (l.To != 0 || l.Field == 0)
            return;
        ref TranslatedBlock t = ref _translations[translation];
        l.To = translation;
        l.NextToSame = t.FirstLink;
        t.FirstLink = link;
        HostAssembler.Bind(_memory.Writable + l.Field, _memory.Writable + t.Code);
        if (l.CrossesPage && l.Slot < 0)
            _crossLinks.Add(link);
    }

    private void Disconnect(ref Link l)
    {
        HostAssembler.Bind(_memory.Writable + l.Field, _memory.Writable + l.Unlinked);
        l.To = 0;
        if (l.Slot >= 0)
            _slots[l.Slot] = EmptySlot;
    }

    /// <summary>Takes back all links from page to page: some mapping of code has changed.</summary>
    public void DisconnectPages()
    {
        foreach (int link in _crossLinks)
        {
            ref Link l = ref _links[link];
            if (l.To == 0)
                continue;
            Remove(ref _translations[l.To], link);
            Disconnect(ref l);
        }

        _crossLinks.Clear();
    }

    private void Remove(ref TranslatedBlock t, int link)
    {
        ref int at = ref t.FirstLink;
        while (at != link)
            at = ref _links[at].NextToSame;
        at = _links[link].NextToSame;
    }

    /// <summary>Drops the translations of blocks of a page that are not good any more. True if one was ring 3's.</summary>
    public bool DropStale(ulong gpa, SoftVcpu cpu) =>
        DropStale(ref _pages[PageHash(gpa)], second: false, cpu) | DropStale(ref _secondPages[PageHash(gpa)], second: true, cpu);

    /// <summary>The same for one chain: of blocks that begin in a page, or of those that cross into it.</summary>
    private bool DropStale(ref int head, bool second, SoftVcpu cpu)
    {
        bool user = false;
        ref int at = ref head;
        while (at != 0)
        {
            int translation = at;
            ref TranslatedBlock t = ref _translations[translation];
            ref int next = ref second ? ref t.NextInSecondPage : ref t.NextInPage;
            if (t.Block->IsFresh)
            {
                at = ref next;
                continue;
            }

            at = next;
            user |= DropStale(translation, cpu);
        }

        return user;
    }

    private bool DropStale(int translation, SoftVcpu cpu)
    {
        ref TranslatedBlock t = ref _translations[translation];
        cpu.ForgetJump(t.Linear);
        Drop(translation);
        return (t.Block->Mode & CodeMode.User) != 0;
    }

    private void Drop(int translation)
    {
        ref TranslatedBlock t = ref _translations[translation];
        for (int link = t.FirstLink; link != 0; link = _links[link].NextToSame)
            Disconnect(ref _links[link]);
        t.FirstLink = 0;
        // Meanwhile the block may have another.
        if (t.Block->Translation == translation)
            t.Block->Translation = 0;
    }

    /// <summary>Drops the translation of a block that is good: it is wanted for another address.</summary>
    public void Abandon(Block* block) => Drop(block->Translation);

    /// <summary>Drops whatever is not good any more, wherever it is.</summary>
    public void DropAllStale()
    {
        for (int i = 1; i < _translationCount; i++)
        {
            ref TranslatedBlock t = ref _translations[i];
            if (t.Block->Translation == i && !t.Block->IsFresh)
                Drop(i);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int PageHash(ulong gpa) => (int)(gpa >> 12) & (PageHashSize - 1);

    public void Dispose() => _memory.Dispose();
}
