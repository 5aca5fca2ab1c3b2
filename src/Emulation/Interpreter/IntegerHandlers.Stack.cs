using Iced.Intel;
using VirtPS.X86;

namespace VirtPS.Emulation;

// PUSH, POP, PUSHA, POPA, ENTER, LEAVE.
internal static unsafe partial class IntegerHandlers
{
    private static bool PushRm(SoftVcpu cpu, Op* op)
    {
        int size = op->OpSize;
        return ReadRm(cpu, op, size, out ulong v) && cpu.PushValue(size, v);
    }

    private static bool PushImmediate(SoftVcpu cpu, Op* op) => cpu.PushValue(op->OpSize, op->Imm);

    /// <summary>POP computes its memory operand's address after RSP has moved (SDM Vol. 2B, POP).</summary>
    private static bool PopRm(SoftVcpu cpu, Op* op)
    {
        int size = op->OpSize;
        ulong rsp = cpu.S->Gpr[(int)Gpr.Rsp];
        if (!cpu.PopValue(size, out ulong v))
            return false;
        if (WriteRm(cpu, op, size, v))
            return true;
        cpu.S->Gpr[(int)Gpr.Rsp] = rsp;
        return false;
    }

    private static bool Pusha(SoftVcpu cpu, Op* op)
    {
        int size = op->OpSize;
        ulong rsp = cpu.S->Gpr[(int)Gpr.Rsp];
        for (int r = 0; r < 8; r++)
        {
            ulong v = r == (int)Gpr.Rsp ? rsp : cpu.S->Gpr[r];
            if (!cpu.PushValue(size, v))
            {
                cpu.S->Gpr[(int)Gpr.Rsp] = rsp;
                return false;
            }
        }

        return true;
    }

    private static bool Popa(SoftVcpu cpu, Op* op)
    {
        int size = op->OpSize;
        ulong rsp = cpu.S->Gpr[(int)Gpr.Rsp];
        ulong* values = stackalloc ulong[8];
        for (int r = 7; r >= 0; r--)
        {
            if (!cpu.PopValue(size, out values[r]))
            {
                cpu.S->Gpr[(int)Gpr.Rsp] = rsp;
                return false;
            }
        }

        for (int r = 0; r < 8; r++)
        {
            if (r != (int)Gpr.Rsp)
                Put(cpu, (ushort)(r * 8), size, values[r]);
        }

        return true;
    }

    private static bool Enter(SoftVcpu cpu, Op* op)
    {
        int size = op->OpSize;
        ulong frameSize = op->Imm & 0xFFFF;
        int level = (int)(op->Imm >> 32) & 31;
        ulong rsp = cpu.S->Gpr[(int)Gpr.Rsp], rbp = cpu.S->Gpr[(int)Gpr.Rbp];
        ulong mask = cpu.StackAddressMask;
        bool ok = cpu.PushValue(size, rbp);
        ulong frame = cpu.S->Gpr[(int)Gpr.Rsp];
        for (int i = 1; ok && i < level; i++)
            ok = LoadSized(cpu, SegmentName.SS, (rbp - (ulong)(i * size)) & mask, size, out ulong display) && cpu.PushValue(size, display);
        if (ok && level > 0)
            ok = cpu.PushValue(size, frame);
        ulong top = cpu.S->Gpr[(int)Gpr.Rsp];
        ulong newTop = top & ~mask | (top - frameSize) & mask;
        // The new top must be writable (SDM Vol. 2A, ENTER).
        if (!ok || !cpu.ProbeWrite(SegmentName.SS, newTop & mask, 1))
        {
            cpu.S->Gpr[(int)Gpr.Rsp] = rsp;
            return false;
        }

        Put(cpu, (int)Gpr.Rbp * 8, size, frame);
        cpu.S->Gpr[(int)Gpr.Rsp] = newTop;
        return true;
    }

    private static bool LeaveFrame(SoftVcpu cpu, Op* op)
    {
        ulong rsp = cpu.S->Gpr[(int)Gpr.Rsp], mask = cpu.StackAddressMask;
        cpu.S->Gpr[(int)Gpr.Rsp] = (mask == 0xFFFF ? rsp & ~mask : 0) | cpu.S->Gpr[(int)Gpr.Rbp] & mask;
        if (!cpu.PopValue(op->OpSize, out ulong v))
        {
            cpu.S->Gpr[(int)Gpr.Rsp] = rsp;
            return false;
        }

        Put(cpu, (int)Gpr.Rbp * 8, op->OpSize, v);
        return true;
    }

    private static void RegisterStack(HandlerTableBuilder b)
    {
        b.Register(&PushRm, Code.Push_r16, Code.Push_r32, Code.Push_r64, Code.Push_rm16, Code.Push_rm32, Code.Push_rm64);
        b.Register(&PushImmediate, Code.Push_imm16, Code.Pushd_imm32, Code.Pushq_imm32, Code.Pushw_imm8, Code.Pushd_imm8, Code.Pushq_imm8);
        b.Register(&PopRm, Code.Pop_r16, Code.Pop_r32, Code.Pop_r64, Code.Pop_rm16, Code.Pop_rm32, Code.Pop_rm64);
        b.Register(&Pusha, Code.Pushaw, Code.Pushad);
        b.Register(&Popa, Code.Popaw, Code.Popad);
        b.Register(Mnemonic.Enter, &Enter);
        b.Register(Mnemonic.Leave, &LeaveFrame);
    }
}
