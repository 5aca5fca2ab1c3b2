using VirtPS.Sdk.Cpu;
using VirtPS.X86;
using static VirtPS.Sdk.Testing.Conformance.ConformanceMachine;

namespace VirtPS.Sdk.Testing.Conformance;

// Exceptions with their error codes, CR2 and return addresses; paging; privilege.
public static unsafe partial class StrategyConformance
{
    private const ulong Unmapped = 0x1F_0000;

    private static IEnumerable<ConformanceCheck> ExceptionChecks() =>
    [
        Fault("#DE: division by zero", Vector.DE, 0, 5, c => c.Bytes(0xB9, 0, 0, 0, 0, 0xF7, 0xF1)),
        Fault("#UD: UD2", Vector.UD, 0, 0, c => c.Ud2()),
        Fault("#GP(0): non-canonical address", Vector.GP, 0, 10, c => c.Mov(Gpr.Rbx, 0x8000_0000_0000_0000).Bytes(0x48, 0x8B, 0x03)),
        Fault("#SS(0): non-canonical stack", Vector.SS, 0, 10, c => c.Mov(Gpr.Rbp, 0x8000_0000_0000_0000).Bytes(0x48, 0x8B, 0x45, 0x00)),
        Fault("#GP(selector): segment load beyond the GDT", Vector.GP, 0x1F8, 5, c => c.Bytes(0xB8, 0xF8, 1, 0, 0, 0x8E, 0xD8)),
        Fault("#NP(selector): segment not present", Vector.NP, NotPresent, 5, c => c.Bytes(0xB8, (byte)NotPresent, 0, 0, 0, 0x8E, 0xD8)),
        Fault("#GP(0): reserved bit of CR4", Vector.GP, 0, 10, c => c.Mov(Gpr.Rax, 1ul << 31).ToCr(4, Gpr.Rax)),
        Fault("#GP(0): paging off in long mode", Vector.GP, 0, 10, c => c.Mov(Gpr.Rax, 1).ToCr(0, Gpr.Rax)),
        Fault("#GP(0): non-canonical LSTAR", Vector.GP, 0, 30, c => c.Wrmsr(Msr.Lstar, 0x8000_0000_0000_0000)),
        Fault("#GP: INT through a gate that is not there", Vector.NP, 0x50 * 8 + 2, 0, c => c.Int(0x50), m => m.SetGate(0x50, StubAddress, present: false)),
        Check(ConformanceArea.Exceptions, "#BP: a trap, RIP is behind INT3", BreakpointTrap),
        Check(ConformanceArea.Exceptions, "INT n pushes no error code and comes back by IRETQ", SoftwareInterruptReturns),
        Check(ConformanceArea.Exceptions, "#DF(0) when #GP cannot be delivered", DoubleFault),
        Check(ConformanceArea.Exceptions, "triple fault: Shutdown", TripleFault),
        Check(ConformanceArea.Exceptions, "interrupt stack table", InterruptStackTable),
        Check(ConformanceArea.Exceptions, "the frame's RSP is the old one, the stack is aligned to 16", FrameAlignment),
    ];

    /// <summary>Code that faults at <paramref name="at"/> bytes from its start.</summary>
    private static ConformanceCheck Fault(string name, int vector, uint error, ulong at, Action<GuestCode> code, Action<ConformanceMachine>? prepare = null) =>
        Check(ConformanceArea.Exceptions, name, m =>
        {
            m.EnterLongMode(c =>
            {
                code(c);
                c.Hlt();
            });
            prepare?.Invoke(m);
            ExceptionReport r = m.RunToException();
            Equal(vector, r.Vector, "vector");
            Equal(error, r.Error, "error code");
            Equal(CodeAddress + at, r.Rip, "RIP of the faulting instruction");
            Equal((ulong)StackTop, r.Rsp, "RSP in the frame");
            Equal(Code64, r.Cs, "CS in the frame");
        });

    private static void BreakpointTrap(ConformanceMachine m)
    {
        m.EnterLongMode(c => c.Bytes(0xCC).Hlt());
        ExceptionReport r = m.RunToException();
        Equal(Vector.BP, r.Vector, "vector");
        Equal((ulong)CodeAddress + 1, r.Rip, "RIP behind INT3");
    }

    private static void SoftwareInterruptReturns(ConformanceMachine m)
    {
        m.EnterLongMode(c => c.Int(0x55).Mov(Gpr.Rbx, 2).Hlt());
        var handler = new GuestCode(CodeAddress + 0x1000);
        handler.Mov(Gpr.Rcx, 3).Iretq();
        m.Write(handler.Origin, handler.ToArray());
        m.SetGate(0x55, handler.Origin);
        m.RunToHalt();
        Equal(2ul, m[Gpr.Rbx], "RBX set after the return");
        Equal(3ul, m[Gpr.Rcx], "RCX set by the handler");
        Equal((ulong)StackTop, m[Gpr.Rsp], "RSP after the return");
    }

    private static void DoubleFault(ConformanceMachine m)
    {
        m.EnterLongMode(c => c.Mov(Gpr.Rbx, 0x8000_0000_0000_0000).Bytes(0x48, 0x8B, 0x03).Hlt());
        m.SetGate(Vector.GP, StubAddress, present: false);
        ExceptionReport r = m.RunToException();
        Equal(Vector.DF, r.Vector, "vector");
        Equal(0u, r.Error, "error code");
    }

    private static void TripleFault(ConformanceMachine m)
    {
        m.EnterLongMode(c => c.Ud2());
        m.State->Idtr = new DescriptorTable(IdtAddress, 0);
        m.Vcpu.CommitState();
        Equal(VcpuExit.Shutdown, m.Run(), "exit");
        Equal(MpState.Shutdown, m.State->MpState, "MP state");
        Equal((ulong)CodeAddress, m.State->Rip, "RIP");
    }

    private static void InterruptStackTable(ConformanceMachine m)
    {
        m.EnterLongMode(c => c.Ud2());
        m.SetGate(Vector.UD, StubOf(m, Vector.UD), ist: 1);
        ExceptionReport r = m.RunToException();
        Equal((ulong)StackTop, r.Rsp, "RSP in the frame");
        True(m[Gpr.Rsp] > Ring0Stack && m[Gpr.Rsp] < Ring0Stack + 0x2000, $"the handler's RSP 0x{m[Gpr.Rsp]:X} is not on the IST1 stack");
    }

    private static void FrameAlignment(ConformanceMachine m)
    {
        m.EnterLongMode(c => c.Ud2());
        m.State->Gpr[(int)Gpr.Rsp] = StackTop - 3;
        m.Vcpu.CommitState();
        ExceptionReport r = m.RunToException();
        Equal((ulong)StackTop - 3, r.Rsp, "RSP in the frame");
        // Five quadwords of frame from an aligned top, then error code and vector by the stub.
        Equal((StackTop - 16ul - 56) & ~7ul, m[Gpr.Rsp], "the handler's RSP");
    }

    private static ulong StubOf(ConformanceMachine m, int vector)
    {
        ulong low = m.Read64(IdtAddress + (ulong)vector * 16);
        return (low & 0xFFFF) | (low >> 32 & 0xFFFF_0000);
    }

    private static IEnumerable<ConformanceCheck> PagingChecks() =>
    [
        PageFault("read of a page that is not there", 0, Unmapped, 0, c => c.Load(Gpr.Rax, (uint)Unmapped + 8)),
        PageFault("write to a page that is not there", 0, Unmapped, PageFaultError.W, c => c.Store((uint)Unmapped + 8, Gpr.Rax)),
        PageFault("write to a read-only page with CR0.WP", PageBits.P | PageBits.US, Unmapped, PageFaultError.P | PageFaultError.W, c => c.Store((uint)Unmapped + 8, Gpr.Rax)),
        PageFault("reserved bit in an entry", PageBits.P | PageBits.RW | (1ul << 51), Unmapped, PageFaultError.P | PageFaultError.Rsvd, c => c.Load(Gpr.Rax, (uint)Unmapped + 8)),
        Check(ConformanceArea.Paging, "fetch from a no-execute page", NoExecute),
        Check(ConformanceArea.Paging, "write without CR0.WP goes through a read-only page", WriteProtectOff),
        Check(ConformanceArea.Paging, "accessed and dirty bits", AccessedAndDirty),
        Check(ConformanceArea.Paging, "INVLPG makes a changed entry seen", Invlpg),
        Check(ConformanceArea.Paging, "a CR3 load makes changed entries seen, but not global ones", Cr3Load),
        Check(ConformanceArea.Paging, "an access over a page end faults with the second page's address and stores nothing", CrossPageFault),
        Check(ConformanceArea.Paging, "TryTranslate", TryTranslate),
    ];

    private static ConformanceCheck PageFault(string name, ulong entry, ulong page, uint error, Action<GuestCode> code) => Check(ConformanceArea.Paging, "#PF: " + name, m =>
    {
        m.EnterLongMode(c =>
        {
            code(c);
            c.Hlt();
        });
        m.SetPage(page, entry == 0 ? 0 : entry | page);
        ExceptionReport r = m.RunToException();
        Equal(Vector.PF, r.Vector, "vector");
        Equal(error, r.Error, "error code");
        Equal(page + 8, r.Cr2, "CR2");
        Equal((ulong)CodeAddress, r.Rip, "RIP");
    });

    private static void NoExecute(ConformanceMachine m)
    {
        m.EnterLongMode(c => c.Mov(Gpr.Rax, DataAddress).Bytes(0xFF, 0xE0));
        m.SetPage(DataAddress, DataAddress | PageBits.P | PageBits.RW | PageBits.NX);
        ExceptionReport r = m.RunToException();
        Equal(Vector.PF, r.Vector, "vector");
        Equal(PageFaultError.P | PageFaultError.I, r.Error, "error code");
        Equal((ulong)DataAddress, r.Cr2, "CR2");
        Equal((ulong)DataAddress, r.Rip, "RIP");
    }

    private static void WriteProtectOff(ConformanceMachine m)
    {
        m.EnterLongMode(c => c.Mov(Gpr.Rax, 77).Store((uint)Unmapped, Gpr.Rax).Hlt());
        m.SetPage(Unmapped, Unmapped | PageBits.P);
        m.State->Cr0 &= ~Cr0.WP;
        m.Vcpu.CommitState();
        m.RunToHalt();
        Equal(77ul, m.Read64(Unmapped), "memory");
    }

    private static void AccessedAndDirty(ConformanceMachine m)
    {
        m.EnterLongMode(c => c.Load(Gpr.Rax, (uint)Unmapped).Store((uint)Unmapped + 0x1000, Gpr.Rax).Hlt());
        m.RunToHalt();
        const ulong ad = PageBits.A | PageBits.D;
        Equal(PageBits.A, m.Read64(EntryOf(Unmapped)) & ad, "A and D of the page read");
        Equal(ad, m.Read64(EntryOf(Unmapped + 0x1000)) & ad, "A and D of the page written");
        Equal(0ul, m.Read64(EntryOf(Unmapped + 0x2000)) & ad, "A and D of the page not touched");
    }

    private static void Invlpg(ConformanceMachine m)
    {
        m.EnterLongMode(c => c.Load(Gpr.Rbx, (uint)Unmapped)
            .Mov(Gpr.Rax, DataAddress | 3).Store((uint)EntryOf(Unmapped), Gpr.Rax)
            .Bytes(0x0F, 0x01, 0x3C, 0x25).Imm32((uint)Unmapped)
            .Load(Gpr.Rcx, (uint)Unmapped).Hlt());
        m.Write64(Unmapped, 1);
        m.Write64(DataAddress, 2);
        m.RunToHalt();
        Equal(1ul, m[Gpr.Rbx], "before");
        Equal(2ul, m[Gpr.Rcx], "after INVLPG");
    }

    private static void Cr3Load(ConformanceMachine m)
    {
        const ulong global = Unmapped + 0x1000;
        m.EnterLongMode(c => c.Load(Gpr.Rbx, (uint)Unmapped).Load(Gpr.Rdx, (uint)global)
            .Mov(Gpr.Rax, DataAddress | 3).Store((uint)EntryOf(Unmapped), Gpr.Rax)
            .FromCr(Gpr.Rax, 3).ToCr(3, Gpr.Rax)
            .Load(Gpr.Rcx, (uint)Unmapped).Hlt());
        m.SetPage(global, global | PageBits.P | PageBits.RW | PageBits.G);
        m.State->Cr4 |= Cr4.PGE;
        m.Vcpu.CommitState();
        m.Write64(Unmapped, 1);
        m.Write64(DataAddress, 2);
        m.RunToHalt();
        Equal(1ul, m[Gpr.Rbx], "before");
        Equal(2ul, m[Gpr.Rcx], "after the CR3 load");
    }

    private static void CrossPageFault(ConformanceMachine m)
    {
        m.EnterLongMode(c => c.Mov(Gpr.Rax, ulong.MaxValue).Store((uint)Unmapped - 4, Gpr.Rax).Hlt());
        m.SetPage(Unmapped, 0);
        ExceptionReport r = m.RunToException();
        Equal(Vector.PF, r.Vector, "vector");
        Equal(PageFaultError.W, r.Error, "error code");
        Equal(Unmapped, r.Cr2, "CR2");
        Equal(0ul, m.Read64(Unmapped - 8), "memory before the boundary");
    }

    private static void TryTranslate(ConformanceMachine m)
    {
        m.EnterLongMode(c => c.Hlt());
        m.SetPage(Unmapped, DataAddress | PageBits.P);
        m.SetPage(Unmapped + 0x1000, 0);
        True(m.Vcpu.TryTranslate(Unmapped + 0x123, out ulong gpa), "a mapped page was not translated");
        Equal((ulong)DataAddress + 0x123, gpa, "guest-physical address");
        True(!m.Vcpu.TryTranslate(Unmapped + 0x1000, out _), "an unmapped page was translated");
        Equal(0ul, m.Read64(EntryOf(Unmapped)) & PageBits.A, "accessed bit after a translation without side effects");
    }
}
