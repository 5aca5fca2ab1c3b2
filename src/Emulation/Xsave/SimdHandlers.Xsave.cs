using System.Runtime.CompilerServices;
using Iced.Intel;
using VirtPS.Emulation.Thunks;
using VirtPS.Sdk.Cpu;
using VirtPS.X86;

namespace VirtPS.Emulation;

// FXSAVE, FXRSTOR and the XSAVE family in the standard format (SDM Vol. 1 chapters 10.5 and 13).
internal static unsafe partial class SimdHandlers
{
    private static void RegisterXsave(HandlerTableBuilder b)
    {
        b.Register(&Fxsave, Code.Fxsave_m512byte, Code.Fxsave64_m512byte);
        b.Register(&Fxrstor, Code.Fxrstor_m512byte, Code.Fxrstor64_m512byte);
        b.Register(&Xsave, Code.Xsave_mem, Code.Xsave64_mem);
        b.Register(&Xsaveopt, Code.Xsaveopt_mem, Code.Xsaveopt64_mem);
        b.Register(&Xrstor, Code.Xrstor_mem, Code.Xrstor64_mem);
    }

    private static bool Fxsave(SoftVcpu cpu, Op* op)
    {
        if (!FxAvailable(cpu, op, out ulong offset))
            return false;
        byte* image = stackalloc byte[VectorFile.LegacySize];
        Unsafe.CopyBlock(image, cpu.S->Xsave, VectorFile.LegacySize);
        LegacyHeader(cpu.S, image, op->Has(OpFlags.RexW));
        int size = LegacyBytes(cpu.S);
        return cpu.StoreArea(op->Seg, offset, image, size);
    }

    // Outside 64-bit mode XMM8–15 have no place (SDM Vol. 1 §10.5.1).
    private static int LegacyBytes(VcpuState* s) => VectorFile.Xmm + 16 * (int)RegisterCount(s);

    /// <summary>Pointers in the format of the instruction, MXCSR_MASK, reserved bytes.</summary>
    private static void LegacyHeader(VcpuState* s, byte* image, bool wide)
    {
        image[5] = 0;
        if (!wide)
        {
            *(uint*)(image + VectorFile.Fip + 4) = 0;
            *(uint*)(image + VectorFile.Fdp + 4) = 0;
        }

        *(uint*)(image + VectorFile.Mxcsr + 4) = VectorFile.MxcsrMask;
    }

    private static bool FxAvailable(SoftVcpu cpu, Op* op, out ulong offset)
    {
        offset = 0;
        if (!cpu.X87Available(waits: false))
            return false;
        offset = cpu.EffectiveAddress(op);
        return (cpu.LinearOf(op, offset) & 15) == 0 || cpu.Raise(Vector.GP, 0);
    }

    private static bool Fxrstor(SoftVcpu cpu, Op* op)
    {
        byte* image = stackalloc byte[VectorFile.LegacySize];
        if (!FxAvailable(cpu, op, out ulong offset) || !cpu.LoadArea(op->Seg, offset, image, LegacyBytes(cpu.S)))
            return false;
        uint mxcsr = *(uint*)(image + VectorFile.Mxcsr);
        if ((mxcsr & ~VectorFile.MxcsrMask) != 0)
            return cpu.Raise(Vector.GP, 0);
        LoadX87(cpu.S, image, op->Has(OpFlags.RexW));
        VectorFile.MxcsrOf(cpu.S) = mxcsr;
        Unsafe.CopyBlock(VectorFile.XmmAt(cpu.S, 0), image + VectorFile.Xmm, 16 * RegisterCount(cpu.S));
        return true;
    }

    private static void LoadX87(VcpuState* s, byte* image, bool wide)
    {
        Unsafe.CopyBlock(s->Xsave, image, VectorFile.Mxcsr);
        s->Xsave[5] = 0;
        VectorFile.FcwOf(s) = (ushort)(VectorFile.FcwOf(s) & 0x1F3F | 0x40);
        *(ushort*)(s->Xsave + VectorFile.Fop) &= 0x7FF;
        if (!wide)
        {
            *(uint*)(s->Xsave + VectorFile.Fip + 4) = 0;
            *(uint*)(s->Xsave + VectorFile.Fdp + 4) = 0;
        }

        for (int i = 0; i < 8; i++)
        {
            byte* slot = s->Xsave + VectorFile.St + 16 * i;
            Unsafe.CopyBlock(slot, image + VectorFile.St + 16 * i, 10);
            Unsafe.InitBlock(slot + 10, 0, 6);
        }

        VectorFile.UpdateErrorSummary(s);
    }

    private static bool XsaveAvailable(SoftVcpu cpu, Op* op, out ulong offset, out ulong rfbm)
    {
        offset = rfbm = 0;
        VcpuState* s = cpu.S;
        if ((s->Cr4 & Cr4.OSXSAVE) == 0)
            return cpu.Raise(Vector.UD);
        if ((s->Cr0 & Cr0.TS) != 0)
            return cpu.Raise(Vector.NM);
        offset = cpu.EffectiveAddress(op);
        rfbm = s->Xcr0 & ((uint)s->Gpr[(int)Gpr.Rax] | s->Gpr[(int)Gpr.Rdx] << 32);
        return (cpu.LinearOf(op, offset) & 63) == 0 || cpu.Raise(Vector.GP, 0);
    }

    /// <summary>Components that are not in their initial configuration (SDM Vol. 1 §13.6). MXCSR counts with SSE, which is allowed and loses nothing.</summary>
    internal static ulong InUse(VcpuState* s)
    {
        ulong inUse = 0;
        var area = new ReadOnlySpan<byte>(s->Xsave, VcpuState.XsaveSize);
        if (VectorFile.FcwOf(s) != VectorFile.FcwDefault || area[2..VectorFile.Mxcsr].ContainsAnyExcept((byte)0)
            || area.Slice(VectorFile.St, 128).ContainsAnyExcept((byte)0))
        {
            inUse |= Xcr0.X87;
        }

        if (VectorFile.MxcsrOf(s) != ThunkFrame.MxcsrDefault || area.Slice(VectorFile.Xmm, 256).ContainsAnyExcept((byte)0))
            inUse |= Xcr0.Sse;
        if (area.Slice(VectorFile.YmmHigh, 256).ContainsAnyExcept((byte)0))
            inUse |= Xcr0.Avx;
        return inUse;
    }

    private static bool Xsave(SoftVcpu cpu, Op* op) => Save(cpu, op, optimised: false);

    private static bool Xsaveopt(SoftVcpu cpu, Op* op) => Save(cpu, op, optimised: true);

    private static bool Save(SoftVcpu cpu, Op* op, bool optimised)
    {
        VcpuState* s = cpu.S;
        if (!XsaveAvailable(cpu, op, out ulong offset, out ulong rfbm))
            return false;
        byte* image = stackalloc byte[VcpuState.XsaveSize];
        Unsafe.CopyBlock(image, s->Xsave, VcpuState.XsaveSize);
        LegacyHeader(s, image, op->Has(OpFlags.RexW));
        ulong inUse = InUse(s), written = optimised ? rfbm & inUse : rfbm;
        if (!cpu.Load(op->Seg, offset + VectorFile.HeaderOffset, out ulong xstateBv) || !ProbeArea(cpu, op, offset, rfbm))
            return false;
        ulong count = RegisterCount(s);
        bool ok = true;
        if ((written & Xcr0.X87) != 0)
        {
            ok = cpu.StoreOperand(op->Seg, offset, image, VectorFile.Mxcsr)
                && cpu.StoreArea(op->Seg, offset + VectorFile.St, image + VectorFile.St, 128);
        }

        if (ok && (rfbm & (Xcr0.Sse | Xcr0.Avx)) != 0)
            ok = cpu.StoreOperand(op->Seg, offset + VectorFile.Mxcsr, image + VectorFile.Mxcsr, 8);
        if (ok && (written & Xcr0.Sse) != 0)
            ok = cpu.StoreArea(op->Seg, offset + VectorFile.Xmm, image + VectorFile.Xmm, (int)(16 * count));
        if (ok && (written & Xcr0.Avx) != 0)
            ok = cpu.StoreArea(op->Seg, offset + VectorFile.YmmHigh, image + VectorFile.YmmHigh, (int)(16 * count));
        return ok && cpu.Store(op->Seg, offset + VectorFile.HeaderOffset, xstateBv & ~rfbm | inUse & rfbm);
    }

    // All of the area must be writable before any of it changes.
    private static bool ProbeArea(SoftVcpu cpu, Op* op, ulong offset, ulong rfbm)
    {
        int size = (rfbm & Xcr0.Avx) != 0 ? VectorFile.YmmHigh + 16 * (int)RegisterCount(cpu.S) : VectorFile.HeaderOffset + 64;
        for (int i = 0; i < size; i += 64)
        {
            if (!cpu.ProbeWrite(op->Seg, offset + (ulong)i, 64))
                return false;
        }

        return true;
    }

    private static bool Xrstor(SoftVcpu cpu, Op* op)
    {
        VcpuState* s = cpu.S;
        byte* image = stackalloc byte[VcpuState.XsaveSize];
        if (!XsaveAvailable(cpu, op, out ulong offset, out ulong rfbm))
            return false;
        if (!cpu.LoadArea(op->Seg, offset + VectorFile.HeaderOffset, image + VectorFile.HeaderOffset, 64))
            return false;
        ulong* header = (ulong*)(image + VectorFile.HeaderOffset);
        ulong xstateBv = header[0];
        // Only the standard format: XCOMP_BV and the reserved quadword must be zero.
        if ((xstateBv & ~s->Xcr0) != 0 || header[1] != 0 || header[2] != 0)
            return cpu.Raise(Vector.GP, 0);
        int vector = 16 * (int)RegisterCount(s);
        if (!cpu.LoadArea(op->Seg, offset, image, VectorFile.Xmm + vector)
            || (rfbm & xstateBv & Xcr0.Avx) != 0 && !cpu.LoadArea(op->Seg, offset + VectorFile.YmmHigh, image + VectorFile.YmmHigh, vector))
        {
            return false;
        }

        uint mxcsr = *(uint*)(image + VectorFile.Mxcsr);
        bool loadsMxcsr = (rfbm & (Xcr0.Sse | Xcr0.Avx)) != 0;
        if (loadsMxcsr && (mxcsr & ~VectorFile.MxcsrMask) != 0)
            return cpu.Raise(Vector.GP, 0);
        if (loadsMxcsr)
            VectorFile.MxcsrOf(s) = mxcsr;
        Restore(s, image, rfbm, xstateBv, op->Has(OpFlags.RexW));
        return true;
    }

    /// <summary>Loads what the image holds and initialises what it says is initial.</summary>
    private static void Restore(VcpuState* s, byte* image, ulong rfbm, ulong xstateBv, bool wide)
    {
        uint vector = 16 * RegisterCount(s);
        if ((rfbm & Xcr0.X87) != 0)
        {
            if ((xstateBv & Xcr0.X87) != 0)
            {
                LoadX87(s, image, wide);
            }
            else
            {
                InitializeX87(s);
                Unsafe.InitBlock(s->Xsave + VectorFile.St, 0, 128);
            }
        }

        RestoreVectors(VectorFile.XmmAt(s, 0), image + VectorFile.Xmm, vector, rfbm, xstateBv, Xcr0.Sse);
        RestoreVectors(VectorFile.YmmHighAt(s, 0), image + VectorFile.YmmHigh, vector, rfbm, xstateBv, Xcr0.Avx);
    }

    private static void RestoreVectors(byte* to, byte* from, uint size, ulong rfbm, ulong xstateBv, ulong component)
    {
        if ((rfbm & component) == 0)
            return;
        if ((xstateBv & component) != 0)
            Unsafe.CopyBlock(to, from, size);
        else
            Unsafe.InitBlock(to, 0, size);
    }
}
