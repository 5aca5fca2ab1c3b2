using System.Runtime.CompilerServices;
using VirtPS.X86;

namespace VirtPS.Emulation;

// What the main loop's cases have in common. Operands are sign-extended to 64 bits; see NativeCpu for the flags.
public sealed unsafe partial class SoftVcpu
{
    /// <summary>Offset of a memory operand, truncated to the address size. RIP-relative displacements count from the start of the block, as S->Rip does here.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static ulong EffectiveOffset(byte* s, Op* op) =>
        (*(ulong*)(s + op->BaseOff) + (*(ulong*)(s + op->IndexOff) << op->Scale) + (ulong)op->Disp) & op->AddrMask;

    /// <summary>Linear address of a flat memory operand.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static ulong Address(byte* s, Op* op) => EffectiveOffset(s, op) + *(ulong*)(s + op->SegOff);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static void FlagsAdd(NativeCpu* n, ulong a, ulong b, ulong r)
    {
        n->FlagResult = r;
        n->FlagXor = a ^ b ^ r;
        n->FlagCarry = r < a ? 1ul : 0;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static void FlagsSub(NativeCpu* n, ulong a, ulong b, ulong r)
    {
        n->FlagResult = r;
        n->FlagXor = a ^ b ^ r;
        n->FlagCarry = a < b ? 1ul : 0;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static void FlagsLogic(NativeCpu* n, ulong r)
    {
        n->FlagResult = r;
        n->FlagXor = 0;
        n->FlagCarry = 0;
    }

    /// <summary>CF stays; the bit that gives OF is corrected for it.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static void FlagsInc(NativeCpu* n, ulong a, ulong r)
    {
        ulong kept = n->FlagCarry & 1, carry = r < a ? 1ul : 0;
        n->FlagResult = r;
        n->FlagXor = a ^ 1 ^ r ^ ((carry ^ kept) << 63);
        n->FlagCarry = kept;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static void FlagsDec(NativeCpu* n, ulong a, ulong r)
    {
        ulong kept = n->FlagCarry & 1, borrow = a == 0 ? 1ul : 0;
        n->FlagResult = r;
        n->FlagXor = a ^ 1 ^ r ^ ((borrow ^ kept) << 63);
        n->FlagCarry = kept;
    }

    /// <summary>AF is left clear (undefined).</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static void FlagsShift(NativeCpu* n, ulong r, ulong cf, ulong of)
    {
        n->FlagResult = r;
        n->FlagXor = (of ^ cf) << 63;
        n->FlagCarry = cf;
    }

    /// <summary>Changes CF alone.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static void SetCarry(NativeCpu* n, ulong cf)
    {
        ulong change = (n->FlagCarry & 1) ^ cf;
        n->FlagCarry ^= change;
        n->FlagXor ^= change << 63;
    }

    /// <summary>Changes CF and OF alone.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static void SetCarryAndOverflow(NativeCpu* n, ulong cf, ulong of)
    {
        n->FlagCarry = n->FlagCarry & ~1ul | cf;
        n->FlagXor = n->FlagXor & ~(1ul << 63) | (of ^ cf) << 63;
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static ulong Shl64(NativeCpu* n, ulong v, int count) => IntegerHandlers.ShiftLeft.Compute(n, v, count, 8);

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static ulong Shl32(NativeCpu* n, ulong v, int count) => IntegerHandlers.ShiftLeft.Compute(n, v, count, 4);

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static ulong Shr64(NativeCpu* n, ulong v, int count) => IntegerHandlers.ShiftRight.Compute(n, v, count, 8);

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static ulong Shr32(NativeCpu* n, ulong v, int count) => IntegerHandlers.ShiftRight.Compute(n, v, count, 4);

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static ulong Sar64(NativeCpu* n, ulong v, int count) => IntegerHandlers.ShiftArithmetic.Compute(n, v, count, 8);

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static ulong Sar32(NativeCpu* n, ulong v, int count) => IntegerHandlers.ShiftArithmetic.Compute(n, v, count, 4);

    /// <summary>Two- and three-operand IMUL: CF = OF = the product does not fit. The other flags are undefined; they follow the result.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static ulong Imul64(NativeCpu* n, ulong a, ulong b)
    {
        long high = Math.BigMul((long)a, (long)b, out long low);
        FlagsShift(n, (ulong)low, high != low >> 63 ? 1ul : 0, high != low >> 63 ? 1ul : 0);
        return (ulong)low;
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static ulong Imul32(NativeCpu* n, ulong a, ulong b)
    {
        long wide = (long)(int)a * (int)b;
        ulong over = wide != (int)wide ? 1ul : 0;
        FlagsShift(n, (ulong)(int)wide, over, over);
        return (ulong)(int)wide;
    }

    /// <summary>Condition code 0–15 as instructions encode it.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    internal static bool Condition(NativeCpu* n, int condition)
    {
        bool c = (condition >> 1) switch
        {
            0 => n->OF(),
            1 => n->CF(),
            2 => n->ZF(),
            3 => n->CF() || n->ZF(),
            4 => n->SF(),
            5 => n->PF(),
            6 => n->Less(),
            _ => n->ZF() || n->Less(),
        };
        return c ^ ((condition & 1) != 0);
    }
}
