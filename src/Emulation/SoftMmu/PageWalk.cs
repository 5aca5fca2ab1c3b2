using VirtPS.X86;
using static VirtPS.X86.PageBits;

namespace VirtPS.Emulation;

/// <summary>What an access wants of a page.</summary>
internal enum Access
{
    Read,
    Write,
    Fetch,
}

/// <summary>A page as the tables give it.</summary>
internal struct Translation
{
    /// <summary>Guest-physical address of the byte asked for.</summary>
    public ulong Gpa;

    /// <summary>A write is allowed and the dirty bit is set.</summary>
    public bool MayWrite;
    public bool Global;

    /// <summary>Part of a page larger than 4 KiB; larger than 4 MiB.</summary>
    public bool Large, Huge;
}

// Page-table walks (SDM Vol. 3A chapter 4).
public sealed unsafe partial class SoftVcpu
{
    private struct Walk
    {
        public ulong Linear;
        public ulong Rights;   // AND of all levels: RW and US
        public bool NoExecute;
        public byte* EntryHost;
        public MappedSlot? Slot;
        public uint Error;     // RSVD, or 0
    }

    /// <summary>
    /// Translates one linear address for an access through <paramref name="view"/>. False: #PF recorded. Accessed and dirty bits are set as the access needs.
    /// </summary>
    private bool TranslatePage(ulong linear, Access access, int view, out Translation t)
    {
        if ((S->Cr0 & Cr0.PG) == 0)
        {
            t = new Translation { Gpa = linear & 0xFFFF_FFFF, MayWrite = true };
            return true;
        }

        _engine.PageWalks++;
        for (;;)
        {
            WalkResult r = WalkTables(linear, access, view, sideEffects: true, out t, out uint error);
            if (r == WalkResult.Retry)
                continue;
            if (r == WalkResult.Ok)
                return true;
            if (access == Access.Write)
                error |= PageFaultError.W;
            if (IsUserView(view))
                error |= PageFaultError.U;
            if (access == Access.Fetch && ((S->Cr4 & Cr4.SMEP) != 0 || ((S->Efer & Efer.NXE) != 0 && (S->Cr4 & Cr4.PAE) != 0)))
                error |= PageFaultError.I;
            return RaisePageFault(linear, error);
        }
    }

    private enum WalkResult
    {
        Ok,
        Fault,
        Retry,
    }

    private WalkResult WalkTables(ulong linear, Access access, int view, bool sideEffects, out Translation t, out uint error)
    {
        t = default;
        error = 0;
        var w = new Walk { Linear = linear, Rights = RW | US };
        ulong leaf;
        ulong pageMask;
        WalkResult r;
        if ((S->Cr4 & Cr4.PAE) == 0)
            r = Walk32(ref w, sideEffects, out leaf, out pageMask, ref t);
        else if ((S->Efer & Efer.LMA) != 0)
            r = Walk64(ref w, S->Cr3 & AddressMask, 39, sideEffects, out leaf, out pageMask, ref t);
        else
            r = WalkPae(ref w, sideEffects, out leaf, out pageMask, ref t);
        if (r != WalkResult.Ok)
        {
            error = w.Error;
            return r;
        }

        if (!Allowed(in w, access, view))
        {
            error = PageFaultError.P;
            return WalkResult.Fault;
        }

        if (sideEffects)
        {
            ulong want = A | (access == Access.Write ? D : 0);
            if ((leaf & want) != want)
            {
                if (_lockStep is { IsAhead: true } l)
                    return l.Refuse() ? WalkResult.Ok : WalkResult.Fault;
                if (!SetBits(in w, leaf, want))
                    return WalkResult.Retry;
                leaf |= want;
            }
        }

        t.MayWrite = (leaf & D) != 0 && Allowed(in w, Access.Write, view);
        t.Large = pageMask != 0xFFF;
        t.Huge = pageMask > 0x3F_FFFF;
        t.Global = ((leaf & G) != 0 && (S->Cr4 & Cr4.PGE) != 0) || IsKernelHalf(linear, view);
        t.Gpa = t.Gpa & ~pageMask | linear & pageMask;
        return WalkResult.Ok;
    }

    /// <summary>SDM Vol. 3A §4.6.1.</summary>
    private bool Allowed(in Walk w, Access access, int view)
    {
        bool userPage = (w.Rights & US) != 0;
        if (access == Access.Fetch)
        {
            if (w.NoExecute)
                return false;
            return IsUserView(view) ? userPage : !userPage || (S->Cr4 & Cr4.SMEP) == 0;
        }

        if (IsUserView(view))
            return userPage && (access == Access.Read || (w.Rights & RW) != 0);
        if (userPage && (S->Cr4 & Cr4.SMAP) != 0 && view != ViewSupervisorAc)
            return false;
        return access == Access.Read || (w.Rights & RW) != 0 || (S->Cr0 & Cr0.WP) == 0;
    }

    private WalkResult Walk64(ref Walk w, ulong table, int shift, bool sideEffects, out ulong leaf, out ulong pageMask, ref Translation t)
    {
        ulong reserved = ~((1ul << Partition.Options.PhysicalAddressBits) - 1) & AddressMask;
        if ((S->Efer & Efer.NXE) == 0)
            reserved |= NX;
        if ((S->Efer & Efer.LMA) == 0)
            reserved |= 0x7FF0_0000_0000_0000;
        for (;; shift -= 9)
        {
            ulong e = ReadEntry(ref w, table + ((w.Linear >> shift & 0x1FF) << 3), 8);
            leaf = e;
            pageMask = (1ul << shift) - 1;
            if ((e & P) == 0)
                return WalkResult.Fault;
            bool large = (e & PS) != 0 && shift is 21 or 30;
            ulong bad = e & reserved;
            if (large && (e & PS) != 0)
                bad |= e & pageMask & 0x3FFF_E000;
            else if (shift == 39)
                bad |= e & PS;
            if (bad != 0)
            {
                w.Error = PageFaultError.P | PageFaultError.Rsvd;
                return WalkResult.Fault;
            }

            w.Rights &= e;
            w.NoExecute |= (e & NX) != 0;
            if (shift == 12 || ((e & PS) != 0 && shift != 39))
            {
                t.Gpa = e & AddressMask;
                return WalkResult.Ok;
            }

            if (sideEffects && (e & A) == 0 && _lockStep is { IsAhead: true } l)
                return l.Refuse() ? WalkResult.Ok : WalkResult.Fault;
            if (sideEffects && (e & A) == 0 && !SetBits(in w, e, A))
                return WalkResult.Retry;
            table = e & AddressMask;
        }
    }

    private WalkResult WalkPae(ref Walk w, bool sideEffects, out ulong leaf, out ulong pageMask, ref Translation t)
    {
        // The four pointers were read and checked when CR3 was loaded (SDM Vol. 3A §4.4.1).
        ulong pdpte = S->Pdpte[w.Linear >> 30 & 3];
        leaf = pdpte;
        pageMask = 0;
        if ((pdpte & P) == 0)
            return WalkResult.Fault;
        return Walk64(ref w, pdpte & AddressMask, 21, sideEffects, out leaf, out pageMask, ref t);
    }

    private WalkResult Walk32(ref Walk w, bool sideEffects, out ulong leaf, out ulong pageMask, ref Translation t)
    {
        ulong pde = ReadEntry(ref w, (S->Cr3 & 0xFFFF_F000) + (w.Linear >> 22 & 0x3FF) * 4, 4);
        leaf = pde;
        pageMask = 0x3F_FFFF;
        if ((pde & P) == 0)
            return WalkResult.Fault;
        w.Rights &= pde;
        if ((pde & PS) != 0 && (S->Cr4 & Cr4.PSE) != 0)
        {
            // PSE-36 (SDM Vol. 3A §4.3): bits 20-13 are address bits 39-32 as far as the processor has them; bit 21 is reserved.
            int bits = Math.Min(Partition.Options.PhysicalAddressBits, 40) - 32;
            ulong bad = pde & (1 << 21 | (0x1FE000u & ~(((1u << bits) - 1) << 13)));
            if (bad != 0)
            {
                w.Error = PageFaultError.P | PageFaultError.Rsvd;
                return WalkResult.Fault;
            }

            t.Gpa = pde & 0xFFC0_0000 | (pde >> 13 & 0xFF) << 32;
            return WalkResult.Ok;
        }

        if (sideEffects && (pde & A) == 0 && !SetBits(in w, pde, A))
            return WalkResult.Retry;
        ulong pte = ReadEntry(ref w, (pde & 0xFFFF_F000) + (w.Linear >> 12 & 0x3FF) * 4, 4);
        leaf = pte;
        pageMask = 0xFFF;
        if ((pte & P) == 0)
            return WalkResult.Fault;
        w.Rights &= pte;
        t.Gpa = pte & 0xFFFF_F000;
        return WalkResult.Ok;
    }

    /// <summary>Reads a table entry; one without memory behind it reads as all ones from the open bus.</summary>
    private ulong ReadEntry(ref Walk w, ulong gpa, int size)
    {
        MappedSlot? slot = FindSlot(gpa);
        w.Slot = slot;
        if (slot is null)
        {
            w.EntryHost = null;
            return size == 8 ? ulong.MaxValue : uint.MaxValue;
        }

        w.EntryHost = slot.Host + (gpa - slot.Gpa);
        return size == 8 ? Volatile.Read(ref *(ulong*)w.EntryHost) : Volatile.Read(ref *(uint*)w.EntryHost);
    }

    /// <summary>
    /// Sets accessed or dirty bits with one atomic operation. False when another processor changed the entry meanwhile: walk again. An entry in ROM or without
    /// memory keeps its value.
    /// </summary>
    private bool SetBits(in Walk w, ulong seen, ulong bits)
    {
        if (w.Slot is null || w.Slot.ReadOnly)
            return true;
        ulong offset = (ulong)(w.EntryHost - w.Slot.Host);
        NoteHostWrite(w.Slot, offset, 8);
        if ((S->Cr4 & Cr4.PAE) == 0)
            return Interlocked.CompareExchange(ref *(uint*)w.EntryHost, (uint)(seen | bits), (uint)seen) == (uint)seen;
        return Interlocked.CompareExchange(ref *(ulong*)w.EntryHost, seen | bits, seen) == seen;
    }

    public bool TryTranslate(ulong linear, out ulong gpa)
    {
        // While we do not run, a slot may have gone without our having noticed.
        _lastSlot = null;
        if ((S->Cr0 & Cr0.PG) == 0)
        {
            gpa = linear & 0xFFFF_FFFF;
            return true;
        }

        WalkResult r = WalkTables(linear, Access.Read, ViewSupervisorAc, sideEffects: false, out Translation t, out _);
        gpa = t.Gpa;
        return r == WalkResult.Ok;
    }
}
