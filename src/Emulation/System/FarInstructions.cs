using Iced.Intel;
using VirtPS.Sdk.Cpu;
using VirtPS.X86;

namespace VirtPS.Emulation;

// Instructions that leave the code segment: far JMP, CALL, RET, INT, IRET, system calls.
internal static unsafe partial class SystemHandlers
{
    private static void RegisterFarTransfers(HandlerTableBuilder b)
    {
        b.Register(Code.Jmp_ptr1616, &FarDirect<Word, JumpKind>);
        b.Register(Code.Jmp_ptr1632, &FarDirect<Dword, JumpKind>);
        b.Register(Code.Call_ptr1616, &FarDirect<Word, CallKind>);
        b.Register(Code.Call_ptr1632, &FarDirect<Dword, CallKind>);
        b.Register(Code.Jmp_m1616, &FarIndirect<Word, JumpKind>);
        b.Register(Code.Jmp_m1632, &FarIndirect<Dword, JumpKind>);
        b.Register(Code.Jmp_m1664, &FarIndirect<Qword, JumpKind>);
        b.Register(Code.Call_m1616, &FarIndirect<Word, CallKind>);
        b.Register(Code.Call_m1632, &FarIndirect<Dword, CallKind>);
        b.Register(Code.Call_m1664, &FarIndirect<Qword, CallKind>);
        b.Register(&FarReturn<Word>, Code.Retfw, Code.Retfw_imm16);
        b.Register(&FarReturn<Dword>, Code.Retfd, Code.Retfd_imm16);
        b.Register(&FarReturn<Qword>, Code.Retfq, Code.Retfq_imm16);
        b.Register(Code.Iretw, &InterruptReturn<Word>);
        b.Register(Code.Iretd, &InterruptReturn<Dword>);
        b.Register(Code.Iretq, &InterruptReturn<Qword>);
        b.Register(Code.Int_imm8, &Int);
        b.Register(Code.Int3, &Int3);
        b.Register(Code.Into, &Into);
        b.Register(Code.Int1, &Int1);
        b.Register(Code.Syscall, &Syscall);
        b.Register(Code.Sysretd, &Sysret<Dword>);
        b.Register(Code.Sysretq, &Sysret<Qword>);
        b.Register(Code.Sysenter, &Sysenter);
        b.Register(Code.Sysexitd, &Sysexit<Dword>);
        b.Register(Code.Sysexitq, &Sysexit<Qword>);
    }

    private interface ITransferKind
    {
        static abstract bool IsCall { get; }
    }

    private readonly struct JumpKind : ITransferKind
    {
        public static bool IsCall => false;
    }

    private readonly struct CallKind : ITransferKind
    {
        public static bool IsCall => true;
    }

    private static bool FarDirect<TSize, TKind>(SoftVcpu cpu, Op* op) where TSize : ISize where TKind : ITransferKind
    {
        ulong offset = TSize.Bytes == 2 ? (ushort)op->Imm : (uint)op->Imm;
        return cpu.FarTransfer((ushort)(op->Imm >> 32), offset, TSize.Bytes, TKind.IsCall, cpu.NextRip(op));
    }

    private static bool FarIndirect<TSize, TKind>(SoftVcpu cpu, Op* op) where TSize : ISize where TKind : ITransferKind
    {
        if (!op->IsMemory)
            return cpu.Raise(Vector.UD);
        return LoadFarOperand(cpu, op, TSize.Bytes, out ulong offset, out ushort selector)
            && cpu.FarTransfer(selector, offset, TSize.Bytes, TKind.IsCall, cpu.NextRip(op));
    }

    private static bool FarReturn<TSize>(SoftVcpu cpu, Op* op) where TSize : ISize => cpu.FarReturn(TSize.Bytes, (ushort)op->Imm);

    private static bool InterruptReturn<TSize>(SoftVcpu cpu, Op* op) where TSize : ISize => cpu.InterruptReturn(TSize.Bytes, cpu.NextRip(op));

    private static bool Int(SoftVcpu cpu, Op* op) => cpu.SoftwareInterrupt((byte)op->Imm, cpu.NextRip(op));

    private static bool Int3(SoftVcpu cpu, Op* op) => cpu.DeliverSoftware(Vector.BP, EventKind.SoftwareException, cpu.NextRip(op));

    private static bool Into(SoftVcpu cpu, Op* op) =>
        (cpu.GetFlags() & Rflags.OF) == 0 || cpu.DeliverSoftware(Vector.OF, EventKind.SoftwareException, cpu.NextRip(op));

    /// <summary>INT1 (ICEBP): #DB without a check of the gate's DPL and without a mark in DR6 (SDM Vol. 2A INT n).</summary>
    private static bool Int1(SoftVcpu cpu, Op* op) => cpu.DeliverSoftware(Vector.DB, EventKind.HardwareException, cpu.NextRip(op));

    private static bool Syscall(SoftVcpu cpu, Op* op) => cpu.Syscall(cpu.NextRip(op));

    private static bool Sysret<TSize>(SoftVcpu cpu, Op* op) where TSize : ISize => cpu.Sysret(wide: TSize.Bytes == 8);

    private static bool Sysenter(SoftVcpu cpu, Op* op) => cpu.Sysenter();

    private static bool Sysexit<TSize>(SoftVcpu cpu, Op* op) where TSize : ISize => cpu.Sysexit(wide: TSize.Bytes == 8);
}
