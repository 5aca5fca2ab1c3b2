using VirtPS.Sdk.Cpu;
using VirtPS.X86;

namespace VirtPS.Strategy.Para.Mmu;

/// <summary>
/// Takes and gives back uses of frames, checking a frame's content when it becomes a page table or a descriptor table: Xen's page types (xen/arch/x86/mm.c describes the rules). Under
/// <see cref="XenDomain.EnterMmu"/>.
/// </summary>
internal sealed unsafe class PageTypes(XenDomain domain, FrameTable frames, XenArea area)
{
    private const int EntryCount = 512;

    /// <summary>Bits of an entry that say which frame it names.</summary>
    public const ulong FrameMask = PageBits.AddressMask;

    private readonly Dictionary<(ulong Mfn, bool Write), uint> _holds = [];

    /// <summary>Uses by the VMM itself: ring pages, areas that it keeps up to date, grants that backends use.</summary>
    public IEnumerable<KeyValuePair<(ulong Mfn, bool Write), uint>> Holds => _holds;

    /// <summary>Page tables of all levels that one hypercall may still check or release before it must be continued.</summary>
    public int Budget { get; set; }

    /// <summary>A call ran out of <see cref="Budget"/>: it returns this and is to be issued again.</summary>
    public const long Restart = -85;

    /// <summary>
    /// What the guest wants to be in an entry, made fit: a processor that runs the guest's kernel in ring 3 needs the user bit everywhere; translations are never global.
    /// </summary>
    public static ulong Adjust(ulong entry, int level) =>
        (entry & PageBits.P) == 0 ? entry : level == 1 ? (entry | PageBits.US) & ~PageBits.G : entry | PageBits.US;

    /// <summary>A use of a frame as a table of level 1–4, writable or descriptors. 0, or a negative error.</summary>
    public long Get(IDeprivilegedVcpu? vcpu, ulong mfn, FrameType type)
    {
        Frame* f = frames.Find(mfn);
        if (f == null || f->TypeCount == uint.MaxValue)
            return Errno.EINVAL;
        if (f->Partial)
            return f->Type != type ? Errno.EINVAL : f->TypeCount == 1 ? Continue(vcpu, f, mfn) : Errno.EBUSY;
        if (f->TypeCount != 0)
        {
            if (f->Type != type)
                return Errno.EINVAL;
            f->TypeCount++;
            return 0;
        }

        if (!frames.IsRam(mfn) && type != FrameType.Writable)
            return Errno.EINVAL;
        if (f->Type == FrameType.Writable && type != FrameType.Writable)
            vcpu?.RevokeWrites(mfn << 12);
        f->Type = type;
        f->TypeCount = 1;
        if (type is FrameType.Writable)
            return 0;
        f->Progress = 0;
        f->Partial = true;
        return Continue(vcpu, f, mfn);
    }

    /// <summary>Gives a use back. The last one of a table releases what its entries use. <see cref="Restart"/> when that has to go on later.</summary>
    public long Put(ulong mfn)
    {
        Frame* f = frames.Find(mfn);
        if (f == null || f->TypeCount == 0)
            throw new InvalidOperationException($"Frame 0x{mfn:X} has no use to give back.");
        if (f->TypeCount > 1 || f->Type is FrameType.Writable or FrameType.Descriptors)
        {
            f->TypeCount--;
            return 0;
        }

        if (!f->Partial)
        {
            f->Partial = true;
            f->Progress = EntryCount;
        }

        return Release(f, mfn);
    }

    public long GetRead(ulong mfn)
    {
        Frame* f = frames.Find(mfn);
        if (f == null || f->ReadCount == uint.MaxValue)
            return Errno.EINVAL;
        f->ReadCount++;
        return 0;
    }

    public void PutRead(ulong mfn) => frames.Find(mfn)->ReadCount--;

    /// <summary>At start of day.</summary>
    public void Reset() => _holds.Clear();

    /// <summary>A use of a frame by the VMM itself, to read it or to write it, until <see cref="Unhold"/>.</summary>
    public long Hold(IDeprivilegedVcpu? vcpu, ulong mfn, bool write)
    {
        long error = !frames.IsRam(mfn) ? Errno.EINVAL : write ? Get(vcpu, mfn, FrameType.Writable) : GetRead(mfn);
        if (error == 0)
            _holds[(mfn, write)] = _holds.GetValueOrDefault((mfn, write)) + 1;
        return error;
    }

    public void Unhold(ulong mfn, bool write)
    {
        uint count = _holds.GetValueOrDefault((mfn, write));
        if (count == 0)
            throw new InvalidOperationException($"Frame 0x{mfn:X} is not held.");
        if (count == 1)
            _holds.Remove((mfn, write));
        else
            _holds[(mfn, write)] = count - 1;
        if (write)
            Put(mfn);
        else
            PutRead(mfn);
    }

    /// <summary>Takes what one entry of a table of <paramref name="level"/> uses.</summary>
    public long GetEntry(IDeprivilegedVcpu? vcpu, ulong entry, int level)
    {
        if ((entry & PageBits.P) == 0)
            return 0;
        ulong mfn = (entry & FrameMask) >> 12;
        if (level > 1)
            return (entry & PageBits.PS) != 0 ? Errno.EINVAL : Get(vcpu, mfn, (FrameType)(level - 1));
        return (entry & PageBits.RW) != 0 ? Get(vcpu, mfn, FrameType.Writable) : GetRead(mfn);
    }

    public long PutEntry(ulong entry, int level)
    {
        if ((entry & PageBits.P) == 0)
            return 0;
        ulong mfn = (entry & FrameMask) >> 12;
        if (level > 1 || (entry & PageBits.RW) != 0)
            return Put(mfn);
        PutRead(mfn);
        return 0;
    }

    /// <summary>Slots of a top-level table that are the VMM's.</summary>
    public static bool IsReserved(int level, int index) => level == 4 && index is >= XenArea.FirstSlot and < XenArea.FirstSlot + XenArea.SlotCount;

    private long Continue(IDeprivilegedVcpu? vcpu, Frame* f, ulong mfn)
    {
        if (f->Type == FrameType.Descriptors)
            return CheckDescriptors(f, mfn);
        if (--Budget < 0)
            return Restart;
        int level = (int)f->Type;
        frames.NoteWrite(domain.Memory, mfn);
        ulong* entries = (ulong*)frames.Pointer(mfn);
        for (int i = f->Progress; i < EntryCount; i++)
        {
            if (IsReserved(level, i))
                continue;
            ulong entry = entries[i];
            if ((entry & PageBits.P) == 0)
                continue;
            long error = GetEntry(vcpu, entry, level);
            if (error != 0)
            {
                f->Progress = (ushort)i;
                return error == Restart ? Restart : Abandon(f, mfn, error);
            }

            entries[i] = Adjust(entry, level);
        }

        if (level == 4)
        {
            area.FillRoot(entries);
            for (int i = XenArea.FirstSlot + XenArea.SlotCount; i < EntryCount; i++)
                MarkUpper(entries[i], 3);
        }

        f->Partial = false;
        return 0;
    }

    private long CheckDescriptors(Frame* f, ulong mfn)
    {
        frames.NoteWrite(domain.Memory, mfn);
        ulong* entries = (ulong*)frames.Pointer(mfn);
        for (int i = 0; i < EntryCount; i++)
        {
            if (Descriptor.TryAdjust(entries[i], out entries[i]))
                continue;
            f->Partial = false;
            f->TypeCount = 0;
            return Errno.EINVAL;
        }

        f->Partial = false;
        return 0;
    }

    /// <summary>An entry was refused: gives back what the entries before it have taken.</summary>
    private long Abandon(Frame* f, ulong mfn, long error)
    {
        // The entries before were taken by calls that had the budget; giving back must not stop half way and turn a refusal into a half-made table.
        int budget = Budget;
        Budget = int.MaxValue;
        Release(f, mfn);
        Budget = budget;
        return error;
    }

    private long Release(Frame* f, ulong mfn)
    {
        if (--Budget < 0)
            return Restart;
        int level = (int)f->Type;
        ulong* entries = (ulong*)frames.Pointer(mfn);
        while (f->Progress > 0)
        {
            int i = f->Progress - 1;
            if (!IsReserved(level, i) && PutEntry(entries[i], level) == Restart)
                return Restart;
            f->Progress--;
        }

        f->Partial = false;
        f->Upper = false;
        f->TypeCount = 0;
        return 0;
    }

    /// <summary>Changes of tables that the upper half may lead to: entries that were present and are not what they were.</summary>
    public ulong UpperChanges;

    /// <summary>Those of them that may have mapped executable pages otherwise: of executable pages, and of whole tables. Changed under the MMU's lock, read by any thread.</summary>
    public ulong CodeChanges;

    /// <summary>A table has been entered into the upper half: it and all below it.</summary>
    public void MarkUpper(ulong entry, int level)
    {
        if ((entry & PageBits.P) == 0 || level == 0)
            return;
        ulong mfn = (entry & FrameMask) >> 12;
        Frame* f = frames.Find(mfn);
        if (f->Upper)
            return;
        f->Upper = true;
        if (level == 1)
            return;
        ulong* entries = (ulong*)frames.Pointer(mfn);
        for (int i = 0; i < EntryCount; i++)
            MarkUpper(entries[i], level - 1);
    }
}
