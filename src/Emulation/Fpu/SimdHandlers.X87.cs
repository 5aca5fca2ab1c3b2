using System.Runtime.CompilerServices;
using VirtPS.Emulation.Thunks;
using VirtPS.Sdk.Cpu;
using VirtPS.X86;

namespace VirtPS.Emulation;

// x87 arithmetic: the whole x87 state goes to the silicon and comes back.
internal static unsafe partial class SimdHandlers
{
    /// <summary>Exceptions after which an instruction has not stored to memory: #IA, #IS, #Z, #D, #O, #U, not #P (SDM Vol. 1 §8.5).</summary>
    private const int NoStore = 0x1F;

    private static bool ExecuteX87(SoftVcpu cpu, Op* op)
    {
        ThunkInfo* info = InfoOf(op);
        if (!cpu.X87Available(waits: true))
            return false;
        ThunkFrame* frame = cpu.Frame;
        ulong offset = 0;
        if (info->MemoryIndex != 0xFF)
        {
            offset = cpu.EffectiveAddress(op);
            if (info->Has(ThunkFlags.MemoryRead) && !cpu.LoadOperand(op->Seg, offset, frame->Scratch, info->MemorySize))
                return false;
        }

        RunX87(cpu, info);
        if (info->Has(ThunkFlags.MemoryWrite))
        {
            // An operand that may not be written faults also where an unmasked exception keeps it from being written.
            bool stored = FaultedBeforeStore(frame) ? cpu.ProbeWrite(op->Seg, offset, info->MemorySize)
                : cpu.StoreOperand(op->Seg, offset, frame->Scratch, info->MemorySize);
            if (!stored)
                return false;
        }

        CommitX87(cpu, op, info, offset);
        return true;
    }

    private static void RunX87(SoftVcpu cpu, ThunkInfo* info)
    {
        ThunkFrame* frame = cpu.Frame;
        Unsafe.CopyBlock(frame->X87, cpu.S->Xsave, VectorFile.Xmm);
        *(uint*)(frame->X87 + VectorFile.Mxcsr) = ThunkFrame.MxcsrDefault;
        *(ulong*)(frame->X87 + VectorFile.HeaderOffset) = Xcr0.X87;
        frame->Flags = cpu.GetFlags() & Rflags.Status;
        info->Run(frame);
    }

    private static bool FaultedBeforeStore(ThunkFrame* frame)
    {
        int fcw = *(ushort*)(frame->X87 + VectorFile.Fcw), fsw = *(ushort*)(frame->X87 + VectorFile.Fsw);
        return (fsw & ~fcw & NoStore) != 0;
    }

    private static void CommitX87(SoftVcpu cpu, Op* op, ThunkInfo* info, ulong offset)
    {
        VcpuState* s = cpu.S;
        byte* image = cpu.Frame->X87;
        Unsafe.CopyBlock(s->Xsave, image, VectorFile.Fop);
        Unsafe.CopyBlock(s->Xsave + VectorFile.St, image + VectorFile.St, 128);
        if (info->Has(ThunkFlags.WritesFlags))
            TakeFlags(cpu);
        // The host's pointers name the thunk. FCS and FDS are not kept (CPUID.7.0:EBX[13]).
        // FOP follows only instructions with an unmasked exception, as on every processor since the Pentium 4 (SDM Vol. 1 §8.1.9.1).
        if ((VectorFile.FswOf(s) & VectorFile.ErrorSummary) != 0)
            *(ushort*)(s->Xsave + VectorFile.Fop) = OpcodeOf(op);
        *(ulong*)(s->Xsave + VectorFile.Fip) = s->Rip;
        if (info->MemoryIndex != 0xFF)
            *(ulong*)(s->Xsave + VectorFile.Fdp) = offset;
    }

    /// <summary>FOP: the low three bits of the first opcode byte and ModRM (SDM Vol. 1 §8.1.9).</summary>
    private static ushort OpcodeOf(Op* op)
    {
        byte* p = Op.Bytes(op);
        int i = 0;
        while (i < op->Length - 2 && (p[i] & 0xF8) != 0xD8)
            i++;
        return (ushort)((p[i] & 7) << 8 | p[i + 1]);
    }
}
