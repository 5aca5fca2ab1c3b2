using System.Runtime.CompilerServices;
using VirtPS.Emulation.Thunks;
using VirtPS.X86;

namespace VirtPS.Emulation;

// The vCPU's side of x87 and vector execution.
public sealed unsafe partial class SoftVcpu
{
    /// <summary>Shared with generated code; this vCPU's thread only.</summary>
    internal ThunkFrame* Frame;

    /// <summary>Generated code of this vCPU. Ops point into it, so it lives as long as the vCPU.</summary>
    internal ThunkCache Thunks = null!;

    private void InitializeVector()
    {
        Frame = ThunkFrame.Allocate();
        Frame->Gprs = S->Gpr;
        Frame->Xmm0 = VectorFile.XmmAt(S, 0);
        Thunks = new ThunkCache(HostFeatures.Current);
    }

    private void FreeVector()
    {
        ThunkFrame.Free(Frame);
        Frame = null;
        Thunks.Dispose();
    }

    /// <summary>
    /// Says in the image's header that all components are in it: execution does not keep the header, and another backend (KVM_SET_XSAVE) would take absent
    /// ones for initial.
    /// </summary>
    private void SynchronizeVector() =>
        *(ulong*)(S->Xsave + VectorFile.HeaderOffset) = Xcr0.X87 | Xcr0.Sse | (HostFeatures.Current.Avx ? Xcr0.Avx : 0)
        | (HostFeatures.Current.Avx512 ? Xcr0.Avx512 : 0);

    /// <summary>Whether an instruction of the class may execute now; otherwise the fault is recorded, in the order of SDM Vol. 2A §2.4.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal bool VectorAvailable(VectorClass c) =>
        c == VectorClass.Sse && (S->Cr0 & (Cr0.EM | Cr0.TS)) == 0 && (S->Cr4 & Cr4.OSFXSR) != 0 || VectorAvailableSlow(c);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal bool SseAvailable() => VectorAvailable(VectorClass.Sse);

    private bool VectorAvailableSlow(VectorClass c)
    {
        if (c == VectorClass.X87)
            return X87Available(waits: true);
        if (c is VectorClass.Avx or VectorClass.Avx512)
        {
            const ulong Avx = Xcr0.Sse | Xcr0.Avx, Avx512 = Avx | Xcr0.Avx512;
            ulong needed = c == VectorClass.Avx ? Avx : Avx512;
            if ((S->Cr4 & Cr4.OSXSAVE) == 0 || (S->Xcr0 & needed) != needed || !S->IsProtected || S->IsVirtual8086)
                return Raise(Vector.UD);
        }
        else if ((S->Cr0 & Cr0.EM) != 0 || c != VectorClass.Mmx && (S->Cr4 & Cr4.OSFXSR) == 0)
        {
            return Raise(Vector.UD);
        }

        if ((S->Cr0 & Cr0.TS) != 0)
            return Raise(Vector.NM);
        return c is not (VectorClass.Mmx or VectorClass.SseMmx) || !X87Pending() || Raise(Vector.MF);
    }

    /// <summary>
    /// For x87 instructions; <paramref name="waits"/> is false for the FN… forms, which look at no pending exception. With CR0.NE clear a PC would raise IRQ 13
    /// instead of #MF; nothing since the 486 is set up that way, and the guest gets #MF.
    /// </summary>
    internal bool X87Available(bool waits)
    {
        if ((S->Cr0 & (Cr0.EM | Cr0.TS)) != 0)
            return Raise(Vector.NM);
        return !waits || !X87Pending() || Raise(Vector.MF);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private bool X87Pending() => (VectorFile.FswOf(S) & VectorFile.ErrorSummary) != 0;

    /// <summary>Linear address of an operand's first byte, for alignment checks.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal ulong LinearOf(Op* op, ulong offset) => offset + *(ulong*)((byte*)S + op->SegOff);

    /// <summary>Reads a memory operand of 1–64 bytes.</summary>
    internal bool LoadOperand(SegmentName seg, ulong offset, byte* to, int size)
    {
        switch (size)
        {
            case 1: return Load(seg, offset, out *to);
            case 2: return Load(seg, offset, out *(ushort*)to);
            case 4: return Load(seg, offset, out *(uint*)to);
            case 8: return Load(seg, offset, out *(ulong*)to);
            default: return LoadBytes(seg, offset, to, size);
        }
    }

    internal bool StoreOperand(SegmentName seg, ulong offset, byte* from, int size)
    {
        switch (size)
        {
            case 1: return Store(seg, offset, *from);
            case 2: return Store(seg, offset, *(ushort*)from);
            case 4: return Store(seg, offset, *(uint*)from);
            case 8: return Store(seg, offset, *(ulong*)from);
            default: return StoreBytes(seg, offset, from, size);
        }
    }

    /// <summary>Reads any number of bytes in pieces; nothing is changed on a fault but the buffer.</summary>
    internal bool LoadArea(SegmentName seg, ulong offset, byte* to, int size)
    {
        for (int done = 0; done < size; done += 64)
        {
            if (!LoadOperand(seg, Advance(offset, done), to + done, Math.Min(64, size - done)))
                return false;
        }

        return true;
    }

    /// <summary>Writes any number of bytes, having probed all of them first.</summary>
    internal bool StoreArea(SegmentName seg, ulong offset, byte* from, int size)
    {
        for (int done = 0; done < size; done += 64)
        {
            if (!ProbeWrite(seg, Advance(offset, done), Math.Min(64, size - done)))
                return false;
        }

        for (int done = 0; done < size; done += 64)
        {
            if (!StoreOperand(seg, Advance(offset, done), from + done, Math.Min(64, size - done)))
                return false;
        }

        return true;
    }

    private static ulong Advance(ulong offset, int bytes) => offset + (ulong)bytes;
}
