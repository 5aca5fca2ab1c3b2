using System.Runtime.CompilerServices;
using Iced.Intel;

namespace VirtPS.Emulation;

// ADD, OR, ADC, SBB, AND, SUB, XOR, CMP, TEST, INC, DEC, NEG, NOT, ADCX, ADOX.
internal static unsafe partial class IntegerHandlers
{
    /// <summary>A two-operand operation on values sign-extended to 64 bits; sets the flags and returns the sign-extended result.</summary>
    private interface IBinary
    {
        static abstract ulong Compute(NativeCpu* n, ulong a, ulong b, int size);
    }

    private readonly struct Add : IBinary
    {
        public static ulong Compute(NativeCpu* n, ulong a, ulong b, int size)
        {
            ulong r = SignExtend(a + b, size);
            SoftVcpu.FlagsAdd(n, a, b, r);
            return r;
        }
    }

    private readonly struct Sub : IBinary
    {
        public static ulong Compute(NativeCpu* n, ulong a, ulong b, int size)
        {
            ulong r = SignExtend(a - b, size);
            SoftVcpu.FlagsSub(n, a, b, r);
            return r;
        }
    }

    private readonly struct Adc : IBinary
    {
        public static ulong Compute(NativeCpu* n, ulong a, ulong b, int size)
        {
            ulong c = n->FlagCarry & 1;
            ulong r = SignExtend(a + b + c, size);
            n->FlagResult = r;
            n->FlagXor = a ^ b ^ r;
            n->FlagCarry = r < a || (c != 0 && r == a) ? 1ul : 0;
            return r;
        }
    }

    private readonly struct Sbb : IBinary
    {
        public static ulong Compute(NativeCpu* n, ulong a, ulong b, int size)
        {
            ulong c = n->FlagCarry & 1;
            ulong r = SignExtend(a - b - c, size);
            n->FlagResult = r;
            n->FlagXor = a ^ b ^ r;
            n->FlagCarry = a < b || (c != 0 && a == b) ? 1ul : 0;
            return r;
        }
    }

    private readonly struct And : IBinary
    {
        public static ulong Compute(NativeCpu* n, ulong a, ulong b, int size)
        {
            SoftVcpu.FlagsLogic(n, a & b);
            return a & b;
        }
    }

    private readonly struct Or : IBinary
    {
        public static ulong Compute(NativeCpu* n, ulong a, ulong b, int size)
        {
            SoftVcpu.FlagsLogic(n, a | b);
            return a | b;
        }
    }

    private readonly struct Xor : IBinary
    {
        public static ulong Compute(NativeCpu* n, ulong a, ulong b, int size)
        {
            SoftVcpu.FlagsLogic(n, a ^ b);
            return a ^ b;
        }
    }

    private readonly struct BinaryChange<TOperation> : IChange where TOperation : IBinary
    {
        public static ulong Apply(SoftVcpu cpu, Op* op, int size, ulong old)
        {
            ulong b = op->Has(OpFlags.Immediate) ? op->Imm : SignExtend(Get(cpu, op->RegOff, size), size);
            return TOperation.Compute(cpu.N, SignExtend(old, size), b, size);
        }
    }

    private static bool Binary<TOperation>(SoftVcpu cpu, Op* op) where TOperation : IBinary
    {
        int size = op->OpSize;
        if (!op->Has(OpFlags.ToReg))
            return Change<BinaryChange<TOperation>>(cpu, op, size, op->Has(OpFlags.Lock));
        if (!ReadRm(cpu, op, size, out ulong b))
            return false;
        Put(cpu, op->RegOff, size, TOperation.Compute(cpu.N, SignExtend(Get(cpu, op->RegOff, size), size), SignExtend(b, size), size));
        return true;
    }

    /// <summary>CMP and TEST: flags only.</summary>
    private static bool Compare<TOperation>(SoftVcpu cpu, Op* op) where TOperation : IBinary
    {
        int size = op->OpSize;
        if (!ReadRm(cpu, op, size, out ulong rm))
            return false;
        rm = SignExtend(rm, size);
        if (op->Has(OpFlags.Immediate))
        {
            TOperation.Compute(cpu.N, rm, op->Imm, size);
            return true;
        }

        ulong reg = SignExtend(Get(cpu, op->RegOff, size), size);
        bool toReg = op->Has(OpFlags.ToReg);
        TOperation.Compute(cpu.N, toReg ? reg : rm, toReg ? rm : reg, size);
        return true;
    }

    private readonly struct Increment : IChange
    {
        public static ulong Apply(SoftVcpu cpu, Op* op, int size, ulong old)
        {
            ulong a = SignExtend(old, size), r = SignExtend(a + 1, size);
            SoftVcpu.FlagsInc(cpu.N, a, r);
            return r;
        }
    }

    private readonly struct Decrement : IChange
    {
        public static ulong Apply(SoftVcpu cpu, Op* op, int size, ulong old)
        {
            ulong a = SignExtend(old, size), r = SignExtend(a - 1, size);
            SoftVcpu.FlagsDec(cpu.N, a, r);
            return r;
        }
    }

    private readonly struct Negate : IChange
    {
        public static ulong Apply(SoftVcpu cpu, Op* op, int size, ulong old) => Sub.Compute(cpu.N, 0, SignExtend(old, size), size);
    }

    private readonly struct Complement : IChange
    {
        public static ulong Apply(SoftVcpu cpu, Op* op, int size, ulong old) => ~old;
    }

    private static bool Unary<TChange>(SoftVcpu cpu, Op* op) where TChange : IChange => Change<TChange>(cpu, op, op->OpSize, op->Has(OpFlags.Lock));

    /// <summary>ADCX: an addition with CF alone as carry in and out.</summary>
    private static bool Adcx(SoftVcpu cpu, Op* op)
    {
        if (!ReadRm(cpu, op, op->OpSize, out ulong b))
            return false;
        ulong carry = AddWithCarry(cpu, op, b, cpu.N->CF());
        SoftVcpu.SetCarry(cpu.N, carry);
        return true;
    }

    /// <summary>ADOX: the same with OF.</summary>
    private static bool Adox(SoftVcpu cpu, Op* op)
    {
        if (!ReadRm(cpu, op, op->OpSize, out ulong b))
            return false;
        bool before = cpu.N->OF();
        bool after = AddWithCarry(cpu, op, b, before) != 0;
        if (before != after)
            cpu.N->FlagXor ^= 1ul << 63;
        return true;
    }

    private static ulong AddWithCarry(SoftVcpu cpu, Op* op, ulong b, bool carryIn)
    {
        int size = op->OpSize;
        ulong a = Get(cpu, op->RegOff, size), c = carryIn ? 1ul : 0;
        ulong r = ZeroExtend(a + b + c, size);
        Put(cpu, op->RegOff, size, r);
        return r < a || (c != 0 && r == a) ? 1ul : 0;
    }

    private static void RegisterArithmetic(HandlerTableBuilder b)
    {
        b.Register(Mnemonic.Add, &Binary<Add>);
        b.Register(Mnemonic.Or, &Binary<Or>);
        b.Register(Mnemonic.Adc, &Binary<Adc>);
        b.Register(Mnemonic.Sbb, &Binary<Sbb>);
        b.Register(Mnemonic.And, &Binary<And>);
        b.Register(Mnemonic.Sub, &Binary<Sub>);
        b.Register(Mnemonic.Xor, &Binary<Xor>);
        b.Register(Mnemonic.Cmp, &Compare<Sub>);
        b.Register(Mnemonic.Test, &Compare<And>);
        b.Register(Mnemonic.Inc, &Unary<Increment>);
        b.Register(Mnemonic.Dec, &Unary<Decrement>);
        b.Register(Mnemonic.Neg, &Unary<Negate>);
        b.Register(Mnemonic.Not, &Unary<Complement>);
        b.Register(Mnemonic.Adcx, &Adcx);
        b.Register(Mnemonic.Adox, &Adox);
    }
}
