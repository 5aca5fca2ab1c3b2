using Iced.Intel;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Rings;
using VirtPS.X86;

namespace VirtPS.Emulation;

// MOV CR and DR, MSRs, FS and GS bases, TLB, XCR0.
internal static unsafe partial class SystemHandlers
{
    private static void RegisterControl(HandlerTableBuilder b)
    {
        b.Register(&MovFromCr, Code.Mov_r32_cr, Code.Mov_r64_cr);
        b.Register(&MovToCr, Code.Mov_cr_r32, Code.Mov_cr_r64);
        b.Register(&MovFromDr, Code.Mov_r32_dr, Code.Mov_r64_dr);
        b.Register(&MovToDr, Code.Mov_dr_r32, Code.Mov_dr_r64);
        b.Register(Code.Rdmsr, &Rdmsr);
        b.Register(Code.Wrmsr, &Wrmsr);
        b.Register(Code.Xgetbv, &Xgetbv);
        b.Register(Code.Xsetbv, &Xsetbv);
        b.Register(Code.Swapgs, &Swapgs);
        b.Register(Code.Rdfsbase_r32, &ReadBase<Dword, FsName>);
        b.Register(Code.Rdfsbase_r64, &ReadBase<Qword, FsName>);
        b.Register(Code.Rdgsbase_r32, &ReadBase<Dword, GsName>);
        b.Register(Code.Rdgsbase_r64, &ReadBase<Qword, GsName>);
        b.Register(Code.Wrfsbase_r32, &WriteBase<Dword, FsName>);
        b.Register(Code.Wrfsbase_r64, &WriteBase<Qword, FsName>);
        b.Register(Code.Wrgsbase_r32, &WriteBase<Dword, GsName>);
        b.Register(Code.Wrgsbase_r64, &WriteBase<Qword, GsName>);
        b.Register(Code.Invlpg_m, &Invlpg);
        b.Register(&Invpcid, Code.Invpcid_r32_m128, Code.Invpcid_r64_m128);
    }

    private static ulong ReadOperand(SoftVcpu cpu, Op* op) => cpu.In64BitMode ? cpu.S->Gpr[op->Rm] : (uint)cpu.S->Gpr[op->Rm];

    private static void WriteOperand(SoftVcpu cpu, Op* op, ulong value) => cpu.S->Gpr[op->Rm] = cpu.In64BitMode ? value : (uint)value;

    private static bool MovFromCr(SoftVcpu cpu, Op* op)
    {
        if (!cpu.ReadControlRegister(op->Reg, out ulong value))
            return false;
        WriteOperand(cpu, op, value);
        return true;
    }

    private static bool MovToCr(SoftVcpu cpu, Op* op) => cpu.WriteControlRegister(op->Reg, ReadOperand(cpu, op));

    private static bool MovFromDr(SoftVcpu cpu, Op* op)
    {
        if (!cpu.ReadDebugRegister(op->Reg, out ulong value))
            return false;
        WriteOperand(cpu, op, value);
        return true;
    }

    private static bool MovToDr(SoftVcpu cpu, Op* op) => cpu.WriteDebugRegister(op->Reg, ReadOperand(cpu, op));

    private static void WritePair(SoftVcpu cpu, ulong value)
    {
        cpu.S->Gpr[(int)Gpr.Rax] = (uint)value;
        cpu.S->Gpr[(int)Gpr.Rdx] = value >> 32;
    }

    private static ulong ReadPair(SoftVcpu cpu) => (uint)cpu.S->Gpr[(int)Gpr.Rax] | cpu.S->Gpr[(int)Gpr.Rdx] << 32;

    private static bool Rdmsr(SoftVcpu cpu, Op* op)
    {
        if (!NeedsRing0(cpu) || !cpu.ReadMsr((uint)cpu.S->Gpr[(int)Gpr.Rcx], out ulong value))
            return false;
        WritePair(cpu, value);
        return true;
    }

    private static bool Wrmsr(SoftVcpu cpu, Op* op) => NeedsRing0(cpu) && cpu.WriteMsr((uint)cpu.S->Gpr[(int)Gpr.Rcx], ReadPair(cpu));

    private static bool Xgetbv(SoftVcpu cpu, Op* op)
    {
        if (!cpu.ReadXcr((uint)cpu.S->Gpr[(int)Gpr.Rcx], out ulong value))
            return false;
        WritePair(cpu, value);
        return true;
    }

    private static bool Xsetbv(SoftVcpu cpu, Op* op) => cpu.WriteXcr((uint)cpu.S->Gpr[(int)Gpr.Rcx], ReadPair(cpu));

    private static bool Swapgs(SoftVcpu cpu, Op* op)
    {
        if (!cpu.In64BitMode)
            return cpu.Raise(Vector.UD);
        if (!NeedsRing0(cpu))
            return false;
        (cpu.S->GS.Base, cpu.S->KernelGsBase) = (cpu.S->KernelGsBase, cpu.S->GS.Base);
        return true;
    }

    private static bool BaseInstructionsAllowed(SoftVcpu cpu) =>
        (cpu.In64BitMode && (cpu.S->Cr4 & Cr4.FSGSBASE) != 0) || cpu.Raise(Vector.UD);

    private static bool ReadBase<TSize, TSegment>(SoftVcpu cpu, Op* op) where TSize : ISize where TSegment : ISegment
    {
        if (!BaseInstructionsAllowed(cpu))
            return false;
        WriteGpr(cpu, op->Rm, TSize.Bytes, cpu.Seg(TSegment.Name)->Base);
        return true;
    }

    private static bool WriteBase<TSize, TSegment>(SoftVcpu cpu, Op* op) where TSize : ISize where TSegment : ISegment
    {
        if (!BaseInstructionsAllowed(cpu))
            return false;
        ulong value = TSize.Bytes == 4 ? (uint)cpu.S->Gpr[op->Rm] : cpu.S->Gpr[op->Rm];
        if (!SoftVcpu.IsCanonical(value))
            return cpu.Raise(Vector.GP, 0);
        cpu.Seg(TSegment.Name)->Base = value;
        return true;
    }

    private static bool Invlpg(SoftVcpu cpu, Op* op)
    {
        if (!NeedsRing0(cpu))
            return false;
        ulong offset = cpu.EffectiveAddress(op);
        bool based = !cpu.In64BitMode || op->Seg is SegmentName.FS or SegmentName.GS;
        ulong linear = based ? cpu.Seg(op->Seg)->Base + offset : offset;
        cpu.FlushTlbPage(cpu.LongModeActive ? linear : (uint)linear);
        return true;
    }

    private static bool Invpcid(SoftVcpu cpu, Op* op)
    {
        if (!NeedsRing0(cpu))
            return false;
        ulong* descriptor = stackalloc ulong[2];
        if (!cpu.LoadBytes(op->Seg, cpu.EffectiveAddress(op), descriptor, 16))
            return false;
        ulong type = cpu.In64BitMode ? cpu.S->Gpr[op->Reg] : (uint)cpu.S->Gpr[op->Reg];
        ulong pcid = descriptor[0];
        bool pcidUnusable = pcid > 0xFFF || (pcid != 0 && (cpu.S->Cr4 & Cr4.PCIDE) == 0);
        bool refused = type > 3 || (type < 2 && pcidUnusable) || (type >= 2 && pcid > 0xFFF) || (type == 0 && !SoftVcpu.IsCanonical(descriptor[1]));
        if (refused)
            return cpu.Raise(Vector.GP, 0);
        switch (type)
        {
            case 0:
                if (pcid == (cpu.S->Cr3 & 0xFFF) || (cpu.S->Cr4 & Cr4.PCIDE) == 0)
                    cpu.FlushTlbPage(descriptor[1]);
                else
                    cpu.FlushTlbPcid(pcid);
                break;
            case 1:
                cpu.FlushTlbPcid(pcid);
                break;
            default:
                cpu.FlushTlb(global: type == 2);
                break;
        }

        return true;
    }
}
