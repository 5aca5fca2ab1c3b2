using System.Buffers.Binary;
using Iced.Intel;
using VirtPS.X86;

namespace VirtPS.Emulation;

// Data movement without flags: MOV, MOVZX, MOVSX, LEA, XCHG, CMOVcc, SETcc, BSWAP, MOVBE, conversions, XLAT, LAHF, SAHF.
internal static unsafe partial class IntegerHandlers
{
    private static bool Mov(SoftVcpu cpu, Op* op)
    {
        int size = op->OpSize;
        if (op->Has(OpFlags.Immediate))
            return WriteRm(cpu, op, size, op->Imm);
        if (!op->Has(OpFlags.ToReg))
            return WriteRm(cpu, op, size, Get(cpu, op->RegOff, size));
        if (!ReadRm(cpu, op, size, out ulong v))
            return false;
        Put(cpu, op->RegOff, size, v);
        return true;
    }

    /// <summary>Size of the source of MOVZX and MOVSX.</summary>
    private static int ExtendSource(Op* op) =>
        op->Code is Code.Movzx_r16_rm8 or Code.Movzx_r32_rm8 or Code.Movzx_r64_rm8 or Code.Movsx_r16_rm8 or Code.Movsx_r32_rm8 or Code.Movsx_r64_rm8 ? 1
        : op->Code is Code.Movsxd_r32_rm32 or Code.Movsxd_r64_rm32 ? 4 : 2;

    private static bool Movzx(SoftVcpu cpu, Op* op)
    {
        if (!ReadRm(cpu, op, ExtendSource(op), out ulong v))
            return false;
        Put(cpu, op->RegOff, op->OpSize, v);
        return true;
    }

    private static bool Movsx(SoftVcpu cpu, Op* op)
    {
        int source = ExtendSource(op);
        if (!ReadRm(cpu, op, source, out ulong v))
            return false;
        Put(cpu, op->RegOff, op->OpSize, SignExtend(v, source));
        return true;
    }

    private static bool Lea(SoftVcpu cpu, Op* op)
    {
        Put(cpu, op->RegOff, op->OpSize, cpu.EffectiveAddress(op));
        return true;
    }

    private readonly struct ExchangeChange : IChange
    {
        public static ulong Apply(SoftVcpu cpu, Op* op, int size, ulong old)
        {
            cpu.Exchanged = old;
            return Get(cpu, op->RegOff, size);
        }
    }

    /// <summary>XCHG with memory is always atomic (SDM Vol. 3A §8.1.2.1).</summary>
    private static bool Xchg(SoftVcpu cpu, Op* op)
    {
        int size = op->OpSize;
        if (!Change<ExchangeChange>(cpu, op, size, locked: true))
            return false;
        Put(cpu, op->RegOff, size, cpu.Exchanged);
        return true;
    }

    private static bool Cmov(SoftVcpu cpu, Op* op)
    {
        int size = op->OpSize;
        // The load is done, and may fault, whatever the condition; a 32-bit move clears the upper half either way.
        if (!ReadRm(cpu, op, size, out ulong v))
            return false;
        Put(cpu, op->RegOff, size, SoftVcpu.Condition(cpu.N, op->Reg3) ? v : Get(cpu, op->RegOff, size));
        return true;
    }

    private static bool Setcc(SoftVcpu cpu, Op* op) => WriteRm(cpu, op, 1, SoftVcpu.Condition(cpu.N, op->Reg3) ? 1ul : 0);

    private static bool Bswap(SoftVcpu cpu, Op* op)
    {
        // 16 bits: undefined; processors give zero.
        ulong v = Get(cpu, op->RmOff, op->OpSize);
        Put(cpu, op->RmOff, op->OpSize, op->OpSize == 2 ? 0 : Swap(v, op->OpSize));
        return true;
    }

    private static ulong Swap(ulong v, int size) => BinaryPrimitives.ReverseEndianness(v) >> (64 - size * 8);

    private static bool Movbe(SoftVcpu cpu, Op* op)
    {
        int size = op->OpSize;
        if (!op->Has(OpFlags.ToReg))
            return WriteRm(cpu, op, size, Swap(Get(cpu, op->RegOff, size), size));
        if (!ReadRm(cpu, op, size, out ulong v))
            return false;
        Put(cpu, op->RegOff, size, Swap(v, size));
        return true;
    }

    /// <summary>CBW, CWDE, CDQE: rAX from its lower half.</summary>
    private static bool ConvertAccumulator(SoftVcpu cpu, Op* op)
    {
        int half = op->OpSize / 2;
        Put(cpu, 0, op->OpSize, SignExtend(Get(cpu, 0, half), half));
        return true;
    }

    /// <summary>CWD, CDQ, CQO: rDX is the sign of rAX.</summary>
    private static bool ConvertPair(SoftVcpu cpu, Op* op)
    {
        Put(cpu, (int)Gpr.Rdx * 8, op->OpSize, (ulong)((long)SignExtend(Get(cpu, 0, op->OpSize), op->OpSize) >> 63));
        return true;
    }

    private static bool Xlat(SoftVcpu cpu, Op* op)
    {
        ulong at = (cpu.S->Gpr[(int)Gpr.Rbx] + (byte)cpu.S->Gpr[0]) & op->AddrMask;
        if (!cpu.Load(op->Seg, at, out byte v))
            return false;
        Put(cpu, 0, 1, v);
        return true;
    }

    private static bool Lahf(SoftVcpu cpu, Op* op)
    {
        Put(cpu, 1, 1, cpu.N->StatusFlags() | Rflags.Fixed1);
        return true;
    }

    private static bool Sahf(SoftVcpu cpu, Op* op)
    {
        const ulong Low = Rflags.CF | Rflags.PF | Rflags.AF | Rflags.ZF | Rflags.SF;
        cpu.N->SetStatusFlags(cpu.N->StatusFlags() & Rflags.OF | Get(cpu, 1, 1) & Low);
        return true;
    }

    private static void RegisterMoves(HandlerTableBuilder b)
    {
        foreach (Code code in Codes(Mnemonic.Mov))
        {
            // Segment, control, debug and test registers are the system part's.
            if (code.ToString().Split('_').All(part => part is not ("Sreg" or "cr" or "dr" or "tr")))
                b.Register(code, &Mov);
        }

        b.Register(Mnemonic.Movzx, &Movzx);
        b.Register(Mnemonic.Movsx, &Movsx);
        b.Register(Mnemonic.Movsxd, &Movsx);
        b.Register(Mnemonic.Movnti, &Mov);
        b.Register(Mnemonic.Lea, &Lea);
        b.Register(Mnemonic.Xchg, &Xchg);
        b.Register(Mnemonic.Bswap, &Bswap);
        b.Register(Mnemonic.Movbe, &Movbe);
        b.Register(&ConvertAccumulator, Code.Cbw, Code.Cwde, Code.Cdqe);
        b.Register(&ConvertPair, Code.Cwd, Code.Cdq, Code.Cqo);
        b.Register(Mnemonic.Xlatb, &Xlat);
        b.Register(Mnemonic.Lahf, &Lahf);
        b.Register(Mnemonic.Sahf, &Sahf);
        foreach (Mnemonic m in Enum.GetValues<Mnemonic>())
        {
            if (HotForms.ConditionOf(m) < 0)
                continue;
            string name = m.ToString();
            b.Register(m, name.StartsWith("Cmov", StringComparison.Ordinal) ? &Cmov : name.StartsWith("Set", StringComparison.Ordinal) ? &Setcc : &Jcc);
        }
    }
}
