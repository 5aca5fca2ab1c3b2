using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Interrupts;
using VirtPS.X86;
using static VirtPS.Sdk.Testing.Conformance.ConformanceMachine;

namespace VirtPS.Sdk.Testing.Conformance;

// Interrupts of a partition that has local APICs of its own, by messages.
public static unsafe partial class StrategyConformance
{
    private const uint LocalApic = 0xFEE0_0000, SpuriousVector = 0xF0, EndOfInterrupt = 0xB0;
    private const byte SendPort = 0x80, AnyPort = 0x81;

    private static IEnumerable<ConformanceCheck> PartitionControllerChecks() =>
    [
        Check(ConformanceArea.Interrupts, "a message with IF clear is taken behind the instruction that follows STI", MessageAfterSti, ConformanceControllers.Partition),
        Check(ConformanceArea.Interrupts, "no message is taken while IF is clear", NoMessageWithoutIf, ConformanceControllers.Partition),
        Check(ConformanceArea.Interrupts, "a message wakes from HLT; its handler returns", MessageWakes, ConformanceControllers.Partition),
        Check(ConformanceArea.Interrupts, "CR8 holds a message off and lets it through", MessageAndTaskPriority, ConformanceControllers.Partition),
        Check(ConformanceArea.SingleStep, "a message's delivery is a step and leaves no TF behind", MessageWhileStepping, ConformanceControllers.Partition),
    ];

    /// <summary>RDI = the local APIC, which is enabled.</summary>
    private static GuestCode EnableApic(this GuestCode c) => c.Mov(Gpr.Rdi, LocalApic).Bytes(0xC7, 0x87).Imm32(SpuriousVector).Imm32(0x1FF);

    /// <summary>An OUT to <see cref="SendPort"/> sends <see cref="TestVector"/> to vCPU 0.</summary>
    private static void SendOnPort(ConformanceMachine m) => m.Host.OnAccess = a =>
    {
        if (a is { Kind: "out", Address: SendPort })
            SendMessage(m);
    };

    private static void SendMessage(ConformanceMachine m) => m.Partition.InterruptController!.Send(new MsiMessage(LocalApic, TestVector));

    /// <summary>The handler's RBX is the interrupted address; it halts.</summary>
    private static void PlaceReporter(ConformanceMachine m) => PlaceHandler(m, TestVector, h => h.Bytes(0x48, 0x8B, 0x1C, 0x24).Hlt());

    private static void MessageAfterSti(ConformanceMachine m)
    {
        ulong behind = 0;
        m.EnterLongMode(c =>
        {
            c.EnableApic().Bytes(0xE6, SendPort).Nop().Sti().Nop();
            behind = c.Here;
            c.Nop().Hlt();
        });
        PlaceReporter(m);
        SendOnPort(m);
        m.RunToHalt();
        Equal(behind, m[Gpr.Rbx], "the interrupted address");
    }

    private static void NoMessageWithoutIf(ConformanceMachine m)
    {
        ulong end = 0;
        m.EnterLongMode(c =>
        {
            c.EnableApic().Bytes(0xE6, SendPort).Nop().Hlt();
            end = c.Here;
        });
        PlaceReporter(m);
        SendOnPort(m);
        m.RunToHalt();
        Equal(end, m.State->Rip, "RIP");
        Equal(0ul, m[Gpr.Rbx], "RBX, which the handler sets");
    }

    private static void MessageWakes(ConformanceMachine m)
    {
        ulong behind = 0;
        m.EnterLongMode(c =>
        {
            c.EnableApic().Sti().Hlt();
            behind = c.Here;
            c.Mov(Gpr.Rdx, 9).Cli().Hlt();
        });
        // mov ebx, 1; mov dword [rdi + EOI], 0; iretq
        PlaceHandler(m, TestVector, h => h.Mov(Gpr.Rbx, 1).Bytes(0xC7, 0x87).Imm32(EndOfInterrupt).Imm32(0).Iretq());
        m.RunToHalt();
        Equal(MpState.Halted, m.State->MpState, "MP state");
        Equal(behind, m.State->Rip, "RIP behind HLT");
        SendMessage(m);
        m.RunToHalt();
        Equal(1ul, m[Gpr.Rbx], "RBX set by the handler");
        Equal(9ul, m[Gpr.Rdx], "RDX set after the wake-up");
        Equal((ulong)StackTop, m[Gpr.Rsp], "RSP at the end");
    }

    private static void MessageAndTaskPriority(ConformanceMachine m)
    {
        ulong behind = 0;
        // mov cr8, rax; sti; out (the message); mov ecx, 77; mov rdx, cr8; xor eax, eax; mov cr8, rax
        m.EnterLongMode(c =>
        {
            c.EnableApic().Mov(Gpr.Rax, 5).Bytes(0x44, 0x0F, 0x22, 0xC0).Sti().Nop().Bytes(0xE6, SendPort).Nop().Mov(Gpr.Rcx, 77)
                .Bytes(0x44, 0x0F, 0x20, 0xC2).Bytes(0x31, 0xC0, 0x44, 0x0F, 0x22, 0xC0);
            behind = c.Here;
            c.Hlt();
        });
        PlaceReporter(m);
        byte seen = 0;
        m.Host.OnAccess = a =>
        {
            seen = m.Partition.InterruptController!.GetTaskPriority(0);
            SendMessage(m);
        };
        m.RunToHalt();
        Equal(behind, m[Gpr.Rbx], "the interrupted address");
        Equal(77ul, m[Gpr.Rcx], "RCX set while it was held off");
        Equal(5ul, m[Gpr.Rdx], "CR8 read back");
        Equal((byte)0x50, seen, "the controller's task priority");
    }

    private static void MessageWhileStepping(ConformanceMachine m)
    {
        m.EnterLongMode(c => c.EnableApic().Sti().Bytes(0xE6, AnyPort).Label("l").Nop().Nop().Jmp("l"));
        // A first instruction of one byte.
        PlaceHandler(m, TestVector, h => h.Bytes(0x90, 0x48, 0x8B, 0x1C, 0x24).Hlt());
        bool ready = false;
        m.Host.OnAccess = _ => ready = true;
        Step(m, () => ready);
        Step(m, () => true);
        SendMessage(m);
        ulong at = m.State->Rip;
        Step(m, () => true);
        Equal(StubOf(m, TestVector), m.State->Rip, "RIP after the step");
        Equal(at, m.Read64(StackTop - 40), "RIP in the frame");
        Equal(0ul, m.Read64(StackTop - 24) & Rflags.TF, "TF in the frame");
        Equal(0ul, m.State->Rflags & (Rflags.IF | Rflags.TF), "IF and TF in the handler");
        Step(m, () => true);
        Equal(StubOf(m, TestVector) + 1, m.State->Rip, "RIP after the handler's first instruction");
        Step(m, () => true);
        Equal(at, m[Gpr.Rbx], "what the second one read");
    }

    private static void Step(ConformanceMachine m, Func<bool> until)
    {
        int steps = 0;
        do
        {
            Equal(VcpuExit.SingleStep, m.Vcpu.SingleStep(), "exit of a step");
            m.Vcpu.SynchronizeState();
        }
        while (!until() && ++steps < 100);
        True(until(), "what was stepped to did not come");
    }
}
