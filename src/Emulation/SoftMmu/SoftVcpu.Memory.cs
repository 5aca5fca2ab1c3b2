using System.Runtime.CompilerServices;
using VirtPS.X86;

namespace VirtPS.Emulation;

// Guest memory as instructions see it: segmentation, then the TLB. Misses are in SoftVcpu.Access.cs.
// T is always an unsigned integer of 1, 2, 4 or 8 bytes, on the stack. It has no constraint that says so: methods with one are not compiled ahead of time for primitive types, and a boot would
// begin by compiling them, without optimization, while the guest waits.
public sealed unsafe partial class SoftVcpu
{
    /// <summary>Reads a value of 1, 2, 4 or 8 bytes at the current privilege. False: fault recorded.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal bool Load<T>(SegmentName seg, ulong offset, out T value)
    {
        if (!Linear(seg, offset, Unsafe.SizeOf<T>(), write: false, out ulong linear))
        {
            value = default!;
            return false;
        }

        return LoadAt(linear, seg, out value);
    }

    /// <summary>Writes a value of 1, 2, 4 or 8 bytes at the current privilege. False: fault recorded.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal bool Store<T>(SegmentName seg, ulong offset, T value) =>
        Linear(seg, offset, Unsafe.SizeOf<T>(), write: true, out ulong linear) && StoreAt(linear, seg, value);

    /// <summary>Reads <paramref name="n"/> bytes; nothing is copied before both pages are known to be readable.</summary>
    internal bool LoadBytes(SegmentName seg, ulong offset, void* dst, int n)
    {
        if (!Linear(seg, offset, n, write: false, out ulong linear))
            return false;
        TlbEntry* e = Tlb.Entry(N->Tlb, linear);
        if (!Tlb.Hit(e->ReadTag, linear, n))
            return ReadSlow(linear, dst, n, _view, seg);
        Unsafe.CopyBlockUnaligned(dst, (byte*)(linear + e->Addend), (uint)n);
        return true;
    }

    /// <summary>Writes <paramref name="n"/> bytes; both pages are probed before the first byte is stored.</summary>
    internal bool StoreBytes(SegmentName seg, ulong offset, void* src, int n)
    {
        if (!Linear(seg, offset, n, write: true, out ulong linear))
            return false;
        TlbEntry* e = Tlb.Entry(N->Tlb, linear);
        if (!Tlb.Hit(e->WriteTag, linear, n))
            return WriteSlow(linear, src, n, _view, seg);
        Unsafe.CopyBlockUnaligned((byte*)(linear + e->Addend), src, (uint)n);
        return true;
    }

    /// <summary>Checks that a write of <paramref name="n"/> bytes would not fault.</summary>
    internal bool ProbeWrite(SegmentName seg, ulong offset, int n) =>
        Linear(seg, offset, n, write: true, out ulong linear) && ProbeWriteAt(linear, seg, n);

    /// <summary>Reads at a linear address; with <paramref name="supervisor"/> as an implicit supervisor access (descriptor tables, TSS, inner stacks).</summary>
    internal bool LoadLinear<T>(ulong linear, bool supervisor, out T value)
    {
        linear &= LinearLimit;
        int view = supervisor ? ViewSupervisor : _view;
        TlbEntry* e = Tlb.Entry(_views[view].Entries, linear);
        if (!AlignmentCheck && !DebugActive && Tlb.Hit(e->ReadTag, linear, Unsafe.SizeOf<T>()))
        {
            value = Unsafe.ReadUnaligned<T>((void*)(linear + e->Addend));
            return true;
        }

        Unsafe.SkipInit(out T v);
        bool ok = ReadSlow(linear, Unsafe.AsPointer(ref v), Unsafe.SizeOf<T>(), view, SegmentName.DS);
        value = ok ? v : default!;
        return ok;
    }

    internal bool StoreLinear<T>(ulong linear, bool supervisor, T value)
    {
        linear &= LinearLimit;
        int view = supervisor ? ViewSupervisor : _view;
        TlbEntry* e = Tlb.Entry(_views[view].Entries, linear);
        if (!AlignmentCheck && !DebugActive && Tlb.Hit(e->WriteTag, linear, Unsafe.SizeOf<T>()))
        {
            Unsafe.WriteUnaligned((void*)(linear + e->Addend), value);
            return true;
        }

        return WriteSlow(linear, Unsafe.AsPointer(ref value), Unsafe.SizeOf<T>(), view, SegmentName.DS);
    }

    private ulong LinearLimit => S->IsLongMode ? ulong.MaxValue : 0xFFFF_FFFF;

    /// <summary>Offset part of the address, truncated to the address size.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal ulong EffectiveAddress(Op* op)
    {
        byte* s = (byte*)S;
        ulong ea = *(ulong*)(s + op->BaseOff) + (*(ulong*)(s + op->IndexOff) << op->Scale) + (ulong)op->Disp;
        // RIP-relative displacements count from the start of the block, S->Rip is that of the instruction.
        if (op->Has(OpFlags.RipRelative))
            ea -= (ulong)op->Offset;
        return ea & op->AddrMask;
    }

    /// <summary>Segment base, limit and rights (SDM Vol. 3A §5.3–5.5). False: #GP(0) or #SS(0) recorded.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal bool Linear(SegmentName seg, ulong offset, int size, bool write, out ulong linear)
    {
        if (N->LinearMask != ulong.MaxValue)
            return LinearLegacy(seg, offset, size, write, out linear);
        // 64-bit mode: only FS and GS have bases; canonical form is checked where the TLB misses.
        linear = seg >= SegmentName.FS ? offset + VcpuState_Base(seg) : offset;
        return true;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private ulong VcpuState_Base(SegmentName seg) => (&S->ES + (int)seg)->Base;

    private bool LinearLegacy(SegmentName seg, ulong offset, int size, bool write, out ulong linear)
    {
        SegmentRegister* s = &S->ES + (int)seg;
        linear = (s->Base + offset) & 0xFFFF_FFFF;
        uint a = s->Attributes;
        ulong last = offset + (ulong)size - 1;
        if (S->IsProtected && (S->Rflags & Rflags.VM) == 0)
        {
            bool bad = (a & SegmentRegister.Unusable) != 0 || (a & SegmentRegister.P) == 0
                || ((a & SegmentRegister.Code) != 0 ? write || (a & SegmentRegister.Readable) == 0 : write && (a & SegmentRegister.Writable) == 0);
            if (bad)
                return RaiseSegment(seg);
            if ((a & (SegmentRegister.Code | SegmentRegister.ExpandDown)) == SegmentRegister.ExpandDown)
            {
                ulong top = (a & SegmentRegister.DB) != 0 ? 0xFFFF_FFFF : 0xFFFFu;
                return offset > s->Limit && last <= top || RaiseSegment(seg);
            }
        }

        // A 4 GiB segment wraps: an access over its end is two pieces, not a fault.
        return last <= s->Limit || (s->Limit == 0xFFFF_FFFF && offset <= 0xFFFF_FFFF) || RaiseSegment(seg);
    }

    private bool RaiseSegment(SegmentName seg) => Raise(seg == SegmentName.SS ? Vector.SS : Vector.GP, 0);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal bool LoadAt<T>(ulong linear, SegmentName seg, out T value)
    {
        TlbEntry* e = Tlb.Entry(N->Tlb, linear);
        if (Tlb.Hit(e->ReadTag, linear, Unsafe.SizeOf<T>()))
        {
            value = Unsafe.ReadUnaligned<T>((void*)(linear + e->Addend));
            return true;
        }

        return LoadMiss(linear, seg, out value);
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private bool LoadMiss<T>(ulong linear, SegmentName seg, out T value)
    {
        Unsafe.SkipInit(out T v);
        bool ok = ReadSlow(linear, Unsafe.AsPointer(ref v), Unsafe.SizeOf<T>(), _view, seg);
        value = ok ? v : default!;
        return ok;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal bool StoreAt<T>(ulong linear, SegmentName seg, T value)
    {
        TlbEntry* e = Tlb.Entry(N->Tlb, linear);
        if (Tlb.Hit(e->WriteTag, linear, Unsafe.SizeOf<T>()))
        {
            Unsafe.WriteUnaligned((void*)(linear + e->Addend), value);
            return true;
        }

        return StoreMiss(linear, seg, value);
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private bool StoreMiss<T>(ulong linear, SegmentName seg, T value) =>
        WriteSlow(linear, Unsafe.AsPointer(ref value), Unsafe.SizeOf<T>(), _view, seg);
}
