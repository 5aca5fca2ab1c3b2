using VirtPS.X86;

namespace VirtPS.Strategy.Para.Mmu;

/// <summary>
/// Counts every use of every frame anew, from the page tables, descriptor tables and holds themselves, and compares with what <see cref="FrameTable"/> says. What it proves when it finds
/// nothing: no writable mapping of a page table or descriptor table, no mapping of a frame that isn't the guest's, no reserved slot that isn't the VMM's. The domain must not change meanwhile:
/// all vCPUs stopped, or in a hypercall of the only one.
/// </summary>
internal sealed unsafe class PageTypeChecker
{
    private const int MaxFindings = 100;

    private readonly XenDomain _domain;
    private readonly uint[] _typeUses, _readUses;
    private readonly FrameType[] _types;
    private readonly List<string> _findings = [];

    private PageTypeChecker(XenDomain domain)
    {
        _domain = domain;
        _typeUses = new uint[domain.Frames.Count];
        _readUses = new uint[domain.Frames.Count];
        _types = new FrameType[domain.Frames.Count];
    }

    /// <summary>What is wrong, one sentence each, a hundred at most; empty when all is right.</summary>
    public static IReadOnlyList<string> Check(XenDomain domain)
    {
        using MmuHold hold = domain.EnterMmu(null);
        var checker = new PageTypeChecker(domain);
        checker.CountRoots();
        for (ulong i = 0; i < domain.Frames.Count; i++)
            checker.CountFrame(i);
        for (ulong i = 0; i < domain.Frames.Count; i++)
            checker.Compare(i);
        return checker._findings;
    }

    private void Report(string finding)
    {
        if (_findings.Count < MaxFindings)
            _findings.Add(finding);
    }

    private void CountRoots()
    {
        foreach (XenVcpu v in _domain.Vcpus)
        {
            if (v.KernelRoot != 0)
                Use(v.KernelRoot, FrameType.L4, $"vCPU {v.Index}'s kernel root");
            if (v.UserRoot != 0)
                Use(v.UserRoot, FrameType.L4, $"vCPU {v.Index}'s user root");
            foreach (ulong mfn in v.DescriptorFrames)
                Use(mfn, FrameType.Descriptors, $"vCPU {v.Index}'s descriptor table");
        }

        foreach (((ulong mfn, bool write), uint count) in _domain.Types.Holds)
        {
            for (uint i = 0; i < count; i++)
            {
                if (write)
                    Use(mfn, FrameType.Writable, "a hold");
                else
                    UseRead(mfn, "a hold");
            }
        }
    }

    private void CountFrame(ulong index)
    {
        Frame* f = _domain.Frames.At(index, out ulong mfn);
        if (index >= _domain.Frames.RamFrames)
            Use(mfn, FrameType.Writable, "being shared");
        if (f->Pinned)
            Use(mfn, f->Type, "its pin");
        if (f->Partial)
            Use(mfn, f->Type, "an operation that has not ended");
        if (f->TypeCount == 0)
            return;
        if (f->Type is >= FrameType.L1 and <= FrameType.L4)
            CountTable(f, mfn);
        else if (f->Type == FrameType.Descriptors)
            CheckDescriptors(mfn);
    }

    private void CountTable(Frame* f, ulong mfn)
    {
        int level = (int)f->Type;
        ulong* entries = (ulong*)_domain.Frames.Pointer(mfn);
        int count = f->Partial ? f->Progress : 512;
        for (int i = 0; i < count; i++)
        {
            ulong entry = entries[i];
            if (PageTypes.IsReserved(level, i) || (entry & PageBits.P) == 0)
                continue;
            string where = $"entry {i} of the L{level} table 0x{mfn:X}";
            if (PageTypes.Adjust(entry, level) != entry || (level > 1 && (entry & PageBits.PS) != 0))
                Report($"0x{entry:X} in {where} has bits that it must not have.");
            ulong target = (entry & PageTypes.FrameMask) >> 12;
            if (level > 1)
                Use(target, (FrameType)(level - 1), where);
            else if ((entry & PageBits.RW) != 0)
                Use(target, FrameType.Writable, where);
            else
                UseRead(target, where);
        }

        if (level == 4 && !f->Partial)
            CheckReserved(entries, mfn);
    }

    private void CheckReserved(ulong* entries, ulong mfn)
    {
        ulong* wanted = stackalloc ulong[512];
        new Span<ulong>(wanted, 512).Clear();
        _domain.Area.FillRoot(wanted);
        for (int i = XenArea.FirstSlot; i < XenArea.FirstSlot + XenArea.SlotCount; i++)
        {
            // The processor sets accessed and dirty bits.
            if (((entries[i] ^ wanted[i]) & ~(PageBits.A | PageBits.D)) != 0)
                Report($"Slot {i} of the L4 table 0x{mfn:X} is 0x{entries[i]:X}, not the VMM's.");
        }
    }

    private void CheckDescriptors(ulong mfn)
    {
        ulong* entries = (ulong*)_domain.Frames.Pointer(mfn);
        for (int i = 0; i < 512; i++)
        {
            if (!Descriptor.TryAdjust(entries[i], out ulong adjusted) || adjusted != entries[i])
                Report($"Descriptor {i} in frame 0x{mfn:X} is 0x{entries[i]:X}.");
        }
    }

    private bool TryIndex(ulong mfn, string who, out ulong index)
    {
        index = mfn < _domain.Frames.RamFrames ? mfn : mfn - _domain.Area.FirstFrame + _domain.Frames.RamFrames;
        if (_domain.Frames.Find(mfn) != null)
            return true;
        Report($"Frame 0x{mfn:X} is used by {who}, but is not the guest's.");
        return false;
    }

    private void Use(ulong mfn, FrameType type, string who)
    {
        if (!TryIndex(mfn, who, out ulong index))
            return;
        if (_typeUses[index]++ == 0)
            _types[index] = type;
        else if (_types[index] != type)
            Report($"Frame 0x{mfn:X} is used as {type} by {who}, and as {_types[index]}.");
    }

    private void UseRead(ulong mfn, string who)
    {
        if (TryIndex(mfn, who, out ulong index))
            _readUses[index]++;
    }

    private void Compare(ulong index)
    {
        Frame* f = _domain.Frames.At(index, out ulong mfn);
        if (f->TypeCount != _typeUses[index])
            Report($"Frame 0x{mfn:X} ({f->Type}) has {_typeUses[index]} uses; {f->TypeCount} are counted.");
        if (f->ReadCount != _readUses[index])
            Report($"Frame 0x{mfn:X} ({f->Type}) has {_readUses[index]} read-only mappings; {f->ReadCount} are counted.");
        if (_typeUses[index] != 0 && f->Type != _types[index])
            Report($"Frame 0x{mfn:X} is used as {_types[index]}; it is called {f->Type}.");
    }
}
