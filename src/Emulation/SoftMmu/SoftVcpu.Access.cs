using System.Runtime.CompilerServices;
using VirtPS.Sdk.Memory;
using VirtPS.X86;

namespace VirtPS.Emulation;

// Accesses that the TLB did not answer: fills, page crossings, MMIO, code pages, alignment checks.
public sealed unsafe partial class SoftVcpu
{
    /// <summary>#AC is due on unaligned accesses (CPL 3, CR0.AM, RFLAGS.AC).</summary>
    internal bool AlignmentCheck;

    /// <summary>Where a page's bytes are: host memory, or MMIO at <see cref="Gpa"/> when <see cref="Host"/> is null.</summary>
    private struct Target
    {
        public byte* Host;
        public ulong Gpa;
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    internal bool ReadSlow(ulong linear, void* dst, int size, int view, SegmentName seg)
    {
        if (!CheckLinear(linear, size, view, seg, write: false))
            return false;
        int first = (int)Math.Min(0x1000 - (linear & 0xFFF), (ulong)size);
        Target t2 = default;
        if (!ReadTarget(linear, view, out Target t1))
            return false;
        if (first < size && !ReadTarget((linear + (ulong)first) & LinearLimit, view, out t2))
            return false;
        ReadPiece(in t1, (byte*)dst, first);
        if (first < size)
            ReadPiece(in t2, (byte*)dst + first, size - first);
        return true;
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    internal bool WriteSlow(ulong linear, void* src, int size, int view, SegmentName seg)
    {
        if (!CheckLinear(linear, size, view, seg, write: true))
            return false;
        int first = (int)Math.Min(0x1000 - (linear & 0xFFF), (ulong)size);
        Target t2 = default;
        if (!WriteTarget(linear, first, view, out Target t1))
            return false;
        if (first < size && !WriteTarget((linear + (ulong)first) & LinearLimit, size - first, view, out t2))
            return false;
        WritePiece(in t1, (byte*)src, first);
        if (first < size)
            WritePiece(in t2, (byte*)src + first, size - first);
        return true;
    }

    /// <summary>Checks that a write would not fault; fills the TLB.</summary>
    internal bool ProbeWriteAt(ulong linear, SegmentName seg, int size)
    {
        if (Tlb.Hit(Tlb.Entry(N->Tlb, linear)->WriteTag, linear, size))
            return true;
        if (!CheckLinear(linear, size, _view, seg, write: true))
            return false;
        int first = (int)Math.Min(0x1000 - (linear & 0xFFF), (ulong)size);
        return TranslatePage(linear, Access.Write, _view, out _)
            && (first == size || TranslatePage((linear + (ulong)first) & LinearLimit, Access.Write, _view, out _));
    }

    /// <summary>
    /// A host pointer through which an instruction may read, change and write <paramref name="size"/> bytes. Null with no fault recorded in
    /// <paramref name="ok"/>: the bytes are not all in one page of writable memory; use loads and stores (the write was probed).
    /// Valid to the end of the instruction and not over a call to the host.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal byte* WritePointer(ulong linear, SegmentName seg, int size, out bool ok)
    {
        TlbEntry* e = Tlb.Entry(N->Tlb, linear);
        if (Tlb.Hit(e->WriteTag, linear, size))
        {
            ok = true;
            return (byte*)(linear + e->Addend);
        }

        return WritePointerSlow(linear, seg, size, out ok);
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private byte* WritePointerSlow(ulong linear, SegmentName seg, int size, out bool ok)
    {
        ok = CheckLinear(linear, size, _view, seg, write: true);
        if (!ok)
            return null;
        if (DebugActive)
            NoteDataAccess(linear, size, write: false);
        if ((linear & 0xFFF) + (ulong)size > 0x1000)
        {
            ok = TranslatePage(linear, Access.Write, _view, out _)
                && TranslatePage(((linear | 0xFFF) + 1) & LinearLimit, Access.Write, _view, out _);
            return null;
        }

        ok = WriteTarget(linear, size, _view, out Target t);
        return ok ? t.Host : null;
    }

    /// <summary>Reads at a linear address of the current privilege, without the TLB's short path.</summary>
    internal bool ReadAt(ulong linear, SegmentName seg, void* dst, int size) => ReadSlow(linear, dst, size, _view, seg);

    internal bool WriteAt(ulong linear, SegmentName seg, void* src, int size) => WriteSlow(linear, src, size, _view, seg);

    private bool CheckLinear(ulong linear, int size, int view, SegmentName seg, bool write)
    {
        if (S->IsLongMode)
        {
            ulong last = linear + (ulong)size - 1;
            if ((ulong)((long)linear << 16 >> 16) != linear || (ulong)((long)last << 16 >> 16) != last)
                return RaiseSegment(seg);
        }

        if (AlignmentCheck && view == ViewUser && (size is 2 or 4 or 8) && (linear & (ulong)(size - 1)) != 0)
            return Raise(Vector.AC, 0);
        if (DebugActive)
            NoteDataAccess(linear, size, write);
        return true;
    }

    private bool ReadTarget(ulong linear, int view, out Target target)
    {
        TlbEntry* e = Tlb.Entry(_views[view].Entries, linear);
        if (e->ReadTag == Tlb.TagOf(linear))
        {
            target = new Target { Host = (byte*)(linear + e->Addend) };
            return true;
        }

        target = default;
        if (!TranslatePage(linear, Access.Read, view, out Translation t))
            return false;
        target.Gpa = t.Gpa;
        MappedSlot? slot = FindSlot(t.Gpa);
        if (slot is null)
            return _lockStep is not { IsAhead: true } l || l.Refuse();
        target.Host = slot.Host + (t.Gpa - slot.Gpa);
        Fill(linear, view, in t, slot);
        return true;
    }

    private void Fill(ulong linear, int view, in Translation t, MappedSlot slot)
    {
        if (t.Large)
            _largePages.Note(linear, in t);
        if (slot.Ahead is { } ahead && ahead.IsNew(t.Gpa - slot.Gpa))
            ahead.Touch(t.Gpa - slot.Gpa);
        TlbEntry* e = _views[view].Take(linear, t.Global);
        e->Addend = (ulong)slot.Host + (t.Gpa - slot.Gpa) - linear;
        e->Gpa = t.Gpa & ~0xFFFul | (t.Global ? TlbEntry.Global : 0) | (t.MayWrite ? TlbEntry.MayWrite : 0);
        e->HostPage = (linear & ~0xFFFul) + e->Addend;
        e->ReadTag = Tlb.TagOf(linear);
    }

    /// <summary>Finds the bytes to be written and prepares the write: dirty marks, code invalidation, and a write tag when the page may have one.</summary>
    private bool WriteTarget(ulong linear, int size, int view, out Target target)
    {
        target = default;
        TlbEntry* e = Tlb.Entry(_views[view].Entries, linear);
        if (e->ReadTag == Tlb.TagOf(linear) && (e->Gpa & TlbEntry.MayWrite) != 0)
        {
            target.Gpa = e->Gpa & ~0xFFFul | linear & 0xFFF;
        }
        else
        {
            if (!TranslatePage(linear, Access.Write, view, out Translation t))
                return false;
            target.Gpa = t.Gpa;
            MappedSlot? filled = FindSlot(t.Gpa);
            if (filled is not null)
                Fill(linear, view, in t, filled);
        }

        MappedSlot? slot = FindSlot(target.Gpa);
        if (!LockStepMayWrite(slot, target.Gpa - (slot?.Gpa ?? 0)))
            return false;
        if (slot is null || slot.ReadOnly)
            return true;
        ulong offset = target.Gpa - slot.Gpa;
        target.Host = slot.Host + offset;
        NoteHostWrite(slot, offset, size);
        if ((Volatile.Read(ref slot.Flags[offset >> 12]) & MemorySlot.CodeFlag) == 0)
        {
            Tlb.Entry(_views[view].Entries, linear)->WriteTag = Tlb.TagOf(linear);
            _lockStep?.NoteWriteTag(Tlb.Entry(_views[view].Entries, linear));
        }

        return true;
    }

    private void ReadPiece(in Target t, byte* dst, int size)
    {
        if (t.Host != null)
        {
            CopySmall(dst, t.Host, size);
            return;
        }

        ulong gpa = t.Gpa;
        while (size > 0)
        {
            int n = PieceSize(gpa, size);
            ulong v = Host.ReadMmio(gpa, n);
            CopySmall(dst, (byte*)&v, n);
            dst += n;
            gpa += (ulong)n;
            size -= n;
        }
    }

    private void WritePiece(in Target t, byte* src, int size)
    {
        if (t.Host != null)
        {
            CopySmall(t.Host, src, size);
            return;
        }

        ulong gpa = t.Gpa;
        while (size > 0)
        {
            int n = PieceSize(gpa, size);
            ulong v = 0;
            CopySmall((byte*)&v, src, n);
            Host.WriteMmio(gpa, n, v);
            src += n;
            gpa += (ulong)n;
            size -= n;
        }
    }

    /// <summary>The largest naturally aligned bus access that starts here.</summary>
    private static int PieceSize(ulong gpa, int size)
    {
        int n = size >= 8 ? 8 : size >= 4 ? 4 : size >= 2 ? 2 : 1;
        while ((gpa & 7) + (ulong)n > 8)
            n >>= 1;
        return n;
    }

    /// <summary>Copies with single accesses for the sizes that are atomic on the processor when aligned.</summary>
    private static void CopySmall(byte* dst, byte* src, int size)
    {
        switch (size)
        {
            case 1:
                *dst = *src;
                break;
            case 2:
                Unsafe.WriteUnaligned(dst, Unsafe.ReadUnaligned<ushort>(src));
                break;
            case 4:
                Unsafe.WriteUnaligned(dst, Unsafe.ReadUnaligned<uint>(src));
                break;
            case 8:
                Unsafe.WriteUnaligned(dst, Unsafe.ReadUnaligned<ulong>(src));
                break;
            default:
                Unsafe.CopyBlockUnaligned(dst, src, (uint)size);
                break;
        }
    }
}
