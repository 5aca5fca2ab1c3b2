using VirtPS.Sdk.Cpu;
using VirtPS.X86;
using static VirtPS.Sdk.Testing.Conformance.ConformanceMachine;

namespace VirtPS.Sdk.Testing.Conformance;

// A guest kernel in ring 3 under a supervisor: what reaches the supervisor, what its effects do, and the translations of the two address spaces.
public static unsafe partial class StrategyConformance
{
    private static IEnumerable<ConformanceCheck> DeprivilegedChecks() =>
    [
        Deprivileged("SYSCALL calls the supervisor, and goes on behind it with what it has set", SupervisedCall),
        Deprivileged("SYSCALL whose RIP the supervisor has changed goes on there", SupervisedJump),
        SupervisedTrap("HLT", Vector.GP, 0, 0, c => c.Hlt()),
        SupervisedTrap("MOV to CR3", Vector.GP, 0, 0, c => c.ToCr(3, Gpr.Rax)),
        SupervisedTrap("WRMSR", Vector.GP, 0, 0, c => c.Wrmsr()),
        SupervisedTrap("UD2", Vector.UD, null, 0, c => c.Ud2()),
        SupervisedTrap("write to a read-only page", Vector.PF, PageFaultError.P | PageFaultError.W, Unmapped + 8, c => c.Store((uint)Unmapped + 8, Gpr.Rax)),
        Deprivileged("INT n: RIP behind it, and where it stands", SupervisedInterrupt),
        Deprivileged("a requested interrupt is an event between two instructions, once", SupervisedEvent),
        Deprivileged("kernel and user have translations of their own", TwoSpaces),
        Deprivileged("a dropped translation is found anew; the supervisor sees the guest's memory as the guest does", DroppedTranslation),
        Deprivileged("after RevokeWrites no old translation writes the page", RevokedWrites),
    ];

    private static ConformanceCheck Deprivileged(string name, Action<ConformanceMachine, IDeprivilegedVcpu, RecordingSupervisor> body) => Check(ConformanceArea.Deprivileged, name, m =>
    {
        if (m.Vcpu is not IDeprivilegedVcpu vcpu)
            return;
        var supervisor = new RecordingSupervisor();
        vcpu.Supervisor = supervisor;
        body(m, vcpu, supervisor);
    });

    private static void EnterKernel(ConformanceMachine m, Action<GuestCode> code)
    {
        EnterRing3(m, code);
        m.State->GuestKernel = 1;
        m.Vcpu.CommitState();
    }

    private static GuestCode StopGuest(this GuestCode code) => code.Mov(Gpr.Rax, RecordingSupervisor.Stop).Syscall();

    private static void SupervisedCall(ConformanceMachine m, IDeprivilegedVcpu vcpu, RecordingSupervisor supervisor)
    {
        EnterKernel(m, c => c.Mov(Gpr.Rax, 5).Mov(Gpr.Rdi, 7).Syscall().Mov(Gpr.Rbx, 1).StopGuest());
        supervisor.OnCall = state =>
        {
            var s = (VcpuState*)state;
            s->Gpr[(int)Gpr.Rdx] = s->Gpr[(int)Gpr.Rax] * 10 + s->Gpr[(int)Gpr.Rdi];
            return SupervisorEffect.None;
        };
        m.RunToHalt();
        Equal(2, supervisor.Calls.Count, "calls");
        Equal((ulong)CodeAddress + 22, supervisor.Calls[0].Rip, "RIP behind the first SYSCALL");
        Equal(57ul, m[Gpr.Rdx], "RDX, which the supervisor has set");
        Equal(1ul, m[Gpr.Rbx], "RBX, set behind the SYSCALL");
        Equal((byte)3, m.State->Cpl, "CPL");
    }

    private static void SupervisedJump(ConformanceMachine m, IDeprivilegedVcpu vcpu, RecordingSupervisor supervisor)
    {
        ulong target = 0;
        EnterKernel(m, c =>
        {
            c.Mov(Gpr.Rax, 5).Syscall().Ud2();
            target = c.Here;
            c.Mov(Gpr.Rbx, 2).StopGuest();
        });
        supervisor.OnCall = state =>
        {
            ((VcpuState*)state)->Rip = target;
            return SupervisorEffect.Rip;
        };
        m.RunToHalt();
        Equal(2ul, m[Gpr.Rbx], "RBX, set where the supervisor sent it");
    }

    private static ConformanceCheck SupervisedTrap(string name, int vector, uint? error, ulong cr2, Action<GuestCode> code) => Deprivileged("a trap of the kernel: " + name, (m, vcpu, supervisor) =>
    {
        EnterKernel(m, code);
        m.SetPage(Unmapped, Unmapped | PageBits.P | PageBits.US);
        m.RunToHalt();
        SupervisorCall call = supervisor.Calls.Single();
        Equal(vector, call.Trap.Vector, "vector");
        Equal(error is not null, call.Trap.HasErrorCode, "has an error code");
        // Whose access it was is the supervisor's to say.
        Equal(error ?? 0, call.Trap.ErrorCode & ~PageFaultError.U, "error code");
        Equal((ulong)CodeAddress, call.Rip, "RIP");
        Equal(cr2, call.Cr2, "CR2");
        True(!call.Trap.IsSoftware, "it is not a software interrupt");
    });

    private static void SupervisedInterrupt(ConformanceMachine m, IDeprivilegedVcpu vcpu, RecordingSupervisor supervisor)
    {
        EnterKernel(m, c => c.Nop().Int(0x80).StopGuest());
        supervisor.OnTrap = (_, trap) => trap.Vector == 0x80 ? SupervisorEffect.None : null;
        m.RunToHalt();
        SupervisorCall call = supervisor.Calls[0];
        Equal((byte)0x80, call.Trap.Vector, "vector");
        True(call.Trap.IsSoftware, "it is a software interrupt");
        Equal((ulong)CodeAddress + 3, call.Rip, "RIP behind it");
        Equal((ulong)CodeAddress + 1, call.Trap.InstructionRip, "RIP of the instruction");
        Equal("syscall", supervisor.Calls[1].Kind, "what came next");
    }

    private static void SupervisedEvent(ConformanceMachine m, IDeprivilegedVcpu vcpu, RecordingSupervisor supervisor)
    {
        ulong target = 0;
        EnterKernel(m, c =>
        {
            c.Label("l").Bytes(0x48, 0xFF, 0xC3).Jmp("l");
            target = c.Here;
            c.StopGuest();
        });
        m.State->Rflags |= Rflags.IF;
        m.Vcpu.CommitState();
        supervisor.OnEvent = state =>
        {
            ((VcpuState*)state)->Rip = target;
            return SupervisorEffect.Rip;
        };
        Request(m, VcpuRequests.Interrupt);
        m.RunToHalt();
        Equal("event, syscall", string.Join(", ", supervisor.Calls.Select(c => c.Kind)), "what the supervisor was told");
        Equal(0u, m.State->Requests & (uint)VcpuRequests.Interrupt, "the request afterwards");
    }

    /// <summary>One linear page, two frames: the kernel's tables show one, the user's another; the code is in both.</summary>
    private static void TwoSpaces(ConformanceMachine m, IDeprivilegedVcpu vcpu, RecordingSupervisor supervisor)
    {
        const uint userTop = 0x1A_0000, userPointers = userTop + 0x1000, userDirectory = userTop + 0x2000, userTable = userTop + 0x3000, kernelFrame = 0x18_0000, userFrame = 0x18_1000;
        EnterKernel(m, c => c.Load(Gpr.Rbx, (uint)Unmapped).Mov(Gpr.Rax, 1).Syscall().Load(Gpr.Rdx, (uint)Unmapped).Mov(Gpr.Rax, 2).Syscall().Load(Gpr.Rsi, (uint)Unmapped).StopGuest());
        for (ulong page = 0; page < 512; page++)
            m.Write64(userTable + page * 8, page << 12 | 7);
        m.Write64(userDirectory, userTable | 7);
        m.Write64(userPointers, userDirectory | 7);
        m.Write64(userTop, userPointers | 7);
        m.SetPage(Unmapped, kernelFrame | 7);
        m.Write64(userTable + (Unmapped >> 12) * 8, userFrame | 7);
        m.Write64(kernelFrame, 111);
        m.Write64(userFrame, 222);
        supervisor.OnCall = state =>
        {
            var s = (VcpuState*)state;
            bool kernel = s->Gpr[(int)Gpr.Rax] == 2;
            (s->GuestKernel, s->Cr3) = (kernel ? (byte)1 : (byte)0, kernel ? Pml4 : userTop);
            return SupervisorEffect.All;
        };
        m.Vcpu.CommitState();
        m.RunToHalt();
        Equal((111ul, 222ul, 111ul), (m[Gpr.Rbx], m[Gpr.Rdx], m[Gpr.Rsi]), "what kernel, user and kernel have read");
    }

    private static void DroppedTranslation(ConformanceMachine m, IDeprivilegedVcpu vcpu, RecordingSupervisor supervisor)
    {
        const uint before = 0x18_0000, after = 0x18_1000;
        EnterKernel(m, c => c.Load(Gpr.Rbx, (uint)Unmapped).Mov(Gpr.Rax, 1).Syscall().Load(Gpr.Rdx, (uint)Unmapped).StopGuest());
        m.SetPage(Unmapped, before | 7);
        m.Write64(before, 1);
        m.Write64(after, 2);
        ulong seen = 0;
        bool readOnly = false, absent = false;
        supervisor.OnCall = _ =>
        {
            m.SetPage(Unmapped, after | PageBits.P | PageBits.US);
            vcpu.FlushTranslation(Unmapped);
            byte* p = vcpu.GuestPointer(Unmapped, 8, write: false);
            seen = p == null ? 0 : *(ulong*)p;
            readOnly = vcpu.GuestPointer(Unmapped, 8, write: true) == null;
            absent = vcpu.GuestPointer(1ul << 40, 8, write: false) == null;
            byte* data = vcpu.GuestPointer(DataAddress, 8, write: true);
            if (data != null)
                *(ulong*)data = 3;
            return SupervisorEffect.None;
        };
        m.RunToHalt();
        Equal((1ul, 2ul), (m[Gpr.Rbx], m[Gpr.Rdx]), "what the guest has read before and after");
        Equal(2ul, seen, "what the supervisor has read");
        True(readOnly, "a read-only page is not writable for the supervisor");
        True(absent, "no memory where nothing is mapped");
        Equal(3ul, m.Read64(DataAddress), "what the supervisor has written");
    }

    private static void RevokedWrites(ConformanceMachine m, IDeprivilegedVcpu vcpu, RecordingSupervisor supervisor)
    {
        const uint frame = 0x18_0000;
        EnterKernel(m, c => c.StoreImm((uint)Unmapped, 1).Mov(Gpr.Rax, 1).Syscall().StoreImm((uint)Unmapped, 2).StopGuest());
        m.SetPage(Unmapped, frame | 7);
        supervisor.OnCall = _ =>
        {
            m.SetPage(Unmapped, frame | PageBits.P | PageBits.US);
            vcpu.RevokeWrites(frame);
            return SupervisorEffect.None;
        };
        m.RunToHalt();
        Equal("syscall, trap", string.Join(", ", supervisor.Calls.Select(c => c.Kind)), "what the supervisor was told");
        Equal((byte)Vector.PF, supervisor.Calls[1].Trap.Vector, "vector of the second write");
        Equal(1ul, m.Read64(frame) & 0xFFFF_FFFF, "the page");
    }
}
