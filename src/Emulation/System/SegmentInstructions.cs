using Iced.Intel;
using VirtPS.Sdk.Cpu;
using VirtPS.X86;

namespace VirtPS.Emulation;

// MOV, PUSH and POP of segment registers, LDS and its like.
internal static unsafe partial class SystemHandlers
{
    private static void RegisterSegments(HandlerTableBuilder b)
    {
        b.Register(&MovToSegment, Code.Mov_Sreg_rm16, Code.Mov_Sreg_r32m16, Code.Mov_Sreg_r64m16);
        b.Register(Code.Mov_rm16_Sreg, &MovFromSegment<Word>);
        b.Register(Code.Mov_r32m16_Sreg, &MovFromSegment<Dword>);
        b.Register(Code.Mov_r64m16_Sreg, &MovFromSegment<Qword>);
        b.Register(Code.Pushw_ES, &PushSegment<Word, EsName>);
        b.Register(Code.Pushd_ES, &PushSegment<Dword, EsName>);
        b.Register(Code.Pushw_CS, &PushSegment<Word, CsName>);
        b.Register(Code.Pushd_CS, &PushSegment<Dword, CsName>);
        b.Register(Code.Pushw_SS, &PushSegment<Word, SsName>);
        b.Register(Code.Pushd_SS, &PushSegment<Dword, SsName>);
        b.Register(Code.Pushw_DS, &PushSegment<Word, DsName>);
        b.Register(Code.Pushd_DS, &PushSegment<Dword, DsName>);
        b.Register(Code.Pushw_FS, &PushSegment<Word, FsName>);
        b.Register(Code.Pushd_FS, &PushSegment<Dword, FsName>);
        b.Register(Code.Pushq_FS, &PushSegment<Qword, FsName>);
        b.Register(Code.Pushw_GS, &PushSegment<Word, GsName>);
        b.Register(Code.Pushd_GS, &PushSegment<Dword, GsName>);
        b.Register(Code.Pushq_GS, &PushSegment<Qword, GsName>);
        b.Register(Code.Popw_ES, &PopSegment<Word, EsName>);
        b.Register(Code.Popd_ES, &PopSegment<Dword, EsName>);
        b.Register(Code.Popw_SS, &PopSegment<Word, SsName>);
        b.Register(Code.Popd_SS, &PopSegment<Dword, SsName>);
        b.Register(Code.Popw_DS, &PopSegment<Word, DsName>);
        b.Register(Code.Popd_DS, &PopSegment<Dword, DsName>);
        b.Register(Code.Popw_FS, &PopSegment<Word, FsName>);
        b.Register(Code.Popd_FS, &PopSegment<Dword, FsName>);
        b.Register(Code.Popq_FS, &PopSegment<Qword, FsName>);
        b.Register(Code.Popw_GS, &PopSegment<Word, GsName>);
        b.Register(Code.Popd_GS, &PopSegment<Dword, GsName>);
        b.Register(Code.Popq_GS, &PopSegment<Qword, GsName>);
        b.Register(Code.Les_r16_m1616, &LoadFarPointer<Word, EsName>);
        b.Register(Code.Les_r32_m1632, &LoadFarPointer<Dword, EsName>);
        b.Register(Code.Lds_r16_m1616, &LoadFarPointer<Word, DsName>);
        b.Register(Code.Lds_r32_m1632, &LoadFarPointer<Dword, DsName>);
        b.Register(Code.Lss_r16_m1616, &LoadFarPointer<Word, SsName>);
        b.Register(Code.Lss_r32_m1632, &LoadFarPointer<Dword, SsName>);
        b.Register(Code.Lss_r64_m1664, &LoadFarPointer<Qword, SsName>);
        b.Register(Code.Lfs_r16_m1616, &LoadFarPointer<Word, FsName>);
        b.Register(Code.Lfs_r32_m1632, &LoadFarPointer<Dword, FsName>);
        b.Register(Code.Lfs_r64_m1664, &LoadFarPointer<Qword, FsName>);
        b.Register(Code.Lgs_r16_m1616, &LoadFarPointer<Word, GsName>);
        b.Register(Code.Lgs_r32_m1632, &LoadFarPointer<Dword, GsName>);
        b.Register(Code.Lgs_r64_m1664, &LoadFarPointer<Qword, GsName>);
    }

    /// <summary>An operand size as a type, so that one body serves all sizes.</summary>
    private interface ISize
    {
        static abstract int Bytes { get; }
    }

    private readonly struct Word : ISize
    {
        public static int Bytes => 2;
    }

    private readonly struct Dword : ISize
    {
        public static int Bytes => 4;
    }

    private readonly struct Qword : ISize
    {
        public static int Bytes => 8;
    }

    private interface ISegment
    {
        static abstract SegmentName Name { get; }
    }

    private readonly struct EsName : ISegment
    {
        public static SegmentName Name => SegmentName.ES;
    }

    private readonly struct CsName : ISegment
    {
        public static SegmentName Name => SegmentName.CS;
    }

    private readonly struct SsName : ISegment
    {
        public static SegmentName Name => SegmentName.SS;
    }

    private readonly struct DsName : ISegment
    {
        public static SegmentName Name => SegmentName.DS;
    }

    private readonly struct FsName : ISegment
    {
        public static SegmentName Name => SegmentName.FS;
    }

    private readonly struct GsName : ISegment
    {
        public static SegmentName Name => SegmentName.GS;
    }

    private static bool MovToSegment(SoftVcpu cpu, Op* op)
    {
        var name = (SegmentName)(op->Reg & 7);
        if (name is SegmentName.CS or > SegmentName.GS)
            return cpu.Raise(Vector.UD);
        if (!ReadRm16(cpu, op, out ushort selector) || !cpu.LoadSegment(name, selector))
            return false;
        if (name == SegmentName.SS)
            HoldOffInterrupts(cpu, InterruptShadow.MovSs);
        return true;
    }

    private static bool MovFromSegment<TSize>(SoftVcpu cpu, Op* op) where TSize : ISize
    {
        var name = (SegmentName)(op->Reg & 7);
        return name > SegmentName.GS ? cpu.Raise(Vector.UD) : WriteRm16(cpu, op, TSize.Bytes, cpu.Seg(name)->Selector);
    }

    private static bool PushSegment<TSize, TSegment>(SoftVcpu cpu, Op* op) where TSize : ISize where TSegment : ISegment =>
        cpu.PushValue(TSize.Bytes, cpu.Seg(TSegment.Name)->Selector);

    private static bool PopSegment<TSize, TSegment>(SoftVcpu cpu, Op* op) where TSize : ISize where TSegment : ISegment
    {
        if (!cpu.PopIntoSegment(TSize.Bytes, TSegment.Name))
            return false;
        if (TSegment.Name == SegmentName.SS)
            HoldOffInterrupts(cpu, InterruptShadow.MovSs);
        return true;
    }

    /// <summary>LES, LDS, LSS, LFS, LGS: offset, then selector behind it.</summary>
    private static bool LoadFarPointer<TSize, TSegment>(SoftVcpu cpu, Op* op) where TSize : ISize where TSegment : ISegment
    {
        if (!op->IsMemory)
            return cpu.Raise(Vector.UD);
        if (!LoadFarOperand(cpu, op, TSize.Bytes, out ulong offset, out ushort selector) || !cpu.LoadSegment(TSegment.Name, selector))
            return false;
        WriteGpr(cpu, op->Reg, TSize.Bytes, offset);
        return true;
    }

    private static bool LoadFarOperand(SoftVcpu cpu, Op* op, int size, out ulong offset, out ushort selector)
    {
        ulong at = cpu.EffectiveAddress(op);
        byte* bytes = stackalloc byte[10];
        offset = 0;
        selector = 0;
        if (!cpu.LoadBytes(op->Seg, at, bytes, size + 2))
            return false;
        offset = size switch { 2 => *(ushort*)bytes, 4 => *(uint*)bytes, _ => *(ulong*)bytes };
        selector = *(ushort*)(bytes + size);
        return true;
    }

    /// <summary>STI, MOV SS and POP SS: nothing is delivered before the next instruction has ended.</summary>
    private static void HoldOffInterrupts(SoftVcpu cpu, InterruptShadow shadow)
    {
        cpu.S->InterruptShadow = shadow;
        cpu.LeaveBlock();
    }
}
