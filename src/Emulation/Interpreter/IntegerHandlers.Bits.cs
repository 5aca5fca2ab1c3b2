using System.Numerics;
using Iced.Intel;
using VirtPS.X86;

namespace VirtPS.Emulation;

// BT*, BSF, BSR, counts, BMI1 and BMI2, CRC32.
internal static unsafe partial class IntegerHandlers
{
    private readonly struct BitSet : IChange
    {
        public static ulong Apply(SoftVcpu cpu, Op* op, int size, ulong old) => old | BitOf(cpu, op, size, old);
    }

    private readonly struct BitReset : IChange
    {
        public static ulong Apply(SoftVcpu cpu, Op* op, int size, ulong old) => old & ~BitOf(cpu, op, size, old);
    }

    private readonly struct BitComplement : IChange
    {
        public static ulong Apply(SoftVcpu cpu, Op* op, int size, ulong old) => old ^ BitOf(cpu, op, size, old);
    }

    /// <summary>The mask of the selected bit; CF becomes what it was.</summary>
    private static ulong BitOf(SoftVcpu cpu, Op* op, int size, ulong old)
    {
        int bit = (int)(op->Has(OpFlags.Immediate) ? op->Imm : cpu.S->Gpr[op->Reg]) & (size * 8 - 1);
        SoftVcpu.SetCarry(cpu.N, old >> bit & 1);
        return 1ul << bit;
    }

    /// <summary>With a register as bit index the operand is a bit string in memory: the access moves by whole operands (SDM Vol. 2A, BT).</summary>
    private static ulong BitAddress(SoftVcpu cpu, Op* op, int size)
    {
        ulong at = cpu.EffectiveAddress(op);
        if (op->Has(OpFlags.Immediate))
            return at;
        long index = (long)SignExtend(Get(cpu, op->RegOff, size), size);
        return (at + (ulong)((index >> (size == 2 ? 4 : size == 4 ? 5 : 6)) * size)) & op->AddrMask;
    }

    private static bool Bt(SoftVcpu cpu, Op* op)
    {
        int size = op->OpSize;
        ulong v;
        if (!op->IsMemory)
            v = Get(cpu, op->RmOff, size);
        else if (!LoadSized(cpu, op->Seg, BitAddress(cpu, op, size), size, out v))
            return false;
        BitOf(cpu, op, size, v);
        return true;
    }

    private static bool BitChange<TChange>(SoftVcpu cpu, Op* op) where TChange : IChange
    {
        int size = op->OpSize;
        return op->IsMemory
            ? ChangeMemory<TChange>(cpu, op, size, op->Has(OpFlags.Lock), op->Seg, BitAddress(cpu, op, size))
            : Change<TChange>(cpu, op, size, locked: false);
    }

    /// <summary>BSF and BSR of zero leave the destination as it was (AMD APM Vol. 3), and set ZF.</summary>
    private static bool BitScan(SoftVcpu cpu, Op* op)
    {
        int size = op->OpSize;
        if (!ReadRm(cpu, op, size, out ulong v))
            return false;
        cpu.N->SetStatusFlags(v == 0 ? Rflags.ZF | Rflags.PF : 0);
        if (v != 0)
            Put(cpu, op->RegOff, size, (ulong)(op->Code.Mnemonic() == Mnemonic.Bsf ? BitOperations.TrailingZeroCount(v) : BitOperations.Log2(v)));
        return true;
    }

    private static bool Tzcnt(SoftVcpu cpu, Op* op)
    {
        int size = op->OpSize;
        if (!ReadRm(cpu, op, size, out ulong v))
            return false;
        CountResult(cpu, op, v, v == 0 ? size * 8 : BitOperations.TrailingZeroCount(v));
        return true;
    }

    private static bool Lzcnt(SoftVcpu cpu, Op* op)
    {
        int size = op->OpSize;
        if (!ReadRm(cpu, op, size, out ulong v))
            return false;
        CountResult(cpu, op, v, BitOperations.LeadingZeroCount(v) - (64 - size * 8));
        return true;
    }

    private static void CountResult(SoftVcpu cpu, Op* op, ulong source, int count)
    {
        Put(cpu, op->RegOff, op->OpSize, (ulong)count);
        cpu.N->SetStatusFlags((source == 0 ? Rflags.CF : 0) | (count == 0 ? Rflags.ZF : 0));
    }

    private static bool Popcnt(SoftVcpu cpu, Op* op)
    {
        if (!ReadRm(cpu, op, op->OpSize, out ulong v))
            return false;
        Put(cpu, op->RegOff, op->OpSize, (ulong)BitOperations.PopCount(v));
        cpu.N->SetStatusFlags(v == 0 ? Rflags.ZF : 0);
        return true;
    }

    /// <summary>ZF and SF from the result, CF as given, OF clear; AF and PF (undefined) clear.</summary>
    private static void BmiFlags(SoftVcpu cpu, ulong result, int size, bool cf)
    {
        ulong r = SignExtend(result, size);
        cpu.N->SetStatusFlags((ZeroExtend(result, size) == 0 ? Rflags.ZF : 0) | ((long)r < 0 ? Rflags.SF : 0) | (cf ? Rflags.CF : 0));
    }

    private static bool Andn(SoftVcpu cpu, Op* op)
    {
        int size = op->OpSize;
        if (!ReadRm(cpu, op, size, out ulong v))
            return false;
        ulong r = ~cpu.S->Gpr[op->Reg3] & v;
        Put(cpu, op->RegOff, size, r);
        BmiFlags(cpu, r, size, cf: false);
        return true;
    }

    private static bool LowestBit(SoftVcpu cpu, Op* op)
    {
        int size = op->OpSize;
        if (!ReadRm(cpu, op, size, out ulong v))
            return false;
        Mnemonic m = op->Code.Mnemonic();
        ulong r = m == Mnemonic.Blsr ? v & (v - 1) : m == Mnemonic.Blsi ? v & (0 - v) : v ^ (v - 1);
        Put(cpu, (ushort)(op->Reg3 * 8), size, r);
        BmiFlags(cpu, r, size, cf: m == Mnemonic.Blsi ? v != 0 : v == 0);
        return true;
    }

    private static bool Bextr(SoftVcpu cpu, Op* op)
    {
        int size = op->OpSize;
        if (!ReadRm(cpu, op, size, out ulong v))
            return false;
        ulong control = cpu.S->Gpr[op->Reg3];
        int start = (byte)control, length = (byte)(control >> 8);
        ulong r = start >= size * 8 ? 0 : v >> start;
        if (length < 64)
            r &= (1ul << length) - 1;
        Put(cpu, op->RegOff, size, r);
        BmiFlags(cpu, r, size, cf: false);
        return true;
    }

    private static bool Bzhi(SoftVcpu cpu, Op* op)
    {
        int size = op->OpSize;
        if (!ReadRm(cpu, op, size, out ulong v))
            return false;
        int n = (byte)cpu.S->Gpr[op->Reg3];
        if (n < size * 8)
            v &= (1ul << n) - 1;
        Put(cpu, op->RegOff, size, v);
        BmiFlags(cpu, v, size, cf: n >= size * 8);
        return true;
    }

    private static bool Pdep(SoftVcpu cpu, Op* op)
    {
        int size = op->OpSize;
        if (!ReadRm(cpu, op, size, out ulong mask))
            return false;
        ulong source = cpu.S->Gpr[op->Reg3], r = 0;
        for (; mask != 0; mask &= mask - 1, source >>= 1)
            r |= (source & 1) != 0 ? mask & (0 - mask) : 0;
        Put(cpu, op->RegOff, size, r);
        return true;
    }

    private static bool Pext(SoftVcpu cpu, Op* op)
    {
        int size = op->OpSize;
        if (!ReadRm(cpu, op, size, out ulong mask))
            return false;
        ulong source = cpu.S->Gpr[op->Reg3], r = 0;
        for (int i = 0; mask != 0; mask &= mask - 1, i++)
            r |= (source & mask & (0 - mask)) != 0 ? 1ul << i : 0;
        Put(cpu, op->RegOff, size, r);
        return true;
    }

    private static bool Crc32(SoftVcpu cpu, Op* op)
    {
        int source = op->Code switch
        {
            Code.Crc32_r32_rm8 or Code.Crc32_r64_rm8 => 1,
            Code.Crc32_r32_rm16 => 2,
            Code.Crc32_r32_rm32 => 4,
            _ => 8,
        };
        if (!ReadRm(cpu, op, source, out ulong v))
            return false;
        uint crc = (uint)cpu.S->Gpr[op->Reg];
        crc = source switch
        {
            1 => BitOperations.Crc32C(crc, (byte)v),
            2 => BitOperations.Crc32C(crc, (ushort)v),
            4 => BitOperations.Crc32C(crc, (uint)v),
            _ => BitOperations.Crc32C(crc, v),
        };
        cpu.S->Gpr[op->Reg] = crc;
        return true;
    }

    private static void RegisterBits(HandlerTableBuilder b)
    {
        b.Register(Mnemonic.Bt, &Bt);
        b.Register(Mnemonic.Bts, &BitChange<BitSet>);
        b.Register(Mnemonic.Btr, &BitChange<BitReset>);
        b.Register(Mnemonic.Btc, &BitChange<BitComplement>);
        b.Register(Mnemonic.Bsf, &BitScan);
        b.Register(Mnemonic.Bsr, &BitScan);
        b.Register(Mnemonic.Tzcnt, &Tzcnt);
        b.Register(Mnemonic.Lzcnt, &Lzcnt);
        b.Register(Mnemonic.Popcnt, &Popcnt);
        b.Register(Mnemonic.Andn, &Andn);
        b.Register(Mnemonic.Blsr, &LowestBit);
        b.Register(Mnemonic.Blsi, &LowestBit);
        b.Register(Mnemonic.Blsmsk, &LowestBit);
        b.Register(Mnemonic.Bextr, &Bextr);
        b.Register(Mnemonic.Bzhi, &Bzhi);
        b.Register(Mnemonic.Pdep, &Pdep);
        b.Register(Mnemonic.Pext, &Pext);
        b.Register(Mnemonic.Crc32, &Crc32);
    }
}
