using System.Buffers.Binary;
using System.Runtime.CompilerServices;
using Iced.Intel;
using VirtPS.Emulation.Thunks;
using VirtPS.Sdk.Cpu;
using VirtPS.X86;

namespace VirtPS.Emulation;

// FXSAVE, FXRSTOR and the XSAVE family in the standard format (SDM Vol. 1 chapters 10.5 and 13).
internal static unsafe partial class SimdHandlers
{
    /// <summary>The components of vector registers: one behind the other in the image, and zero initially.</summary>
    private const ulong VectorComponents = Xcr0.Sse | Xcr0.Avx | Xcr0.Avx512;

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

    /// <summary>
    /// Where the registers of one of <see cref="VectorComponents"/> are in the image, and the bytes of those that there are with <paramref name="count"/> vector registers: outside 64-bit mode
    /// nothing is saved, restored or in use of the others (SDM Vol. 1 §13.5, §13.6). <paramref name="next"/> is the rest of the components.
    /// </summary>
    private static (int Offset, int Size) TakePlace(ref ulong next, uint count, out ulong component)
    {
        component = next & (0 - next);
        next ^= component;
        return component switch
        {
            Xcr0.Sse => (VectorFile.Xmm, 16 * (int)count),
            Xcr0.Avx => (VectorFile.YmmHigh, 16 * (int)count),
            Xcr0.Opmask => (VectorFile.Opmask, 64),
            Xcr0.ZmmHi256 => (VectorFile.ZmmHigh, 32 * (int)count),
            _ => (VectorFile.HighZmm, count > 8 ? 1024 : 0),
        };
    }

    /// <summary>Which of <paramref name="components"/> are not in their initial configuration (SDM Vol. 1 §13.6). MXCSR counts with SSE, which is allowed and loses nothing.</summary>
    internal static ulong InUse(VcpuState* s, ulong components)
    {
        ulong inUse = 0;
        if ((components & Xcr0.X87) != 0 && X87InUse(new ReadOnlySpan<byte>(s->Xsave, VectorFile.Xmm)))
            inUse |= Xcr0.X87;
        if ((components & Xcr0.Sse) != 0 && VectorFile.MxcsrOf(s) != ThunkFrame.MxcsrDefault)
            inUse |= Xcr0.Sse;
        uint count = RegisterCount(s);
        for (ulong next = components & VectorComponents; next != 0;)
        {
            (int offset, int size) = TakePlace(ref next, count, out ulong component);
            if (new ReadOnlySpan<byte>(s->Xsave + offset, size).ContainsAnyExcept((byte)0))
                inUse |= component;
        }

        return inUse;
    }

    private static bool X87InUse(ReadOnlySpan<byte> area) =>
        BinaryPrimitives.ReadUInt16LittleEndian(area) != VectorFile.FcwDefault || area[2..VectorFile.Mxcsr].ContainsAnyExcept((byte)0) || area[VectorFile.St..].ContainsAnyExcept((byte)0);

    private static bool Xsave(SoftVcpu cpu, Op* op) => Save(cpu, op, optimised: false);

    private static bool Xsaveopt(SoftVcpu cpu, Op* op) => Save(cpu, op, optimised: true);

    // A guest's kernel does this at each switch of threads: a component is moved in one piece, and only if it is there.
    private static bool Save(SoftVcpu cpu, Op* op, bool optimised)
    {
        VcpuState* s = cpu.S;
        if (!XsaveAvailable(cpu, op, out ulong offset, out ulong rfbm))
            return false;
        ulong inUse = InUse(s, rfbm), written = optimised ? inUse : rfbm;
        if (!cpu.Load(op->Seg, offset + VectorFile.HeaderOffset, out ulong xstateBv) || !ProbeArea(cpu, op, offset, written))
            return false;
        byte* control = stackalloc byte[VectorFile.St];
        Unsafe.CopyBlock(control, s->Xsave, VectorFile.St);
        LegacyHeader(s, control, op->Has(OpFlags.RexW));
        bool ok = true;
        if ((written & Xcr0.X87) != 0)
        {
            ok = cpu.StoreOperand(op->Seg, offset, control, VectorFile.Mxcsr)
                && cpu.StoreOperand(op->Seg, offset + VectorFile.St, s->Xsave + VectorFile.St, VectorFile.Xmm - VectorFile.St);
        }

        if (ok && (rfbm & (Xcr0.Sse | Xcr0.Avx)) != 0)
            ok = cpu.StoreOperand(op->Seg, offset + VectorFile.Mxcsr, control + VectorFile.Mxcsr, 8);
        for (ulong next = written & VectorComponents; ok && next != 0;)
        {
            (int at, int size) = TakePlace(ref next, RegisterCount(s), out _);
            ok = size == 0 || cpu.StoreOperand(op->Seg, offset + (ulong)at, s->Xsave + at, size);
        }

        return ok && cpu.Store(op->Seg, offset + VectorFile.HeaderOffset, xstateBv & ~rfbm | inUse);
    }

    // All that is written must be writable before any of it changes.
    private static bool ProbeArea(SoftVcpu cpu, Op* op, ulong offset, ulong written)
    {
        if (!cpu.ProbeWrite(op->Seg, offset, VectorFile.YmmHigh))
            return false;
        for (ulong next = written & VectorComponents & ~Xcr0.Sse; next != 0;)
        {
            (int at, int size) = TakePlace(ref next, RegisterCount(cpu.S), out _);
            if (size != 0 && !cpu.ProbeWrite(op->Seg, offset + (ulong)at, size))
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
        if (!cpu.LoadOperand(op->Seg, offset + VectorFile.HeaderOffset, image + VectorFile.HeaderOffset, 64))
            return false;
        ulong* header = (ulong*)(image + VectorFile.HeaderOffset);
        ulong xstateBv = header[0];
        // Only the standard format: XCOMP_BV and the reserved quadword must be zero.
        if ((xstateBv & ~s->Xcr0) != 0 || header[1] != 0 || header[2] != 0)
            return cpu.Raise(Vector.GP, 0);
        if (!LoadComponents(cpu, op, offset, image, rfbm & xstateBv))
            return false;
        uint mxcsr = *(uint*)(image + VectorFile.Mxcsr);
        bool loadsMxcsr = (rfbm & (Xcr0.Sse | Xcr0.Avx)) != 0;
        if (loadsMxcsr && (mxcsr & ~VectorFile.MxcsrMask) != 0)
            return cpu.Raise(Vector.GP, 0);
        if (loadsMxcsr)
            VectorFile.MxcsrOf(s) = mxcsr;
        Restore(s, image, rfbm, xstateBv, op->Has(OpFlags.RexW));
        return true;
    }

    /// <summary>Reads x87 and MXCSR and, of the vector registers, what the image says is in it: nothing of the state changes before all of it is read.</summary>
    private static bool LoadComponents(SoftVcpu cpu, Op* op, ulong offset, byte* image, ulong present)
    {
        bool ok = cpu.LoadOperand(op->Seg, offset, image, VectorFile.Xmm);
        for (ulong next = present & VectorComponents; ok && next != 0;)
        {
            (int at, int size) = TakePlace(ref next, RegisterCount(cpu.S), out _);
            ok = size == 0 || cpu.LoadOperand(op->Seg, offset + (ulong)at, image + at, size);
        }

        return ok;
    }

    /// <summary>Loads what the image holds and initialises what it says is initial.</summary>
    private static void Restore(VcpuState* s, byte* image, ulong rfbm, ulong xstateBv, bool wide)
    {
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

        for (ulong next = rfbm & VectorComponents; next != 0;)
        {
            (int at, int size) = TakePlace(ref next, RegisterCount(s), out ulong component);
            if ((xstateBv & component) != 0)
                Unsafe.CopyBlock(s->Xsave + at, image + at, (uint)size);
            else
                Unsafe.InitBlock(s->Xsave + at, 0, (uint)size);
        }
    }
}
