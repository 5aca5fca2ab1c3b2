using Iced.Intel;
using VirtPS.X86;

namespace VirtPS.Emulation;

// Shifts and rotates (SDM Vol. 2B, SAL/SAR/SHL/SHR, RCL/RCR/ROL/ROR, SHLD, SHRD; BMI2 forms).
internal static unsafe partial class IntegerHandlers
{
    internal interface IShift
    {
        /// <summary>Shifts a zero-extended value by a masked, non-zero count; sets the flags.</summary>
        static abstract ulong Compute(NativeCpu* n, ulong v, int count, int size);
    }

    internal readonly struct ShiftLeft : IShift
    {
        public static ulong Compute(NativeCpu* n, ulong v, int count, int size)
        {
            int bits = size * 8;
            ulong r = count >= bits ? 0 : SignExtend(v << count, size);
            ulong cf = count > bits ? 0 : v >> (bits - count) & 1;
            SoftVcpu.FlagsShift(n, r, cf, r >> 63 ^ cf);
            return r;
        }
    }

    internal readonly struct ShiftRight : IShift
    {
        public static ulong Compute(NativeCpu* n, ulong v, int count, int size)
        {
            ulong before = v >> (count - 1);
            ulong r = before >> 1;
            SoftVcpu.FlagsShift(n, SignExtend(r, size), before & 1, before >> (size * 8 - 1) & 1);
            return r;
        }
    }

    internal readonly struct ShiftArithmetic : IShift
    {
        public static ulong Compute(NativeCpu* n, ulong v, int count, int size)
        {
            long before = (long)SignExtend(v, size) >> (count - 1);
            ulong r = (ulong)(before >> 1);
            SoftVcpu.FlagsShift(n, r, (ulong)before & 1, 0);
            return r;
        }
    }

    private readonly struct RotateLeft : IShift
    {
        public static ulong Compute(NativeCpu* n, ulong v, int count, int size)
        {
            int bits = size * 8, by = count & (bits - 1);
            ulong r = by == 0 ? v : ZeroExtend(v << by | v >> (bits - by), size);
            SoftVcpu.SetCarryAndOverflow(n, r & 1, (r >> (bits - 1) ^ r) & 1);
            return r;
        }
    }

    private readonly struct RotateRight : IShift
    {
        public static ulong Compute(NativeCpu* n, ulong v, int count, int size)
        {
            int bits = size * 8, by = count & (bits - 1);
            ulong r = by == 0 ? v : ZeroExtend(v >> by | v << (bits - by), size);
            SoftVcpu.SetCarryAndOverflow(n, r >> (bits - 1) & 1, (r >> (bits - 1) ^ r >> (bits - 2)) & 1);
            return r;
        }
    }

    private readonly struct RotateCarryLeft : IShift
    {
        public static ulong Compute(NativeCpu* n, ulong v, int count, int size)
        {
            int bits = size * 8;
            ulong cf = n->FlagCarry & 1;
            for (int i = count % (bits + 1); i > 0; i--)
            {
                ulong top = v >> (bits - 1) & 1;
                v = ZeroExtend(v << 1 | cf, size);
                cf = top;
            }

            SoftVcpu.SetCarryAndOverflow(n, cf, v >> (bits - 1) & 1 ^ cf);
            return v;
        }
    }

    private readonly struct RotateCarryRight : IShift
    {
        public static ulong Compute(NativeCpu* n, ulong v, int count, int size)
        {
            int bits = size * 8;
            ulong cf = n->FlagCarry & 1;
            for (int i = count % (bits + 1); i > 0; i--)
            {
                ulong low = v & 1;
                v = v >> 1 | cf << (bits - 1);
                cf = low;
            }

            SoftVcpu.SetCarryAndOverflow(n, cf, (v >> (bits - 1) ^ v >> (bits - 2)) & 1);
            return v;
        }
    }

    private static int ShiftCount(SoftVcpu cpu, Op* op, int size)
    {
        ulong count = op->Has(OpFlags.Immediate) ? op->Imm : cpu.S->Gpr[(int)Gpr.Rcx];
        return (int)(count & (size == 8 ? 63u : 31u));
    }

    private readonly struct ShiftChange<TShift> : IChange where TShift : IShift
    {
        public static ulong Apply(SoftVcpu cpu, Op* op, int size, ulong old)
        {
            int count = ShiftCount(cpu, op, size);
            return count == 0 ? old : TShift.Compute(cpu.N, old, count, size);
        }
    }

    private static bool Shift<TShift>(SoftVcpu cpu, Op* op) where TShift : IShift => Change<ShiftChange<TShift>>(cpu, op, op->OpSize, locked: false);

    private readonly struct DoubleLeft : IChange
    {
        public static ulong Apply(SoftVcpu cpu, Op* op, int size, ulong old)
        {
            int bits = size * 8, count = ShiftCount(cpu, op, size);
            if (count == 0)
                return old;
            ulong source = Get(cpu, op->RegOff, size);
            // 16 bits and a count above 16: undefined; processors shift dest:source:dest.
            UInt128 wide = size == 2 ? (UInt128)(old << 32 | source << 16 | old) << count >> 32
                : ((UInt128)old << bits | source) << count >> bits;
            ulong r = SignExtend((ulong)wide, size);
            ulong cf = count <= bits ? old >> (bits - count) & 1 : source >> (2 * bits - count) & 1;
            SoftVcpu.FlagsShift(cpu.N, r, cf, (r >> 63) ^ (SignExtend(old, size) >> 63));
            return r;
        }
    }

    private readonly struct DoubleRight : IChange
    {
        public static ulong Apply(SoftVcpu cpu, Op* op, int size, ulong old)
        {
            int bits = size * 8, count = ShiftCount(cpu, op, size);
            if (count == 0)
                return old;
            ulong source = Get(cpu, op->RegOff, size);
            UInt128 wide = size == 2 ? (UInt128)(old << 32 | source << 16 | old) : (UInt128)source << bits | old;
            ulong r = SignExtend((ulong)(wide >> count), size);
            ulong cf = (ulong)(wide >> (count - 1)) & 1;
            SoftVcpu.FlagsShift(cpu.N, r, cf, (r >> 63) ^ (SignExtend(old, size) >> 63));
            return r;
        }
    }

    private static bool DoubleShift<TChange>(SoftVcpu cpu, Op* op) where TChange : IChange => Change<TChange>(cpu, op, op->OpSize, locked: false);

    private static bool Rorx(SoftVcpu cpu, Op* op)
    {
        int size = op->OpSize;
        if (!ReadRm(cpu, op, size, out ulong v))
            return false;
        int by = (int)(op->Imm & (size == 8 ? 63u : 31u));
        Put(cpu, op->RegOff, size, size == 8 ? ulong.RotateRight(v, by) : uint.RotateRight((uint)v, by));
        return true;
    }

    /// <summary>SHLX, SHRX, SARX: count in VEX.vvvv, no flags.</summary>
    private static bool Shlx(SoftVcpu cpu, Op* op) => ShiftX(cpu, op, 0);

    private static bool Shrx(SoftVcpu cpu, Op* op) => ShiftX(cpu, op, 1);

    private static bool Sarx(SoftVcpu cpu, Op* op) => ShiftX(cpu, op, 2);

    private static bool ShiftX(SoftVcpu cpu, Op* op, int kind)
    {
        int size = op->OpSize;
        if (!ReadRm(cpu, op, size, out ulong v))
            return false;
        int by = (int)(cpu.S->Gpr[op->Reg3] & (size == 8 ? 63u : 31u));
        Put(cpu, op->RegOff, size, kind == 0 ? v << by : kind == 1 ? v >> by : (ulong)((long)SignExtend(v, size) >> by));
        return true;
    }

    private static void RegisterShifts(HandlerTableBuilder b)
    {
        b.Register(Mnemonic.Shl, &Shift<ShiftLeft>);
        b.Register(Mnemonic.Sal, &Shift<ShiftLeft>);
        b.Register(Mnemonic.Shr, &Shift<ShiftRight>);
        b.Register(Mnemonic.Sar, &Shift<ShiftArithmetic>);
        b.Register(Mnemonic.Rol, &Shift<RotateLeft>);
        b.Register(Mnemonic.Ror, &Shift<RotateRight>);
        b.Register(Mnemonic.Rcl, &Shift<RotateCarryLeft>);
        b.Register(Mnemonic.Rcr, &Shift<RotateCarryRight>);
        b.Register(Mnemonic.Shld, &DoubleShift<DoubleLeft>);
        b.Register(Mnemonic.Shrd, &DoubleShift<DoubleRight>);
        b.Register(Mnemonic.Rorx, &Rorx);
        b.Register(Mnemonic.Shlx, &Shlx);
        b.Register(Mnemonic.Shrx, &Shrx);
        b.Register(Mnemonic.Sarx, &Sarx);
    }
}
