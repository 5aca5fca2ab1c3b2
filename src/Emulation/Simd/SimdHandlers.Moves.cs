using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using Iced.Intel;
using VirtPS.Emulation.Thunks;
using VirtPS.X86;

namespace VirtPS.Emulation;

// The moves and simple integer operations of memcpy, strlen and the like, without generated code.
internal static unsafe partial class SimdHandlers
{
    private interface IBinary
    {
        static abstract Vector128<byte> Apply(Vector128<byte> a, Vector128<byte> b);
    }

    private static void RegisterMoves(HandlerTableBuilder b)
    {
        b.Register(&LoadAligned, Code.Movaps_xmm_xmmm128, Code.Movapd_xmm_xmmm128, Code.Movdqa_xmm_xmmm128);
        b.Register(&LoadUnaligned, Code.Movups_xmm_xmmm128, Code.Movupd_xmm_xmmm128, Code.Movdqu_xmm_xmmm128);
        b.Register(&StoreAligned, Code.Movaps_xmmm128_xmm, Code.Movapd_xmmm128_xmm, Code.Movdqa_xmmm128_xmm,
            Code.Movntdq_m128_xmm, Code.Movntps_m128_xmm, Code.Movntpd_m128_xmm);
        b.Register(&StoreUnaligned, Code.Movups_xmmm128_xmm, Code.Movupd_xmmm128_xmm, Code.Movdqu_xmmm128_xmm);
        b.Register(&LoadQuad, Code.Movq_xmm_xmmm64);
        b.Register(&StoreQuad, Code.Movq_xmmm64_xmm);
        b.Register(&FromGpr, Code.Movd_xmm_rm32, Code.Movq_xmm_rm64);
        b.Register(&ToGpr, Code.Movd_rm32_xmm, Code.Movq_rm64_xmm);
        b.Register(&ByteMask, Code.Pmovmskb_r32_xmm, Code.Pmovmskb_r64_xmm);
        RegisterBinary(b);
        if (HostFeatures.Current.Avx)
            RegisterVexMoves(b);
    }

    private static void RegisterBinary(HandlerTableBuilder b)
    {
        b.Register(&Binary<Xor>, Code.Pxor_xmm_xmmm128, Code.Xorps_xmm_xmmm128, Code.Xorpd_xmm_xmmm128);
        b.Register(&Binary<Or>, Code.Por_xmm_xmmm128, Code.Orps_xmm_xmmm128, Code.Orpd_xmm_xmmm128);
        b.Register(&Binary<And>, Code.Pand_xmm_xmmm128, Code.Andps_xmm_xmmm128, Code.Andpd_xmm_xmmm128);
        b.Register(&Binary<AndNot>, Code.Pandn_xmm_xmmm128, Code.Andnps_xmm_xmmm128, Code.Andnpd_xmm_xmmm128);
        b.Register(&Binary<EqualBytes>, Code.Pcmpeqb_xmm_xmmm128);
        b.Register(&Binary<EqualDwords>, Code.Pcmpeqd_xmm_xmmm128);
        b.Register(&Binary<MinBytes>, Code.Pminub_xmm_xmmm128);
        b.Register(&Binary<AddDwords>, Code.Paddd_xmm_xmmm128);
        b.Register(&Binary<AddQuads>, Code.Paddq_xmm_xmmm128);
        b.Register(&Binary<SubBytes>, Code.Psubb_xmm_xmmm128);
    }

    private static void RegisterVexMoves(HandlerTableBuilder b)
    {
        b.Register(&VexLoad, Code.VEX_Vmovups_xmm_xmmm128, Code.VEX_Vmovupd_xmm_xmmm128, Code.VEX_Vmovdqu_xmm_xmmm128,
            Code.VEX_Vmovups_ymm_ymmm256, Code.VEX_Vmovupd_ymm_ymmm256, Code.VEX_Vmovdqu_ymm_ymmm256);
        b.Register(&VexStore, Code.VEX_Vmovups_xmmm128_xmm, Code.VEX_Vmovupd_xmmm128_xmm, Code.VEX_Vmovdqu_xmmm128_xmm,
            Code.VEX_Vmovups_ymmm256_ymm, Code.VEX_Vmovupd_ymmm256_ymm, Code.VEX_Vmovdqu_ymmm256_ymm);
        b.Register(Code.VEX_Vzeroupper, &Vzeroupper);
        b.Register(Code.VEX_Vzeroall, &Vzeroall);
    }

    private static Vector128<byte>* Xmm(SoftVcpu cpu, int n) => (Vector128<byte>*)VectorFile.XmmAt(cpu.S, n);

    /// <summary>The r/m operand of a 16-byte instruction; alignment is checked for memory where <paramref name="aligned"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static bool Source(SoftVcpu cpu, Op* op, bool aligned, out Vector128<byte> value)
    {
        Unsafe.SkipInit(out value);
        if (!op->IsMemory)
        {
            value = *Xmm(cpu, op->Rm);
            return true;
        }

        ulong offset = cpu.EffectiveAddress(op);
        if (aligned && (cpu.LinearOf(op, offset) & 15) != 0)
            return cpu.Raise(X86.Vector.GP, 0);
        return cpu.LoadBytes(op->Seg, offset, Unsafe.AsPointer(ref value), 16);
    }

    private static bool LoadAligned(SoftVcpu cpu, Op* op)
    {
        if (!cpu.SseAvailable() || !Source(cpu, op, true, out Vector128<byte> value))
            return false;
        *Xmm(cpu, op->Reg) = value;
        return true;
    }

    private static bool LoadUnaligned(SoftVcpu cpu, Op* op)
    {
        if (!cpu.SseAvailable() || !Source(cpu, op, false, out Vector128<byte> value))
            return false;
        *Xmm(cpu, op->Reg) = value;
        return true;
    }

    private static bool StoreAligned(SoftVcpu cpu, Op* op) => StoreVector(cpu, op, true);

    private static bool StoreUnaligned(SoftVcpu cpu, Op* op) => StoreVector(cpu, op, false);

    private static bool StoreVector(SoftVcpu cpu, Op* op, bool aligned)
    {
        if (!cpu.SseAvailable())
            return false;
        if (!op->IsMemory)
        {
            *Xmm(cpu, op->Rm) = *Xmm(cpu, op->Reg);
            return true;
        }

        ulong offset = cpu.EffectiveAddress(op);
        if (aligned && (cpu.LinearOf(op, offset) & 15) != 0)
            return cpu.Raise(X86.Vector.GP, 0);
        return cpu.StoreBytes(op->Seg, offset, Xmm(cpu, op->Reg), 16);
    }

    private static bool LoadQuad(SoftVcpu cpu, Op* op)
    {
        if (!cpu.SseAvailable())
            return false;
        ulong value;
        if (!op->IsMemory)
            value = *(ulong*)Xmm(cpu, op->Rm);
        else if (!cpu.Load(op->Seg, cpu.EffectiveAddress(op), out value))
            return false;
        *Xmm(cpu, op->Reg) = Vector128.CreateScalar(value).AsByte();
        return true;
    }

    private static bool StoreQuad(SoftVcpu cpu, Op* op)
    {
        if (!cpu.SseAvailable())
            return false;
        ulong value = *(ulong*)Xmm(cpu, op->Reg);
        if (op->IsMemory)
            return cpu.Store(op->Seg, cpu.EffectiveAddress(op), value);
        *Xmm(cpu, op->Rm) = Vector128.CreateScalar(value).AsByte();
        return true;
    }

    private static bool FromGpr(SoftVcpu cpu, Op* op)
    {
        if (!cpu.SseAvailable())
            return false;
        bool wide = op->Code == Code.Movq_xmm_rm64;
        ulong value;
        if (!op->IsMemory)
        {
            value = cpu.S->Gpr[op->Rm];
        }
        else if (wide)
        {
            if (!cpu.Load(op->Seg, cpu.EffectiveAddress(op), out value))
                return false;
        }
        else
        {
            if (!cpu.Load(op->Seg, cpu.EffectiveAddress(op), out uint narrow))
                return false;
            value = narrow;
        }

        *Xmm(cpu, op->Reg) = Vector128.CreateScalar(wide ? value : (uint)value).AsByte();
        return true;
    }

    private static bool ToGpr(SoftVcpu cpu, Op* op)
    {
        if (!cpu.SseAvailable())
            return false;
        ulong value = *(ulong*)Xmm(cpu, op->Reg);
        bool wide = op->Code == Code.Movq_rm64_xmm;
        if (!op->IsMemory)
        {
            cpu.S->Gpr[op->Rm] = wide ? value : (uint)value;
            return true;
        }

        ulong offset = cpu.EffectiveAddress(op);
        return wide ? cpu.Store(op->Seg, offset, value) : cpu.Store(op->Seg, offset, (uint)value);
    }

    private static bool ByteMask(SoftVcpu cpu, Op* op)
    {
        if (!cpu.SseAvailable())
            return false;
        cpu.S->Gpr[op->Reg] = Xmm(cpu, op->Rm)->ExtractMostSignificantBits();
        return true;
    }

    private static bool Binary<T>(SoftVcpu cpu, Op* op) where T : struct, IBinary
    {
        if (!cpu.SseAvailable() || !Source(cpu, op, true, out Vector128<byte> source))
            return false;
        Vector128<byte>* destination = Xmm(cpu, op->Reg);
        *destination = T.Apply(*destination, source);
        return true;
    }

    private readonly struct Xor : IBinary
    {
        public static Vector128<byte> Apply(Vector128<byte> a, Vector128<byte> b) => a ^ b;
    }

    private readonly struct Or : IBinary
    {
        public static Vector128<byte> Apply(Vector128<byte> a, Vector128<byte> b) => a | b;
    }

    private readonly struct And : IBinary
    {
        public static Vector128<byte> Apply(Vector128<byte> a, Vector128<byte> b) => a & b;
    }

    private readonly struct AndNot : IBinary
    {
        public static Vector128<byte> Apply(Vector128<byte> a, Vector128<byte> b) => ~a & b;
    }

    private readonly struct EqualBytes : IBinary
    {
        public static Vector128<byte> Apply(Vector128<byte> a, Vector128<byte> b) => Vector128.Equals(a, b);
    }

    private readonly struct EqualDwords : IBinary
    {
        public static Vector128<byte> Apply(Vector128<byte> a, Vector128<byte> b) => Vector128.Equals(a.AsUInt32(), b.AsUInt32()).AsByte();
    }

    private readonly struct MinBytes : IBinary
    {
        public static Vector128<byte> Apply(Vector128<byte> a, Vector128<byte> b) => Vector128.Min(a, b);
    }

    private readonly struct AddDwords : IBinary
    {
        public static Vector128<byte> Apply(Vector128<byte> a, Vector128<byte> b) => (a.AsUInt32() + b.AsUInt32()).AsByte();
    }

    private readonly struct AddQuads : IBinary
    {
        public static Vector128<byte> Apply(Vector128<byte> a, Vector128<byte> b) => (a.AsUInt64() + b.AsUInt64()).AsByte();
    }

    private readonly struct SubBytes : IBinary
    {
        public static Vector128<byte> Apply(Vector128<byte> a, Vector128<byte> b) => a - b;
    }
}
