using VirtPS.Sdk.Cpu;
using VirtPS.X86;
using static VirtPS.Sdk.Testing.Conformance.ConformanceMachine;

namespace VirtPS.Sdk.Testing.Conformance;

// External interrupts, NMI, HLT, pending events, single step.
public static unsafe partial class StrategyConformance
{
    private const byte TestVector = 0x41;

    private static IEnumerable<ConformanceCheck> InterruptChecks() =>
    [
        Check(ConformanceArea.Interrupts, "window opens behind the instruction that follows STI", WindowAfterSti, ConformanceControllers.Machine),
        Check(ConformanceArea.Interrupts, "no window while IF is clear", NoWindowWithoutIf, ConformanceControllers.Machine),
        Check(ConformanceArea.Interrupts, "MOV SS holds the window off for one instruction", MovSsShadow, ConformanceControllers.Machine),
        Check(ConformanceArea.Interrupts, "an injected interrupt runs its handler with IF clear and returns", InjectAndReturn, ConformanceControllers.Machine),
        Check(ConformanceArea.Interrupts, "HLT retires, an interrupt wakes", HaltAndWake, ConformanceControllers.Machine),
        Check(ConformanceArea.Interrupts, "NMI is taken with IF clear and blocks the next until IRET", NmiBlocking),
        Check(ConformanceArea.Interrupts, "a pending event in the state is delivered first", PendingEventDelivered),
        Check(ConformanceArea.Interrupts, "a pending #GP that cannot be delivered becomes #DF(0)", PendingEventDoubleFault),
        Check(ConformanceArea.Interrupts, "CR8 goes to the machine", TaskPriority, ConformanceControllers.Machine),
        Check(ConformanceArea.SingleStep, "one instruction at a time", StepByStep),
        Check(ConformanceArea.SingleStep, "RFLAGS.TF traps behind each instruction", TrapFlag),
        Check(ConformanceArea.SingleStep, "execution breakpoint", ExecutionBreakpoint),
        Check(ConformanceArea.SingleStep, "data breakpoint traps behind the write", DataBreakpoint),
    ];

    private static void Request(ConformanceMachine m, VcpuRequests bits)
    {
        Interlocked.Or(ref m.State->Requests, (uint)bits);
        m.Vcpu.Kick();
    }

    private static void Withdraw(ConformanceMachine m, VcpuRequests bits) => Interlocked.And(ref m.State->Requests, ~(uint)bits);

    private static void ExpectWindow(ConformanceMachine m, ulong rip)
    {
        Equal(VcpuExit.InterruptWindow, m.Run(), "exit");
        Equal(rip, m.State->Rip, "RIP at the window");
    }

    private static void WindowAfterSti(ConformanceMachine m)
    {
        m.EnterLongMode(c => c.Sti().Nop().Nop().Hlt());
        Request(m, VcpuRequests.Interrupt);
        ExpectWindow(m, CodeAddress + 2);
    }

    private static void NoWindowWithoutIf(ConformanceMachine m)
    {
        m.EnterLongMode(c => c.Nop().Nop().Hlt());
        Request(m, VcpuRequests.Interrupt);
        m.RunToHalt();
        Equal((ulong)CodeAddress + 3, m.State->Rip, "RIP");
    }

    private static void MovSsShadow(ConformanceMachine m)
    {
        m.EnterLongMode(c => c.Bytes(0x8E, 0xD0).Nop().Nop().Hlt());
        m.State->Gpr[0] = Data;
        m.State->Rflags |= Rflags.IF;
        m.Vcpu.CommitState();
        Equal(VcpuExit.SingleStep, m.Vcpu.SingleStep(), "exit of the step over MOV SS");
        Request(m, VcpuRequests.Interrupt);
        ExpectWindow(m, CodeAddress + 3);
    }

    private static void InjectAndReturn(ConformanceMachine m)
    {
        m.EnterLongMode(c => c.Sti().Label("wait").Bytes(0x48, 0x85, 0xDB).Jcc(4, "wait").Hlt());
        PlaceHandler(m, TestVector, h => h.Bytes(0x9C).Pop(Gpr.Rcx).Mov(Gpr.Rbx, 1).Iretq());
        Request(m, VcpuRequests.Interrupt);
        Equal(VcpuExit.InterruptWindow, m.Run(), "exit");
        Withdraw(m, VcpuRequests.Interrupt);
        m.Vcpu.InjectInterrupt(TestVector);
        m.RunToHalt();
        Equal(1ul, m[Gpr.Rbx], "RBX set by the handler");
        Equal(0ul, m[Gpr.Rcx] & Rflags.IF, "IF in the handler");
        Equal(Rflags.IF, m.State->Rflags & Rflags.IF, "IF after the return");
        Equal((ulong)StackTop, m[Gpr.Rsp], "RSP after the return");
    }

    private static void HaltAndWake(ConformanceMachine m)
    {
        m.EnterLongMode(c => c.Sti().Hlt().Mov(Gpr.Rdx, 9).Cli().Hlt());
        PlaceHandler(m, TestVector, h => h.Mov(Gpr.Rbx, 1).Iretq());
        m.RunToHalt();
        Equal(MpState.Halted, m.State->MpState, "MP state");
        Equal((ulong)CodeAddress + 2, m.State->Rip, "RIP behind HLT");
        Request(m, VcpuRequests.Interrupt);
        m.State->MpState = MpState.Runnable;
        ExpectWindow(m, CodeAddress + 2);
        Withdraw(m, VcpuRequests.Interrupt);
        m.Vcpu.InjectInterrupt(TestVector);
        m.RunToHalt();
        Equal(1ul, m[Gpr.Rbx], "RBX set by the handler");
        Equal(9ul, m[Gpr.Rdx], "RDX set after the wake-up");
    }

    private static void NmiBlocking(ConformanceMachine m)
    {
        // The handler counts; each OUT in it asks for another NMI, which must wait for its IRETQ.
        m.EnterLongMode(c => c.Nop().Nop().Hlt());
        // inc qword [data]; mov al, [data]; cmp al, 2; jae out; out 0x80; nop; inc qword [data+8] (not reached before return); iretq
        PlaceHandler(m, Vector.NMI, h => h.Bytes(0x48, 0xFF, 0x04, 0x25).Imm32(DataAddress)
            .Bytes(0x80, 0x3C, 0x25).Imm32(DataAddress).Bytes(2).Jcc(3, "out")
            .Bytes(0xE6, 0x80).Nop().Load(Gpr.Rbx, DataAddress).Label("out").Iretq());
        m.Host.OnAccess = a => Interlocked.Or(ref m.State->Requests, (uint)VcpuRequests.Nmi);
        Request(m, VcpuRequests.Nmi);
        m.RunToHalt();
        Equal(2ul, m.Read64(DataAddress), "NMIs taken");
        Equal(1ul, m[Gpr.Rbx], "NMIs counted when the first handler was about to return");
        Equal((ulong)StackTop, m[Gpr.Rsp], "RSP at the end");
        Equal(false, m.State->NmiBlocked, "NMI blocking after the last IRETQ");
    }

    private static void PendingEventDelivered(ConformanceMachine m)
    {
        m.EnterLongMode(c => c.Ud2());
        m.State->Pending = new PendingEvent { Vector = Vector.GP, Kind = EventKind.HardwareException, HasErrorCode = true, ErrorCode = 0x18 };
        m.Vcpu.CommitState();
        ExceptionReport r = m.RunToException();
        Equal(Vector.GP, r.Vector, "vector");
        Equal(0x18u, r.Error, "error code");
        Equal((ulong)CodeAddress, r.Rip, "RIP");
        Equal(false, m.State->Pending.IsPending, "pending after delivery");
    }

    private static void PendingEventDoubleFault(ConformanceMachine m)
    {
        m.EnterLongMode(c => c.Ud2());
        m.SetGate(Vector.GP, StubAddress, present: false);
        m.State->Pending = new PendingEvent { Vector = Vector.GP, Kind = EventKind.HardwareException, HasErrorCode = true };
        m.Vcpu.CommitState();
        ExceptionReport r = m.RunToException();
        Equal(Vector.DF, r.Vector, "vector");
        Equal(0u, r.Error, "error code");
    }

    private static void TaskPriority(ConformanceMachine m)
    {
        // mov cr8, rax; mov rbx, cr8
        m.EnterLongMode(c => c.Mov(Gpr.Rax, 5).Bytes(0x44, 0x0F, 0x22, 0xC0, 0x44, 0x0F, 0x20, 0xC3).Hlt());
        m.RunToHalt();
        Equal(5ul, m.Host.Cr8, "CR8 at the machine");
        Equal(5ul, m[Gpr.Rbx], "CR8 read back");
    }

    private static void StepByStep(ConformanceMachine m)
    {
        m.EnterLongMode(c => c.Nop().Mov(Gpr.Rax, 3).Jmp("far").Nop().Label("far").Nop().Hlt());
        ulong[] expected = [1, 11, 17, 18];
        foreach (ulong at in expected)
        {
            Equal(VcpuExit.SingleStep, m.Vcpu.SingleStep(), "exit");
            m.Vcpu.SynchronizeState();
            Equal(CodeAddress + at, m.State->Rip, "RIP after the step");
        }

        Equal(3ul, m[Gpr.Rax], "RAX");
        m.RunToHalt();
    }

    private static void TrapFlag(ConformanceMachine m)
    {
        m.EnterLongMode(c => c.Nop().Nop().Nop().Hlt());
        m.State->Rflags |= Rflags.TF;
        m.Vcpu.CommitState();
        ExceptionReport r = m.RunToException();
        Equal(Vector.DB, r.Vector, "vector");
        Equal((ulong)CodeAddress + 1, r.Rip, "RIP behind the first instruction");
        Equal(Rflags.TF, r.Rflags & Rflags.TF, "TF in the frame");
        Equal(1ul << 14, m.State->Dr6 & (1ul << 14), "DR6.BS");
    }

    private static void ExecutionBreakpoint(ConformanceMachine m)
    {
        m.EnterLongMode(c => c.Nop().Nop().Nop().Hlt());
        m.State->Dr0 = CodeAddress + 2;
        m.State->Dr7 = 0x402;
        m.Vcpu.CommitState();
        ExceptionReport r = m.RunToException();
        Equal(Vector.DB, r.Vector, "vector");
        Equal((ulong)CodeAddress + 2, r.Rip, "RIP of the instruction not yet run");
        Equal(1ul, m.State->Dr6 & 0xF, "DR6");
    }

    private static void DataBreakpoint(ConformanceMachine m)
    {
        m.EnterLongMode(c => c.Load(Gpr.Rax, DataAddress).Store(DataAddress, Gpr.Rax).Nop().Hlt());
        m.State->Dr1 = DataAddress + 4;
        // L1, write, four bytes.
        m.State->Dr7 = 0x400 | 1 << 2 | 0b1101u << 20;
        m.Vcpu.CommitState();
        ExceptionReport r = m.RunToException();
        Equal(Vector.DB, r.Vector, "vector");
        Equal((ulong)CodeAddress + 16, r.Rip, "RIP behind the write");
        Equal(2ul, m.State->Dr6 & 0xF, "DR6");
    }
}
