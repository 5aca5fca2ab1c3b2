using VirtPS.Sdk.Cpu;
using VirtPS.X86;
using static VirtPS.Sdk.Testing.Conformance.ConformanceMachine;

namespace VirtPS.Sdk.Testing.Conformance;

// Rings 0 and 3: what ring 3 may not do, and the ways between them.
public static unsafe partial class StrategyConformance
{
    private static IEnumerable<ConformanceCheck> PrivilegeChecks() =>
    [
        Ring3Fault("CLI", Vector.GP, 0, c => c.Cli()),
        Ring3Fault("HLT", Vector.GP, 0, c => c.Hlt()),
        Ring3Fault("MOV to CR0", Vector.GP, 0, c => c.ToCr(0, Gpr.Rax)),
        Ring3Fault("RDMSR", Vector.GP, 0, c => c.Rdmsr()),
        Ring3Fault("OUT without permission", Vector.GP, 0, c => c.Bytes(0xE6, 0x80)),
        Ring3Fault("INT n through a gate of ring 0", Vector.GP, 0x80 * 8 + 2, c => c.Int(0x80)),
        Ring3Fault("supervisor page", Vector.PF, PageFaultError.P | PageFaultError.U, c => c.Load(Gpr.Rax, (uint)Unmapped)),
        Check(ConformanceArea.Privilege, "ring 3 to ring 0 by a gate: stack from the TSS, return by IRETQ", GateToRing0),
        Check(ConformanceArea.Privilege, "SYSCALL and SYSRET", SyscallAndBack),
        Check(ConformanceArea.Privilege, "the I/O permission bitmap lets a port through", IoBitmap),
        Check(ConformanceArea.Privilege, "SWAPGS", Swapgs),
        Check(ConformanceArea.Privilege, "SMEP: ring 0 does not run a user page", Smep) with { Feature = new(7, "SMEP") },
        Check(ConformanceArea.Privilege, "SMAP: ring 0 reads a user page only with AC", Smap) with { Feature = new(20, "SMAP") },
    ];

    private static ConformanceCheck Ring3Fault(string name, int vector, uint error, Action<GuestCode> code) => Check(ConformanceArea.Privilege, "ring 3: " + name, m =>
    {
        EnterRing3(m, code);
        m.SetPage(Unmapped, Unmapped | PageBits.P | PageBits.RW);
        ExceptionReport r = m.RunToException();
        Equal(vector, r.Vector, "vector");
        Equal(error, r.Error, "error code");
        Equal((ulong)CodeAddress, r.Rip, "RIP");
        Equal(UserCode64, r.Cs, "CS in the frame");
        Equal(UserData, r.Ss, "SS in the frame");
        Equal((byte)0, m.State->Cpl, "CPL in the handler");
        True(m[Gpr.Rsp] <= Ring0Stack && m[Gpr.Rsp] > Ring0Stack - 0x100, $"the handler's RSP 0x{m[Gpr.Rsp]:X} is not on the TSS's stack");
    });

    private static void EnterRing3(ConformanceMachine m, Action<GuestCode> code)
    {
        m.EnterLongMode(code);
        m.State->CS = new SegmentRegister(UserCode64, 0, 0xFFFF_FFFF, 0xA0FB);
        m.State->SS = new SegmentRegister(UserData, 0, 0xFFFF_FFFF, 0xC0F3);
        m.State->Cpl = 3;
        m.State->Gpr[(int)Gpr.Rsp] = UserStack;
        m.Vcpu.CommitState();
    }

    private static void PlaceHandler(ConformanceMachine m, int vector, Action<GuestCode> code, int dpl = 0)
    {
        var h = new GuestCode(CodeAddress + 0x1000 + (ulong)vector * 0x40);
        code(h);
        m.Write(h.Origin, h.ToArray());
        m.SetGate(vector, h.Origin, dpl);
    }

    private static void GateToRing0(ConformanceMachine m)
    {
        EnterRing3(m, c => c.Int(0x80).Mov(Gpr.Rbx, 5).Ud2());
        // mov eax, cs
        PlaceHandler(m, 0x80, h => h.Bytes(0x8C, 0xC8).Store(DataAddress, Gpr.Rsp).Iretq(), dpl: 3);
        ExceptionReport r = m.RunToException();
        Equal(Vector.UD, r.Vector, "vector that ended the user code");
        Equal((ulong)Code64, m[Gpr.Rax], "CS in the handler");
        Equal(5ul, m[Gpr.Rbx], "RBX set after the return");
        Equal(Ring0Stack - 40ul, m.Read64(DataAddress), "the handler's RSP: five quadwords below the TSS's");
        Equal((ulong)UserStack, r.Rsp, "user RSP");
        Equal(UserCode64, r.Cs, "CS after the return");
    }

    private static void SyscallAndBack(ConformanceMachine m)
    {
        EnterRing3(m, c => c.Mov(Gpr.Rax, 39).Syscall().Mov(Gpr.Rbx, 6).Ud2());
        var h = new GuestCode(CodeAddress + 0x1000);
        h.Store(DataAddress, Gpr.Rcx).Store(DataAddress + 8, Gpr.R11).Bytes(0x8C, 0xCA).Store(DataAddress + 16, Gpr.Rdx).Sysretq();
        m.Write(h.Origin, h.ToArray());
        m.State->Lstar = h.Origin;
        m.State->Star = (ulong)Code64 << 32 | (ulong)(UserData - 8) << 48;
        m.State->Sfmask = Rflags.IF | Rflags.DF;
        m.State->Rflags = Rflags.Fixed1 | Rflags.IF | Rflags.DF | Rflags.CF;
        m.Vcpu.CommitState();
        ExceptionReport r = m.RunToException();
        Equal(Vector.UD, r.Vector, "vector that ended the user code");
        Equal((ulong)CodeAddress + 12, m.Read64(DataAddress), "RCX: the address behind SYSCALL");
        Equal(Rflags.Fixed1 | Rflags.IF | Rflags.DF | Rflags.CF, m.Read64(DataAddress + 8), "R11: the flags");
        Equal((ulong)Code64, m.Read64(DataAddress + 16) & 0xFFFF, "CS in the system call");
        Equal(6ul, m[Gpr.Rbx], "RBX set after the return");
        Equal(UserCode64, r.Cs, "CS after SYSRET");
        Equal(Rflags.IF | Rflags.DF, r.Rflags & (Rflags.IF | Rflags.DF), "IF and DF after SYSRET");
    }

    private static void IoBitmap(ConformanceMachine m)
    {
        EnterRing3(m, c => c.Bytes(0xB0, 0x42, 0xE6, 0x80, 0xE6, 0x81));
        // Map at 0x68: port 0x80 free, 0x81 not.
        m.State->TR.Limit = 0x68 + 0x20;
        for (uint i = 0; i < 4; i++)
            m.Write64(TssAddress + 0x68 + 8 * i, i == 2 ? ~1ul : ulong.MaxValue);
        m.Write64(TssAddress + 0x88, ulong.MaxValue);
        m.Vcpu.CommitState();
        ExceptionReport r = m.RunToException();
        Equal(Vector.GP, r.Vector, "vector");
        Equal((ulong)CodeAddress + 4, r.Rip, "RIP of the refused OUT");
        Equal(new HostAccess("out", 0x80, 1, 0x42), m.Host.Accesses.Single(), "the access that went through");
    }

    private static void Swapgs(ConformanceMachine m)
    {
        m.EnterLongMode(c => c.Bytes(0x0F, 0x01, 0xF8).Hlt());
        m.State->GS.Base = 0x1000;
        m.State->KernelGsBase = 0xFFFF_8000_0000_0000;
        m.Vcpu.CommitState();
        m.RunToHalt();
        Equal(0xFFFF_8000_0000_0000ul, m.State->GS.Base, "GS base");
        Equal(0x1000ul, m.State->KernelGsBase, "KERNEL_GS_BASE");
    }

    private static void Smep(ConformanceMachine m)
    {
        m.EnterLongMode(c => c.Mov(Gpr.Rax, DataAddress).Bytes(0xFF, 0xE0));
        SupervisorPages(m);
        m.State->Cr4 |= Cr4.SMEP;
        m.Vcpu.CommitState();
        ExceptionReport r = m.RunToException();
        Equal(Vector.PF, r.Vector, "vector");
        Equal(PageFaultError.P | PageFaultError.I, r.Error, "error code");
        Equal((ulong)DataAddress, r.Cr2, "CR2");
    }

    private static void Smap(ConformanceMachine m)
    {
        // stac; mov rbx, [data]; clac; mov rcx, [data]
        m.EnterLongMode(c => c.Bytes(0x0F, 0x01, 0xCB).Load(Gpr.Rbx, DataAddress).Bytes(0x0F, 0x01, 0xCA).Load(Gpr.Rcx, DataAddress));
        SupervisorPages(m);
        m.Write64(DataAddress, 99);
        m.State->Cr4 |= Cr4.SMAP;
        m.Vcpu.CommitState();
        ExceptionReport r = m.RunToException();
        Equal(Vector.PF, r.Vector, "vector");
        Equal(PageFaultError.P, r.Error, "error code");
        Equal(99ul, m[Gpr.Rbx], "what was read with AC set");
        Equal((ulong)CodeAddress + 14, r.Rip, "RIP of the refused read");
    }

    /// <summary>All pages of the first 2 MiB become supervisor pages, except the one at <see cref="DataAddress"/>.</summary>
    private static void SupervisorPages(ConformanceMachine m)
    {
        for (ulong page = 0; page < 512; page++)
            m.SetPage(page << 12, page << 12 | 3 | (page << 12 == DataAddress ? PageBits.US : 0));
    }
}
