using Iced.Intel;
using VirtPS.X86;

namespace VirtPS.Emulation;

// Near branches. Far ones are the system part's.
internal static unsafe partial class IntegerHandlers
{
    /// <summary>
    /// Goes to a target after truncating it to the operand size. Outside CS's limit or not canonical: #GP(0), and false, before anything has changed.
    /// </summary>
    private static bool CheckTarget(SoftVcpu cpu, int size, ref ulong target)
    {
        target = size == 8 ? target : ZeroExtend(target, size);
        if (size == 8)
            return (ulong)((long)target << 16 >> 16) == target || cpu.Raise(Vector.GP, 0);
        return target <= cpu.S->CS.Limit || cpu.N->RipMask == ulong.MaxValue || cpu.Raise(Vector.GP, 0);
    }

    private static bool Branch(SoftVcpu cpu, Op* op)
    {
        ulong target = RelativeTarget(cpu, op);
        if (!CheckTarget(cpu, op->OpSize, ref target))
            return false;
        cpu.Jump(target);
        return true;
    }

    /// <summary>Branch displacements count from the start of the block; S->Rip is that of the instruction.</summary>
    private static ulong RelativeTarget(SoftVcpu cpu, Op* op) => cpu.S->Rip - (ulong)op->Offset + op->Imm;

    private static bool Jcc(SoftVcpu cpu, Op* op) => !SoftVcpu.Condition(cpu.N, op->Reg3) || Branch(cpu, op);

    private static bool JmpRelative(SoftVcpu cpu, Op* op) => Branch(cpu, op);

    private static bool JmpIndirect(SoftVcpu cpu, Op* op)
    {
        if (!ReadRm(cpu, op, op->OpSize, out ulong target) || !CheckTarget(cpu, op->OpSize, ref target))
            return false;
        cpu.Jump(target);
        return true;
    }

    private static bool CallRelative(SoftVcpu cpu, Op* op) => Call(cpu, op, RelativeTarget(cpu, op));

    private static bool CallIndirect(SoftVcpu cpu, Op* op) => ReadRm(cpu, op, op->OpSize, out ulong target) && Call(cpu, op, target);

    private static bool Call(SoftVcpu cpu, Op* op, ulong target)
    {
        if (!CheckTarget(cpu, op->OpSize, ref target) || !cpu.PushValue(op->OpSize, cpu.NextRip(op)))
            return false;
        cpu.Jump(target);
        return true;
    }

    private static bool Ret(SoftVcpu cpu, Op* op)
    {
        ulong rsp = cpu.S->Gpr[(int)Gpr.Rsp];
        if (!cpu.PopValue(op->OpSize, out ulong target))
            return false;
        if (!CheckTarget(cpu, op->OpSize, ref target))
        {
            cpu.S->Gpr[(int)Gpr.Rsp] = rsp;
            return false;
        }

        if (op->Has(OpFlags.Immediate))
        {
            ulong mask = cpu.StackAddressMask, sp = cpu.S->Gpr[(int)Gpr.Rsp];
            cpu.S->Gpr[(int)Gpr.Rsp] = (mask == 0xFFFF ? sp & ~mask : 0) | (sp + (op->Imm & 0xFFFF)) & mask;
        }

        cpu.Jump(target);
        return true;
    }

    /// <summary>LOOP, LOOPE, LOOPNE: rCX of the address size counts.</summary>
    private static bool Loop(SoftVcpu cpu, Op* op)
    {
        ulong count = (cpu.S->Gpr[(int)Gpr.Rcx] - 1) & op->AddrMask;
        Mnemonic m = op->Code.Mnemonic();
        bool taken = count != 0 && (m == Mnemonic.Loop || cpu.N->ZF() == (m == Mnemonic.Loope));
        if (taken && !Branch(cpu, op))
            return false;
        Put(cpu, (int)Gpr.Rcx * 8, op->AddrSize, count);
        return true;
    }

    private static bool Jcxz(SoftVcpu cpu, Op* op) => (cpu.S->Gpr[(int)Gpr.Rcx] & op->AddrMask) != 0 || Branch(cpu, op);

    private static void RegisterBranches(HandlerTableBuilder b)
    {
        b.Register(&JmpRelative, Code.Jmp_rel8_16, Code.Jmp_rel8_32, Code.Jmp_rel8_64, Code.Jmp_rel16, Code.Jmp_rel32_32, Code.Jmp_rel32_64);
        b.Register(&JmpIndirect, Code.Jmp_rm16, Code.Jmp_rm32, Code.Jmp_rm64);
        b.Register(&CallRelative, Code.Call_rel16, Code.Call_rel32_32, Code.Call_rel32_64);
        b.Register(&CallIndirect, Code.Call_rm16, Code.Call_rm32, Code.Call_rm64);
        b.Register(&Ret, Code.Retnw, Code.Retnd, Code.Retnq, Code.Retnw_imm16, Code.Retnd_imm16, Code.Retnq_imm16);
        b.Register(Mnemonic.Loop, &Loop);
        b.Register(Mnemonic.Loope, &Loop);
        b.Register(Mnemonic.Loopne, &Loop);
        b.Register(Mnemonic.Jcxz, &Jcxz);
        b.Register(Mnemonic.Jecxz, &Jcxz);
        b.Register(Mnemonic.Jrcxz, &Jcxz);
    }
}
