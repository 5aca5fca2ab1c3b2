using Iced.Intel;
using VirtPS.X86;

namespace VirtPS.Emulation;

// MUL, IMUL, DIV, IDIV, MULX.
internal static unsafe partial class IntegerHandlers
{
    /// <summary>Low and high half of a product or dividend: AX for bytes, else rDX:rAX.</summary>
    private static void PutPair(SoftVcpu cpu, int size, ulong low, ulong high)
    {
        if (size == 1)
        {
            Put(cpu, 0, 2, (low & 0xFF) | high << 8);
            return;
        }

        Put(cpu, 0, size, low);
        Put(cpu, (int)Gpr.Rdx * 8, size, high);
    }

    private static bool Mul(SoftVcpu cpu, Op* op)
    {
        int size = op->OpSize, bits = size * 8;
        if (!ReadRm(cpu, op, size, out ulong b))
            return false;
        ulong a = Get(cpu, 0, size);
        ulong high = Math.BigMul(a, b, out ulong low);
        if (size != 8)
            (low, high) = (ZeroExtend(low, size), low >> bits);
        PutPair(cpu, size, low, high);
        ulong over = high != 0 ? 1ul : 0;
        SoftVcpu.FlagsShift(cpu.N, SignExtend(low, size), over, over);
        return true;
    }

    private static bool Imul1(SoftVcpu cpu, Op* op)
    {
        int size = op->OpSize;
        if (!ReadRm(cpu, op, size, out ulong b))
            return false;
        ulong low = Product(cpu, SignExtend(Get(cpu, 0, size), size), SignExtend(b, size), size, out ulong high);
        PutPair(cpu, size, low, high);
        return true;
    }

    /// <summary>Signed product of sign-extended factors: halves of <paramref name="size"/> bytes. CF = OF = it does not fit the low half; other flags follow the low half.</summary>
    private static ulong Product(SoftVcpu cpu, ulong a, ulong b, int size, out ulong high)
    {
        long h = Math.BigMul((long)a, (long)b, out long low);
        ulong r = SignExtend((ulong)low, size);
        bool over = size == 8 ? h != low >> 63 : low != (long)r;
        high = size == 8 ? (ulong)h : (ulong)(low >> (size * 8));
        SoftVcpu.FlagsShift(cpu.N, r, over ? 1ul : 0, over ? 1ul : 0);
        return r;
    }

    private static bool Imul2(SoftVcpu cpu, Op* op)
    {
        int size = op->OpSize;
        if (!ReadRm(cpu, op, size, out ulong b))
            return false;
        ulong a = op->Has(OpFlags.Immediate) ? op->Imm : SignExtend(Get(cpu, op->RegOff, size), size);
        Put(cpu, op->RegOff, size, Product(cpu, a, SignExtend(b, size), size, out _));
        return true;
    }

    private static bool Div(SoftVcpu cpu, Op* op)
    {
        int size = op->OpSize;
        if (!ReadRm(cpu, op, size, out ulong divisor))
            return false;
        if (divisor == 0)
            return cpu.Raise(Vector.DE);
        ulong low = size == 1 ? Get(cpu, 0, 2) : Get(cpu, 0, size);
        ulong high = size == 1 ? 0 : Get(cpu, (int)Gpr.Rdx * 8, size);
        if (high == 0)
        {
            (ulong q, ulong rest) = Math.DivRem(low, divisor);
            if (ZeroExtend(q, size) != q)
                return cpu.Raise(Vector.DE);
            PutPair(cpu, size, q, rest);
            return true;
        }

        return DivWide(cpu, size, high, low, divisor);
    }

    // Apart: what uses 128-bit integers is not compiled ahead of time.
    private static bool DivWide(SoftVcpu cpu, int size, ulong high, ulong low, ulong divisor)
    {
        int bits = size * 8;
        UInt128 dividend = (UInt128)high << bits | low;
        (UInt128 quotient, UInt128 remainder) = UInt128.DivRem(dividend, divisor);
        if (quotient >> bits != 0)
            return cpu.Raise(Vector.DE);
        PutPair(cpu, size, (ulong)quotient, (ulong)remainder);
        return true;
    }

    private static bool Idiv(SoftVcpu cpu, Op* op)
    {
        int size = op->OpSize;
        if (!ReadRm(cpu, op, size, out ulong raw))
            return false;
        long divisor = (long)SignExtend(raw, size);
        if (divisor == 0)
            return cpu.Raise(Vector.DE);
        long high = size == 1 ? (short)Get(cpu, 0, 2) >> 15 : (long)SignExtend(Get(cpu, (int)Gpr.Rdx * 8, size), size);
        ulong low = size == 1 ? (ulong)(short)Get(cpu, 0, 2) : Get(cpu, 0, size);
        long dividend = size is 1 or 8 ? (long)low : high << (size * 8) | (long)low;
        if (dividend != long.MinValue && (size != 8 || high == dividend >> 63))
        {
            (long q, long rest) = Math.DivRem(dividend, divisor);
            if ((long)SignExtend((ulong)q, size) != q)
                return cpu.Raise(Vector.DE);
            PutPair(cpu, size, (ulong)q, size == 1 ? (byte)rest : (ulong)rest);
            return true;
        }

        return IdivWide(cpu, size, size == 8 ? (Int128)high << 64 | low : dividend, divisor);
    }

    private static bool IdivWide(SoftVcpu cpu, int size, Int128 dividend, long divisor)
    {
        // Int128.MinValue / -1 cannot be represented; neither can the quotient of anything that wide.
        if (dividend == Int128.MinValue && divisor == -1)
            return cpu.Raise(Vector.DE);
        (Int128 quotient, Int128 remainder) = Int128.DivRem(dividend, divisor);
        if ((long)quotient != quotient || (long)SignExtend((ulong)quotient, size) != (long)quotient)
            return cpu.Raise(Vector.DE);
        PutPair(cpu, size, (ulong)quotient, size == 1 ? (byte)remainder : (ulong)remainder);
        return true;
    }

    /// <summary>MULX: unsigned, no flags; high half to the ModRM.reg register (written last), low half to VEX.vvvv.</summary>
    private static bool Mulx(SoftVcpu cpu, Op* op)
    {
        int size = op->OpSize;
        if (!ReadRm(cpu, op, size, out ulong b))
            return false;
        ulong high = Math.BigMul(Get(cpu, (int)Gpr.Rdx * 8, size), b, out ulong low);
        if (size == 4)
            (low, high) = ((uint)low, low >> 32);
        Put(cpu, (ushort)(op->Reg3 * 8), size, low);
        Put(cpu, op->RegOff, size, high);
        return true;
    }

    private static void RegisterMultiply(HandlerTableBuilder b)
    {
        b.Register(Mnemonic.Mul, &Mul);
        b.Register(Mnemonic.Imul, &Imul2);
        b.Register(&Imul1, Code.Imul_rm8, Code.Imul_rm16, Code.Imul_rm32, Code.Imul_rm64);
        b.Register(Mnemonic.Div, &Div);
        b.Register(Mnemonic.Idiv, &Idiv);
        b.Register(Mnemonic.Mulx, &Mulx);
    }
}
