using VirtPS.Strategy.Para.Mmu;

namespace VirtPS.Strategy.Para.GrantTables;

/// <summary>
/// The guest's grant table, version 1: pages that it lets a backend use. Entry: flags (16 bits), domain (16), frame (32); 512 to a frame (public/grant_table.h).
/// </summary>
internal sealed unsafe class GrantTable(XenDomain domain)
{
    public const int EntriesPerFrame = 512;
    private const ushort PermitAccess = 1, TypeMask = 3, ReadOnly = 4, Reading = 8, Writing = 16;

    private int[] _uses = [];

    /// <summary>Frames that the guest has set up.</summary>
    public int FrameCount { get; private set; }

    public void Reset()
    {
        FrameCount = 0;
        _uses = new int[XenArea.GrantFrameCount * EntriesPerFrame];
    }

    /// <summary>GNTTABOP_setup_table: at least <paramref name="frames"/> frames from now on.</summary>
    public bool Grow(uint frames)
    {
        if (frames > XenArea.GrantFrameCount)
            return false;
        FrameCount = Math.Max(FrameCount, (int)frames);
        return true;
    }

    /// <summary>
    /// Uses a page that the guest has granted to the backends' domain. False: there is no such grant, or it is read-only and <paramref name="write"/> is asked. While it is used the guest cannot
    /// make it a page table, and sees the grant as in use. Any thread; give it back with <see cref="Unmap"/>.
    /// </summary>
    public bool TryMap(uint reference, bool write, out GrantedPage page)
    {
        page = default;
        if (reference >= (uint)(FrameCount * EntriesPerFrame))
            return false;
        ushort* flags = (ushort*)(domain.Area.GrantMemory + reference * 8);
        using MmuHold hold = domain.EnterMmu(null);
        ushort now = Volatile.Read(ref *flags);
        if ((now & TypeMask) != PermitAccess || flags[1] != XenAbi.BackendDomain || (write && (now & ReadOnly) != 0))
            return false;
        ulong mfn = *(uint*)(flags + 2);
        if (domain.Types.Hold(null, mfn, write) != 0)
            return false;
        _uses[reference]++;
        SetFlags(flags, write ? Reading | Writing : Reading);
        page = new GrantedPage(reference, mfn, write, domain.Frames.Pointer(mfn));
        if (write)
            domain.Frames.NoteWrite(domain.Memory, mfn);
        return true;
    }

    /// <summary>Ends a use. The guest may take the grant back when it was the last.</summary>
    public void Unmap(in GrantedPage page)
    {
        using MmuHold hold = domain.EnterMmu(null);
        if (page.Writable)
            domain.Frames.NoteWrite(domain.Memory, page.Mfn);
        domain.Types.Unhold(page.Mfn, page.Writable);

        if (--_uses[page.Reference] == 0)
            ClearFlags((ushort*)(domain.Area.GrantMemory + page.Reference * 8));
    }

    // The guest changes the other bits of the same word at the same time; flags and domain are one 32-bit word.
    private static void SetFlags(ushort* flags, int bits) => Interlocked.Or(ref *(uint*)flags, (uint)bits);

    private static void ClearFlags(ushort* flags) => Interlocked.And(ref *(uint*)flags, ~(uint)(Reading | Writing));
}

/// <summary>A guest page in use by a backend: 4096 bytes at <see cref="Pointer"/> until it is given back.</summary>
internal readonly unsafe struct GrantedPage(uint reference, ulong mfn, bool writable, byte* pointer)
{
    public uint Reference { get; } = reference;

    public ulong Mfn { get; } = mfn;

    public bool Writable { get; } = writable;

    public byte* Pointer { get; } = pointer;

    public Span<byte> Span => new(Pointer, 4096);
}
