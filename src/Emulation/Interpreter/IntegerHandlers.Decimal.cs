using Iced.Intel;
using VirtPS.X86;

namespace VirtPS.Emulation;

// BCD arithmetic, BOUND, SALC: what 64-bit mode no longer has.
internal static unsafe partial class IntegerHandlers
{
    private static bool Daa(SoftVcpu cpu, Op* op) => DecimalAdjust(cpu, subtract: false);

    private static bool Das(SoftVcpu cpu, Op* op) => DecimalAdjust(cpu, subtract: true);

    /// <summary>SDM Vol. 2A, DAA and DAS.</summary>
    private static bool DecimalAdjust(SoftVcpu cpu, bool subtract)
    {
        ulong flags = cpu.N->StatusFlags();
        uint old = (uint)Get(cpu, 0, 1), al = old;
        bool af = (al & 0xF) > 9 || (flags & Rflags.AF) != 0;
        bool carryIn = (flags & Rflags.CF) != 0, cf = false;
        if (af)
        {
            cf = carryIn || (subtract ? al < 6 : al > 0xF9);
            al = (subtract ? al - 6 : al + 6) & 0xFF;
        }

        if (old > 0x99 || carryIn)
        {
            al = (subtract ? al - 0x60 : al + 0x60) & 0xFF;
            cf = true;
        }

        Put(cpu, 0, 1, al);
        ResultFlags(cpu, al, (cf ? Rflags.CF : 0) | (af ? Rflags.AF : 0));
        return true;
    }

    /// <summary>SF, ZF, PF of a byte, the rest as given.</summary>
    private static void ResultFlags(SoftVcpu cpu, uint al, ulong others)
    {
        cpu.N->FlagResult = (ulong)(sbyte)al;
        cpu.N->FlagCarry = others & Rflags.CF;
        cpu.N->FlagXor = others & Rflags.AF | (others & Rflags.CF) << 63;
    }

    private static bool Aaa(SoftVcpu cpu, Op* op) => AsciiAdjust(cpu, subtract: false);

    private static bool Aas(SoftVcpu cpu, Op* op) => AsciiAdjust(cpu, subtract: true);

    private static bool AsciiAdjust(SoftVcpu cpu, bool subtract)
    {
        ulong ax = Get(cpu, 0, 2);
        bool adjust = (ax & 0xF) > 9 || (cpu.N->StatusFlags() & Rflags.AF) != 0;
        if (adjust)
            ax = subtract ? (ax - 6) - 0x100 : ax + 0x106;
        ax &= 0xFF0F;
        Put(cpu, 0, 2, ax);
        ResultFlags(cpu, (uint)ax & 0xFF, adjust ? Rflags.CF | Rflags.AF : 0);
        return true;
    }

    private static bool Aam(SoftVcpu cpu, Op* op)
    {
        uint divisor = (byte)op->Imm;
        if (divisor == 0)
            return cpu.Raise(Vector.DE);
        uint al = (uint)Get(cpu, 0, 1);
        Put(cpu, 0, 2, al / divisor << 8 | al % divisor);
        ResultFlags(cpu, al % divisor, 0);
        return true;
    }

    private static bool Aad(SoftVcpu cpu, Op* op)
    {
        uint ax = (uint)Get(cpu, 0, 2);
        uint al = ((ax & 0xFF) + (ax >> 8) * (byte)op->Imm) & 0xFF;
        Put(cpu, 0, 2, al);
        ResultFlags(cpu, al, 0);
        return true;
    }

    private static bool Salc(SoftVcpu cpu, Op* op)
    {
        Put(cpu, 0, 1, cpu.N->CF() ? 0xFFul : 0);
        return true;
    }

    private static bool Bound(SoftVcpu cpu, Op* op)
    {
        int size = op->OpSize;
        ulong at = cpu.EffectiveAddress(op);
        if (!LoadSized(cpu, op->Seg, at, size, out ulong lower) || !LoadSized(cpu, op->Seg, (at + (ulong)size) & op->AddrMask, size, out ulong upper))
            return false;
        long index = (long)SignExtend(Get(cpu, op->RegOff, size), size);
        return (index >= (long)SignExtend(lower, size) && index <= (long)SignExtend(upper, size)) || cpu.Raise(Vector.BR);
    }

    private static void RegisterDecimal(HandlerTableBuilder b)
    {
        b.Register(Mnemonic.Daa, &Daa);
        b.Register(Mnemonic.Das, &Das);
        b.Register(Mnemonic.Aaa, &Aaa);
        b.Register(Mnemonic.Aas, &Aas);
        b.Register(Mnemonic.Aam, &Aam);
        b.Register(Mnemonic.Aad, &Aad);
        b.Register(Mnemonic.Salc, &Salc);
        b.Register(Mnemonic.Bound, &Bound);
    }
}
