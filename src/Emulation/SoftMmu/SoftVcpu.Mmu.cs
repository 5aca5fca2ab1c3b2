using System.Runtime.CompilerServices;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Memory;
using VirtPS.X86;

namespace VirtPS.Emulation;

// TLB upkeep and the coordination between the vCPUs of a partition.
public sealed unsafe partial class SoftVcpu
{
    /// <summary>Data views: what the accessor's privilege lets it reach.</summary>
    internal const int ViewUser = 0, ViewSupervisor = 1, ViewSupervisorAc = 2;

    /// <summary>Code views.</summary>
    private const int ViewCodeUser = 3, ViewCodeSupervisor = 4;

    /// <summary>Never filled; the current view while every access must be looked at (alignment checks, breakpoints).</summary>
    private const int ViewNone = 5;
    internal const int ViewCount = 6;

    internal const uint RequestFlushTlb = (uint)VcpuRequests.FlushTlb, RequestFlushWrites = (uint)VcpuRequests.FirstBackendBit;

    /// <summary>Stop at the next boundary until <see cref="SoftPartition.Held"/> is over.</summary>
    private const uint RequestHold = (uint)VcpuRequests.FirstBackendBit << 1;

    /// <summary>Code of pages in <see cref="_stalePages"/> has changed.</summary>
    private const uint RequestStaleCode = (uint)VcpuRequests.FirstBackendBit << 2;

    private const int Outside = 0, InGuest = 1, InHost = 2;

    private readonly Tlb[] _views = new Tlb[ViewCount];
    private MappedSlot? _lastSlot;
    private int _view;
    private int _runState;
    private ulong _codeLimits, _pagingControl;
    private int _flushAsked, _flushDone;

    private readonly LargePages _largePages = new();

    private uint WriterBit => 1u << (Index & 31);

    private static bool IsUserView(int view) => view is ViewUser or ViewCodeUser;

    private void InitializeMemory()
    {
        for (int i = 0; i < ViewCount; i++)
            _views[i] = new Tlb(_memory.View(i));
        N->Tlb = _views[ViewSupervisor].Entries;
        N->MapGeneration = 1;
    }

    private void FreeMemory()
    {
        foreach (Tlb t in _views)
            t.Dispose();
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private MappedSlot? FindSlot(ulong gpa)
    {
        MappedSlot? s = _lastSlot;
        return s is not null && gpa - s.Gpa < s.Size ? s : FindSlotSlow(gpa);
    }

    private MappedSlot? FindSlotSlow(ulong gpa)
    {
        MappedSlot? s = Partition.Find(gpa);
        if (s is not null)
            _lastSlot = s;
        return s;
    }

    /// <summary>Drops translations: all, or all that are not global. <paramref name="keepCode"/>: links and jump caches are kept where they lead to global pages, which are mapped as they were.</summary>
    internal void FlushTlb(bool global, bool keepCode = false)
    {
        for (int i = 0; i < ViewNone; i++)
            _views[i].Flush(global);
        if (global)
            _largePages.Clear();

        N->MapGeneration++;
        _tlbChanges++;
        TranslationsUnmapped(global && !keepCode);
        Counters->TlbFlushes++;
        LeaveBlock();
    }

    /// <summary>INVLPG: drops the page that holds the address, whatever its size, global or not.</summary>
    internal void FlushTlbPage(ulong linear)
    {
        if (_largePages.MayBeHuge(linear))
        {
            FlushTlb(global: true);
            return;
        }

        ulong size = !_largePages.MayBeLarge(linear) ? PageBits.PageSize : (S->Cr4 & Cr4.PAE) != 0 ? LargePages.Size : 2 * LargePages.Size;
        ulong start = linear & ~(size - 1);
        for (int i = 0; i < ViewNone; i++)
            _views[i].FlushPages(start, (int)(size / PageBits.PageSize));
        N->MapGeneration++;
        _tlbChanges++;
        TranslationsUnmapped(start, size);
        LeaveBlock();
    }

    /// <summary>INVPCID and CR3 loads with PCIDs. No translation is kept over a PCID change, so this drops everything that is not global.</summary>
    internal void FlushTlbPcid(ulong pcid) => FlushTlb(global: false);

    /// <summary>Any thread: asks for a flush; see <see cref="WaitFlushed"/>.</summary>
    internal void RequestFlush(uint request)
    {
        Interlocked.Increment(ref _flushAsked);
        Interlocked.Or(ref S->Requests, request);
        Kick();
    }

    /// <summary>
    /// Any other thread: returns when this vCPU has flushed, or is not executing guest code (it flushes before it does again). A vCPU that waits does so
    /// in the state <see cref="InHost"/>, so that two may wait for each other.
    /// </summary>
    internal void WaitFlushed()
    {
        int asked = Volatile.Read(ref _flushAsked);
        var spin = new SpinWait();
        while (Volatile.Read(ref _flushDone) - asked < 0 && Volatile.Read(ref _runState) == InGuest)
            spin.SpinOnce(sleep1Threshold: -1);
    }

    private void ServeFlushRequests()
    {
        uint requests = Volatile.Read(ref S->Requests);
        while ((requests & RequestHold) != 0)
        {
            WaitWhileHeld();
            requests = Volatile.Read(ref S->Requests);
        }

        if ((requests & RequestStaleCode) != 0)
            DropStaleTranslations();
        if ((requests & (RequestFlushTlb | RequestFlushWrites)) == 0)
            return;
        int asked = Volatile.Read(ref _flushAsked);
        Interlocked.And(ref S->Requests, ~(RequestFlushTlb | RequestFlushWrites));
        if ((requests & RequestFlushTlb) != 0)
        {
            _lastSlot = null;
            FlushTlb(global: true);
        }
        else
        {
            _tlbChanges++;
            for (int i = 0; i < ViewCodeUser; i++)
                _views[i].FlushWrites();
        }

        Volatile.Write(ref _flushDone, asked);
    }

    private void WaitWhileHeld()
    {
        int before = Interlocked.Exchange(ref _runState, InHost);
        Interlocked.And(ref S->Requests, ~RequestHold);
        var spin = new SpinWait();
        while (Partition.Held)
            spin.SpinOnce(sleep1Threshold: -1);
        Interlocked.Exchange(ref _runState, before);
        // A new holder may have seen us InHost: its request bit is set then, and the caller looks again.
    }

    /// <summary>
    /// Stops all other vCPUs of the partition between instructions. Until <see cref="EndExclusive"/> this one is alone; translations and pointers found
    /// before must be found again.
    /// </summary>
    internal void BeginExclusive()
    {
        int before = EnterHost();
        Monitor.Enter(Partition.ExclusiveGate);
        // An earlier holder may have asked us to stop; it is done now.
        Interlocked.And(ref S->Requests, ~RequestHold);
        Partition.Held = true;
        foreach (SoftVcpu v in Partition.Vcpus)
        {
            if (v != this)
            {
                Interlocked.Or(ref v.S->Requests, RequestHold);
                v.Kick();
            }
        }

        foreach (SoftVcpu v in Partition.Vcpus)
        {
            var spin = new SpinWait();
            while (v != this && Volatile.Read(ref v._runState) == InGuest)
                spin.SpinOnce(sleep1Threshold: -1);
        }

        LeaveHost(before);
    }

    internal void EndExclusive()
    {
        Partition.Held = false;
        Monitor.Exit(Partition.ExclusiveGate);
    }

    private void EnterGuest()
    {
        Interlocked.Exchange(ref _runState, InGuest);
        ServeFlushRequests();
    }

    private void LeaveGuest() => Volatile.Write(ref _runState, Outside);

    /// <summary>Before a call out of the backend: no host pointer into guest memory is held over it.</summary>
    internal int EnterHost() => Interlocked.Exchange(ref _runState, InHost);

    /// <summary>After it, with what <see cref="EnterHost"/> returned.</summary>
    internal void LeaveHost(int before)
    {
        Interlocked.Exchange(ref _runState, before);
        if (before == InGuest)
            ServeFlushRequests();
    }

    /// <summary>
    /// Before a write through a host pointer to a page that has no write tag here: dirty marks, and the end of code decoded from these bytes.
    /// </summary>
    private void NoteHostWrite(MappedSlot slot, ulong offset, int size)
    {
        ulong page = offset >> 12;
        PageInfo* info = slot.Pages + page;
        // Announced first: whoever decodes from the page after this waits until our instruction is over.
        if ((Volatile.Read(ref info->Writers) & WriterBit) == 0)
            Interlocked.Or(ref info->Writers, WriterBit);
        byte flags = slot.Slot.MarkDirty(page);
        if ((flags & MemorySlot.CodeFlag) == 0)
            return;
        ulong first = (offset & 0xFFF) >> 6, last = ((offset & 0xFFF) + (ulong)size - 1) >> 6;
        ulong granules = (ulong.MaxValue >> (63 - (int)Math.Min(last, 63))) & (ulong.MaxValue << (int)first);
        if ((Volatile.Read(ref info->Coverage) & granules) == 0)
            return;
        Partition.InvalidateCode(slot, page << 12, 1);
        Counters->CodeInvalidations++;
        LeaveBlock();
    }

    /// <summary>
    /// Makes a page one whose writes are seen, before its bytes are decoded: sets the code flag and the coverage, takes all write tags away.
    /// Returns the generation under which the bytes may be used.
    /// </summary>
    private uint ProtectCode(MappedSlot slot, ulong offset, int length)
    {
        ulong page = offset >> 12;
        PageInfo* info = slot.Pages + page;
        uint generation;
        uint writers;
        lock (Partition.CodeLock)
        {
            ulong first = (offset & 0xFFF) >> 6, last = ((offset & 0xFFF) + (ulong)length - 1) >> 6;
            info->Coverage |= (ulong.MaxValue >> (63 - (int)last)) & (ulong.MaxValue << (int)first);
            MemorySlot.AtomicOr(slot.Flags + page, MemorySlot.CodeFlag);
            generation = info->Generation;
            writers = Interlocked.Exchange(ref info->Writers, 0);
            // While another vCPU still waits for writers, whose bits it has taken, we must wait for them too.
            if (Partition.WaitingForWriters != 0)
                writers = uint.MaxValue;
            Partition.WaitingForWriters++;
        }

        if (writers != 0)
            TakeWriteTags(slot.Gpa + (page << 12), writers);
        lock (Partition.CodeLock)
            Partition.WaitingForWriters--;
        return generation;
    }

    private void TakeWriteTags(ulong gpa, uint writers)
    {
        if ((writers & WriterBit) != 0)
        {
            _tlbChanges++;
            for (int i = 0; i < ViewCodeUser; i++)
                _views[i].FlushWrites(gpa);
        }

        if (Partition.Vcpus.Length == 1 || ((writers & ~WriterBit) == 0 && Partition.Vcpus.Length <= 32))
            return;
        int before = EnterHost();
        foreach (SoftVcpu v in Partition.Vcpus)
        {
            if (v == this || (writers & v.WriterBit) == 0)
                continue;
            v.RequestFlush(RequestFlushWrites);
            v.WaitFlushed();
        }

        LeaveHost(before);
    }

    /// <summary>
    /// After any change of CR0, CR4, EFER, CS, CPL, RFLAGS.VM or AC, a segment's base or limit, or <see cref="DebugActive"/>: recomputes what is derived from
    /// them and leaves the block.
    /// </summary>
    internal void ModeChanged()
    {
        bool paging = (S->Cr0 & Cr0.PG) != 0;
        bool user = S->Cpl == 3 && S->GuestKernel == 0;
        _view = user ? ViewUser
            : paging && (S->Cr4 & Cr4.SMAP) != 0 && (S->Rflags & Rflags.AC) != 0 ? ViewSupervisorAc : ViewSupervisor;
        AlignmentCheck = user && (S->Cr0 & Cr0.AM) != 0 && (S->Rflags & Rflags.AC) != 0;
        N->Tlb = _views[AlignmentCheck || DebugActive ? ViewNone : _view].Entries;
        N->Mode = CodeModeNow();
        FlushIfPagingChanged();
        bool code64 = S->IsLongMode && S->CS.IsLong;
        N->RipMask = code64 ? ulong.MaxValue : S->CS.IsDefault32 && !S->IsVirtual8086 ? 0xFFFF_FFFF : 0xFFFF;
        N->LinearMask = code64 ? ulong.MaxValue : 0xFFFF_FFFF;
        N->CodeBase = code64 ? 0 : S->CS.Base;
        ulong codeLimits = code64 ? 0 : S->CS.Base ^ (ulong)S->CS.Limit << 32 ^ 1;
        if (codeLimits != _codeLimits && !code64)
        {
            // Blocks were checked against the limit when they were found.
            _codeLimits = codeLimits;
            N->MapGeneration++;
            _tlbChanges++;
            TranslationsUnmapped(global: true);
        }

        LeaveBlock();
    }

    private void FlushIfPagingChanged()
    {
        ulong control = S->Cr0 & (Cr0.PG | Cr0.WP) | S->Cr4 & (Cr4.PSE | Cr4.PAE | Cr4.PGE | Cr4.SMEP | Cr4.SMAP) | (S->Efer & (Efer.NXE | Efer.LMA)) << 32;
        if (control == _pagingControl)
            return;
        _pagingControl = control;
        FlushTlb(global: true);
    }
}
