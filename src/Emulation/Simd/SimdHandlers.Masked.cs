using Iced.Intel;
using VirtPS.Emulation.Thunks;
using VirtPS.X86;

namespace VirtPS.Emulation;

// Masked moves, which touch only the elements that their mask selects, and the remaining state instructions of SSE and MMX.
internal static unsafe partial class SimdHandlers
{
    private static void RegisterMasked(HandlerTableBuilder b)
    {
        b.Register(Code.Ldmxcsr_m32, &Ldmxcsr);
        b.Register(Code.Stmxcsr_m32, &Stmxcsr);
        b.Register(Code.Emms, &Emms);
        b.Register(&Maskmovq, Code.Maskmovq_rDI_mm_mm);
        b.Register(&Maskmovdqu, Code.Maskmovdqu_rDI_xmm_xmm);
        if (!HostFeatures.Current.Avx)
            return;
        b.Register(Code.VEX_Vldmxcsr_m32, &Vldmxcsr);
        b.Register(Code.VEX_Vstmxcsr_m32, &Vstmxcsr);
        b.Register(&Vmaskmovdqu, Code.VEX_Vmaskmovdqu_rDI_xmm_xmm);
        b.Register(&MaskLoad4, Code.VEX_Vmaskmovps_xmm_xmm_m128, Code.VEX_Vmaskmovps_ymm_ymm_m256);
        b.Register(&MaskLoad8, Code.VEX_Vmaskmovpd_xmm_xmm_m128, Code.VEX_Vmaskmovpd_ymm_ymm_m256);
        b.Register(&MaskStore4, Code.VEX_Vmaskmovps_m128_xmm_xmm, Code.VEX_Vmaskmovps_m256_ymm_ymm);
        b.Register(&MaskStore8, Code.VEX_Vmaskmovpd_m128_xmm_xmm, Code.VEX_Vmaskmovpd_m256_ymm_ymm);
        if (!HostFeatures.Current.Avx2)
            return;
        b.Register(&MaskLoad4, Code.VEX_Vpmaskmovd_xmm_xmm_m128, Code.VEX_Vpmaskmovd_ymm_ymm_m256);
        b.Register(&MaskLoad8, Code.VEX_Vpmaskmovq_xmm_xmm_m128, Code.VEX_Vpmaskmovq_ymm_ymm_m256);
        b.Register(&MaskStore4, Code.VEX_Vpmaskmovd_m128_xmm_xmm, Code.VEX_Vpmaskmovd_m256_ymm_ymm);
        b.Register(&MaskStore8, Code.VEX_Vpmaskmovq_m128_xmm_xmm, Code.VEX_Vpmaskmovq_m256_ymm_ymm);
    }

    private static bool Ldmxcsr(SoftVcpu cpu, Op* op) => cpu.SseAvailable() && LoadMxcsr(cpu, op);

    private static bool Vldmxcsr(SoftVcpu cpu, Op* op) => cpu.VectorAvailable(VectorClass.Avx) && LoadMxcsr(cpu, op);

    private static bool Stmxcsr(SoftVcpu cpu, Op* op) => cpu.SseAvailable() && StoreMxcsr(cpu, op);

    private static bool Vstmxcsr(SoftVcpu cpu, Op* op) => cpu.VectorAvailable(VectorClass.Avx) && StoreMxcsr(cpu, op);

    private static bool LoadMxcsr(SoftVcpu cpu, Op* op)
    {
        if (!cpu.Load(op->Seg, cpu.EffectiveAddress(op), out uint value))
            return false;
        if ((value & ~VectorFile.MxcsrMask) != 0)
            return cpu.Raise(Vector.GP, 0);
        VectorFile.MxcsrOf(cpu.S) = value;
        return true;
    }

    private static bool StoreMxcsr(SoftVcpu cpu, Op* op) => cpu.Store(op->Seg, cpu.EffectiveAddress(op), VectorFile.MxcsrOf(cpu.S));

    private static bool Emms(SoftVcpu cpu, Op* op)
    {
        if (!cpu.VectorAvailable(VectorClass.Mmx))
            return false;
        VectorFile.SetTop(cpu.S, 0);
        VectorFile.FtwOf(cpu.S) = 0;
        return true;
    }

    private static bool Maskmovq(SoftVcpu cpu, Op* op)
    {
        if (!cpu.VectorAvailable(VectorClass.Mmx))
            return false;
        int top = VectorFile.Top(cpu.S);
        byte* file = cpu.S->Xsave + VectorFile.St;
        // The state becomes MMX state only if no byte faults, so the registers are found under the old TOP.
        if (!StoreBytesMasked(cpu, op, file + 16 * (op->Reg - top & 7), file + 16 * (op->Rm - top & 7), 8))
            return false;
        VectorFile.EnterMmx(cpu.S);
        return true;
    }

    private static bool Maskmovdqu(SoftVcpu cpu, Op* op) =>
        cpu.SseAvailable() && StoreBytesMasked(cpu, op, VectorFile.XmmAt(cpu.S, op->Reg), VectorFile.XmmAt(cpu.S, op->Rm), 16);

    private static bool Vmaskmovdqu(SoftVcpu cpu, Op* op) => cpu.VectorAvailable(VectorClass.Avx)
        && StoreBytesMasked(cpu, op, VectorFile.XmmAt(cpu.S, op->Reg), VectorFile.XmmAt(cpu.S, op->Rm), 16);

    private static bool StoreBytesMasked(SoftVcpu cpu, Op* op, byte* data, byte* mask, int count)
    {
        ulong addressMask = op->AddrSize == 8 ? ulong.MaxValue : op->AddrSize == 4 ? uint.MaxValue : ushort.MaxValue;
        ulong offset = cpu.S->Gpr[(int)Gpr.Rdi];
        for (int i = 0; i < count; i++)
        {
            if ((sbyte)mask[i] < 0 && !cpu.ProbeWrite(op->Seg, offset + (ulong)i & addressMask, 1))
                return false;
        }

        for (int i = 0; i < count; i++)
        {
            if ((sbyte)mask[i] < 0 && !cpu.Store(op->Seg, offset + (ulong)i & addressMask, data[i]))
                return false;
        }

        return true;
    }

    private static bool MaskLoad4(SoftVcpu cpu, Op* op) => MaskLoad(cpu, op, 4);

    private static bool MaskLoad8(SoftVcpu cpu, Op* op) => MaskLoad(cpu, op, 8);

    private static bool MaskStore4(SoftVcpu cpu, Op* op) => MaskStore(cpu, op, 4);

    private static bool MaskStore8(SoftVcpu cpu, Op* op) => MaskStore(cpu, op, 8);

    private static bool MaskLoad(SoftVcpu cpu, Op* op, int element)
    {
        if (!cpu.VectorAvailable(VectorClass.Avx))
            return false;
        int size = op->Has(OpFlags.Vex256) ? 32 : 16;
        byte* mask = stackalloc byte[32];
        byte* value = stackalloc byte[32];
        GetVector(cpu.S, VvvvOf(op), mask);
        new Span<byte>(value, 32).Clear();
        ulong offset = cpu.EffectiveAddress(op);
        for (int i = 0; i < size; i += element)
        {
            if ((sbyte)mask[i + element - 1] < 0 && !cpu.LoadOperand(op->Seg, offset + (ulong)i, value + i, element))
                return false;
        }

        SetVector(cpu.S, op->Reg, value, size);
        return true;
    }

    private static bool MaskStore(SoftVcpu cpu, Op* op, int element)
    {
        if (!cpu.VectorAvailable(VectorClass.Avx))
            return false;
        int size = op->Has(OpFlags.Vex256) ? 32 : 16;
        byte* mask = stackalloc byte[32];
        byte* value = stackalloc byte[32];
        GetVector(cpu.S, VvvvOf(op), mask);
        GetVector(cpu.S, op->Reg, value);
        ulong offset = cpu.EffectiveAddress(op);
        for (int i = 0; i < size; i += element)
        {
            if ((sbyte)mask[i + element - 1] < 0 && !cpu.ProbeWrite(op->Seg, offset + (ulong)i, element))
                return false;
        }

        for (int i = 0; i < size; i += element)
        {
            if ((sbyte)mask[i + element - 1] < 0 && !cpu.StoreOperand(op->Seg, offset + (ulong)i, value + i, element))
                return false;
        }

        return true;
    }

    private static int VvvvOf(Op* op) => op->Reg3;
}
