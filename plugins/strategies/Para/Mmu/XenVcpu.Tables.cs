using VirtPS.Strategy.Para.Mmu;
using VirtPS.X86;

namespace VirtPS.Strategy.Para;

// Page-table hypercalls: every new entry is checked before it is written.
internal sealed unsafe partial class XenVcpu
{
    /// <summary>Bit of a count: the call goes on, and the number done so far is in memory already (MMU_UPDATE_PREEMPTED).</summary>
    private const ulong Continued = 1ul << 31;

    /// <summary>Requests of one call that are served before events may come in between.</summary>
    private const int UpdateBatch = 1024;

    /// <summary>A table whose last use was given back, when releasing it has to go on; 0 for none.</summary>
    private ulong _oldTable;

    private bool _flushAll, _flushLower, _programRan;

    /// <summary><see cref="PageTypes.UpperChanges"/> when this vCPU last dropped all its translations.</summary>
    private ulong _flushedAt;

    /// <summary><see cref="PageTypes.CodeChanges"/> when it last dropped what it knew of code, too.</summary>
    private ulong _codeDroppedAt = ulong.MaxValue;

    private ulong AllVcpus => (1ul << Domain.VcpuCount) - 1;

    /// <summary>Counted calls over a list: takes the lock, serves requests, stores how many were done, and says what is left.</summary>
    private long ServeList(ulong* a, int size, delegate*<XenVcpu, ulong*, long> serve)
    {
        if (!IsSelf((ushort)a[3]))
            return Errno.EPERM;
        ulong count = a[1] & ~Continued, done = 0;
        bool continued = (a[1] & Continued) != 0;
        if (count > int.MaxValue)
            return Errno.EINVAL;
        long result;
        using (Domain.EnterMmu(Cpu))
            result = ServeLocked(a, size, serve, count, ref done);
        if (a[2] != 0)
        {
            uint before = 0;
            if ((continued && !Read(a[2], out before)) || !Write(a[2], before + (uint)done))
                return Errno.EFAULT;
        }

        a[1] = (count - done) | Continued;
        return result;
    }

    private long ServeLocked(ulong* a, int size, delegate*<XenVcpu, ulong*, long> serve, ulong count, ref ulong done)
    {
        Domain.Types.Budget = TableBudget;
        long result = FinishOldTable();
        ulong* request = stackalloc ulong[3];
        while (result == 0 && done < count)
        {
            if (done == UpdateBatch)
                result = PageTypes.Restart;
            else if (!CopyFrom(a[0], request, size))
                result = Errno.EFAULT;
            else
                result = serve(this, request);
            // With an old table to be released the request itself is done.
            if (result != 0 && (result != PageTypes.Restart || _oldTable == 0 || done == UpdateBatch))
                break;
            a[0] += (ulong)size;
            done++;
        }

        FlushIfNeeded();
        return result;
    }

    private static bool IsSelf(ushort domain) => domain is XenAbi.Self or XenAbi.DomainId;

    private void FlushIfNeeded()
    {
        if (!_flushAll && !_flushLower)
            return;
        if (_flushAll)
            FlushAll(sameRoot: true);
        else
            Cpu.FlushLowerHalf();
        _flushAll = _flushLower = false;
        if (Domain.VcpuCount > 1)
            Cpu.FlushOthers(AllVcpus);
    }

    /// <summary>Drops everything. Under the root that there was, what is known of code stays true unless executable pages have been mapped otherwise.</summary>
    private void FlushAll(bool sameRoot)
    {
        // Read first: what changes from here on is for the next time.
        _flushedAt = Volatile.Read(ref Domain.Types.UpperChanges);
        ulong code = Volatile.Read(ref Domain.Types.CodeChanges);
        bool keepCode = sameRoot && code == _codeDroppedAt;
        _codeDroppedAt = code;
        _programRan = false;
        if (keepCode)
            Cpu.FlushTranslationsKeepingCode();
        else
            Cpu.FlushTranslations();
    }

    private bool IsUpper(int level, ulong table, int index) => level == 4 ? index >= XenArea.FirstSlot : Domain.Frames.Find(table)->Upper;

    /// <summary>An entry that processors may have in their translations is another now. Entries of upper levels are dropped for the guest; for pages it asks itself.</summary>
    private void NoteChange(int level, ulong table, int index, ulong old)
    {
        bool upper = IsUpper(level, table, index);
        if (upper)
            Domain.Types.UpperChanges++;
        if (upper && (level > 1 || (old & (PageBits.P | PageBits.NX)) == PageBits.P))
            Domain.Types.CodeChanges++;
        if (level == 1)
            return;
        _flushAll |= upper;
        _flushLower |= !upper;
    }

    /// <summary>Gives a use back; what cannot be finished now is remembered and the call continued.</summary>
    private long Release(ulong mfn)
    {
        if (_oldTable != 0)
        {
            // One at a time is remembered; a second one must be finished here.
            int budget = Domain.Types.Budget;
            Domain.Types.Budget = int.MaxValue;
            Domain.Types.Put(mfn);
            Domain.Types.Budget = budget;
            return PageTypes.Restart;
        }

        long result = Domain.Types.Put(mfn);
        if (result == PageTypes.Restart)
            _oldTable = mfn;
        return result;
    }

    private long FinishOldTable()
    {
        if (_oldTable == 0)
            return 0;
        long result = Domain.Types.Put(_oldTable);
        if (result == 0)
            _oldTable = 0;
        return result;
    }

    /// <summary>mmu_update(list, count, done, domain).</summary>
    private long UpdateTables(ulong* a) => ServeList(a, 16, &ServeUpdate);

    /// <summary>One request: machine address with the kind in its low bits, and a value (struct mmu_update).</summary>
    private static long ServeUpdate(XenVcpu v, ulong* request)
    {
        const int normal = 0, machineToPhysical = 1, preserveAccessed = 2, noTranslate = 3;
        int kind = (int)request[0] & 3;
        ulong mfn = request[0] >> 12;
        switch (kind)
        {
            case machineToPhysical:
                if (!v.Domain.Frames.IsRam(mfn) || v.Domain.Frames.Find(mfn) == null)
                    return Errno.EINVAL;
                v.Domain.Area.M2P[mfn] = request[1];
                return 0;
            case normal or preserveAccessed or noTranslate:
                return v.UpdateEntry(mfn, (int)(request[0] & 0xFF8) >> 3, request[1], kind == preserveAccessed);
            default:
                return Errno.ENOSYS;
        }
    }

    /// <summary>Writes 8 bytes of a frame: an entry where it is a page table, plain memory where it is not. Under the MMU lock.</summary>
    private long UpdateEntry(ulong mfn, int index, ulong value, bool preserve)
    {
        FrameTable frames = Domain.Frames;
        Frame* f = frames.Find(mfn);
        if (f == null || !frames.IsRam(mfn))
            return Errno.EINVAL;
        if (f->TypeCount != 0 && f->Type is >= FrameType.L1 and <= FrameType.L4)
        {
            int level = (int)f->Type;
            return f->Partial ? Errno.EBUSY : PageTypes.IsReserved(level, index) ? Errno.EINVAL : SetEntry(level, mfn, index, value, preserve);
        }

        long error = Domain.Types.Get(Cpu, mfn, FrameType.Writable);
        if (error != 0)
            return error;
        frames.NoteWrite(Domain.Memory, mfn);
        Volatile.Write(ref ((ulong*)frames.Pointer(mfn))[index], value);
        return Domain.Types.Put(mfn);
    }

    /// <summary>Replaces an entry of a page table. The new one's frame is taken before it is written, the old one's given back afterwards.</summary>
    private long SetEntry(int level, ulong table, int index, ulong value, bool preserve, ulong? expected = null)
    {
        ref ulong entry = ref ((ulong*)Domain.Frames.Pointer(table))[index];
        ulong old = Volatile.Read(ref entry);
        ulong wanted = PageTypes.Adjust(value, level);
        ulong identity = PageTypes.FrameMask | PageBits.P | (level == 1 ? PageBits.RW : PageBits.PS);
        Domain.Frames.NoteWrite(Domain.Memory, table);
        if (((old ^ wanted) & identity) == 0 && (wanted & PageBits.P) != 0)
        {
            if (!Replace(ref entry, wanted, preserve, expected, out old))
                return Errno.EAGAIN;
            if (((old ^ wanted) & (PageBits.RW | PageBits.US | PageBits.NX)) != 0)
                NoteChange(level, table, index, old);
            return 0;
        }

        long error = Domain.Types.GetEntry(Cpu, wanted, level);
        if (error != 0)
            return error;
        if (!Replace(ref entry, wanted, preserve, expected, out old))
        {
            Domain.Types.PutEntry(wanted, level);
            return Errno.EAGAIN;
        }

        if (IsUpper(level, table, index))
            Domain.Types.MarkUpper(wanted, level - 1);
        if ((old & PageBits.P) == 0)
            return 0;
        NoteChange(level, table, index, old);
        if (level == 1)
            return Domain.Types.PutEntry(old, 1);
        // The entry is in place: even where releasing has to go on, this request is done.
        return Release((old & PageTypes.FrameMask) >> 12);
    }

    /// <summary>The processor sets accessed and dirty bits meanwhile. False: it was not what was expected.</summary>
    private static bool Replace(ref ulong entry, ulong value, bool preserve, ulong? expected, out ulong old)
    {
        if (expected is { } before)
        {
            old = Interlocked.CompareExchange(ref entry, value, before);
            return old == before;
        }

        if (!preserve)
        {
            old = Interlocked.Exchange(ref entry, value);
            return true;
        }

        for (old = Volatile.Read(ref entry);;)
        {
            ulong seen = Interlocked.CompareExchange(ref entry, value | old & (PageBits.A | PageBits.D), old);
            if (seen == old)
                return true;
            old = seen;
        }
    }

    /// <summary>The L1 table and index for an address in the kernel's address space; false where there is none.</summary>
    private bool FindLeaf(ulong linear, out ulong table, out int index)
    {
        table = KernelRoot;
        index = 0;
        if (!IsCanonical(linear))
            return false;
        for (int level = 4; level > 1; level--)
        {
            index = (int)(linear >> (3 + 9 * level)) & 511;
            if (PageTypes.IsReserved(level, index))
                return false;
            ulong entry = ((ulong*)Domain.Frames.Pointer(table))[index];
            if ((entry & PageBits.P) == 0)
                return false;
            table = (entry & PageTypes.FrameMask) >> 12;
        }

        index = (int)(linear >> 12) & 511;
        return true;
    }

    /// <summary>update_va_mapping(address, entry, flags).</summary>
    private long UpdateVaMapping(ulong linear, ulong value, ulong flags)
    {
        long error;
        using (Domain.EnterMmu(Cpu))
        {
            Domain.Types.Budget = TableBudget;
            error = FindLeaf(linear, out ulong table, out int index) ? SetEntry(1, table, index, value, preserve: false) : Errno.EINVAL;
        }

        return error != 0 ? error : FlushAfterUpdate(linear, flags);
    }

    /// <summary>UVMF_*: what to flush in the low two bits, where in the rest.</summary>
    private long FlushAfterUpdate(ulong linear, ulong flags)
    {
        const ulong typeMask = 3, local = 0, all = 4;
        ulong type = flags & typeMask, where = flags & ~typeMask;
        if (type == 0)
            return 0;
        ulong vcpus = 1ul << Index;
        if (where == all)
            vcpus = AllVcpus;
        else if (where != local && !Read(where, out vcpus))
            return Errno.EFAULT;
        Flush(vcpus, type == 2 ? linear : null);
        return 0;
    }

    /// <summary>Drops translations of some vCPUs: one page, or all.</summary>
    private void Flush(ulong vcpus, ulong? linear)
    {
        if ((vcpus >> Index & 1) != 0)
        {
            if (linear is { } page)
                Cpu.FlushTranslation(page);
            else
                FlushAll(sameRoot: true);
        }

        ulong others = vcpus & AllVcpus & ~(1ul << Index);
        if (others != 0)
            Cpu.FlushOthers(others);
    }

    /// <summary>A direct write of the kernel to one of its own L1 tables, which are read-only to it: carried out here after the same checks. False: the fault is the guest's.</summary>
    private bool EmulateTableWrite(Sdk.Cpu.VcpuState* s)
    {
        ulong linear = s->Cr2;
        using MmuHold hold = Domain.EnterMmu(Cpu);
        if (!FindLeaf(linear, out ulong table, out int index))
            return false;
        ulong mapping = ((ulong*)Domain.Frames.Pointer(table))[index];
        if ((mapping & (PageBits.P | PageBits.RW)) != PageBits.P)
            return false;
        ulong target = (mapping & PageTypes.FrameMask) >> 12;
        Frame* f = Domain.Frames.Find(target);
        if (f == null || f->Type != FrameType.L1 || f->TypeCount == 0 || f->Partial || !Domain.Frames.IsRam(target))
            return false;
        int slot = (int)(linear & 0xFF8) >> 3;
        ulong entry = Volatile.Read(ref ((ulong*)Domain.Frames.Pointer(target))[slot]);
        if (!_tableWrite.TryDecode(this, s, (int)linear & 7, entry, out ulong value, out bool compares))
            return false;
        long error = compares ? 0 : SetEntry(1, target, slot, value, preserve: false, entry);
        // Changed by a processor meanwhile: the instruction is met again.
        if (error == Errno.EAGAIN)
            return true;
        if (error != 0)
            return false;
        _tableWrite.Complete(s);
        Cpu.Counters->PageTableWrites++;
        return true;
    }
}
