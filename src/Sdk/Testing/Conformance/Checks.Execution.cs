using System.Diagnostics;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Memory;
using VirtPS.Sdk.Rings;
using VirtPS.X86;
using static VirtPS.Sdk.Testing.Conformance.ConformanceMachine;

namespace VirtPS.Sdk.Testing.Conformance;

// Running and stopping, several processors, memory that changes under the guest, processor identity, ring events.
public static unsafe partial class StrategyConformance
{
    private static IEnumerable<ConformanceCheck> ExecutionChecks() =>
    [
        Check(ConformanceArea.Execution, "a kick ends a spinning guest's Run within 100 ms", KickLatency),
        Check(ConformanceArea.Execution, "a kick before Run is not lost", KickBeforeRun),
        Check(ConformanceArea.Execution, "paused between instructions and gone on, a loop loses nothing", PauseLosesNothing),
        Check(ConformanceArea.Execution, "LocalApic requests return Kicked and stay set", LocalApicRequest),
        Check(ConformanceArea.Smp, "a processor waits for SIPI and starts at the vector", StartUp),
        Check(ConformanceArea.Smp, "locked increments of two processors lose nothing", LockedIncrements),
    ];

    private static Timer KickAfter(ConformanceMachine m, int milliseconds, Action? before = null) => new(
        _ =>
        {
            before?.Invoke();
            m.RequestExit();
        },
        null, milliseconds, Timeout.Infinite);

    private static void KickLatency(ConformanceMachine m)
    {
        m.EnterLongMode(c => c.Spin());
        long kicked = 0;
        using Timer timer = KickAfter(m, 50, () => kicked = Stopwatch.GetTimestamp());
        Equal(VcpuExit.Kicked, m.Run(), "exit");
        TimeSpan latency = Stopwatch.GetElapsedTime(Volatile.Read(ref kicked));
        True(latency < TimeSpan.FromMilliseconds(100), $"the kick took {latency.TotalMilliseconds:F1} ms");
        Equal((ulong)CodeAddress, m.State->Rip, "RIP");
        Equal(0u, m.State->Requests & (uint)VcpuRequests.Exit, "Exit request after Run");
    }

    private static void KickBeforeRun(ConformanceMachine m)
    {
        m.EnterLongMode(c => c.Spin());
        m.RequestExit();
        Equal(VcpuExit.Kicked, m.Run(), "exit");
    }

    private static void PauseLosesNothing(ConformanceMachine m)
    {
        const ulong rounds = 2_000_000;
        // mov rcx, rounds; l: inc rax; add rbx, 3; dec rcx; jnz l
        m.EnterLongMode(c => c.Mov(Gpr.Rcx, rounds).Label("l").Bytes(0x48, 0xFF, 0xC0, 0x48, 0x83, 0xC3, 3, 0x48, 0xFF, 0xC9).Jcc(5, "l").Hlt());
        VcpuExit exit;
        do
        {
            using Timer timer = KickAfter(m, 1);
            exit = m.Run();
            if (exit == VcpuExit.Kicked)
                m.Vcpu.CommitState();
        }
        while (exit == VcpuExit.Kicked);
        Equal(VcpuExit.Halt, exit, "exit");
        Equal(rounds, m[Gpr.Rax], "RAX");
        Equal(rounds * 3, m[Gpr.Rbx], "RBX");
    }

    private static void LocalApicRequest(ConformanceMachine m)
    {
        m.EnterLongMode(c => c.Spin());
        Request(m, VcpuRequests.LocalApic);
        Equal(VcpuExit.Kicked, m.Run(), "exit");
        Equal((uint)VcpuRequests.LocalApic, m.State->Requests & (uint)VcpuRequests.LocalApic, "the request");
        Withdraw(m, VcpuRequests.LocalApic);
    }

    private static void StartUp(ConformanceMachine m)
    {
        if (m.Capabilities.MaxVcpus < 2)
            return;
        m.EnterLongMode(c => c.Hlt());
        using IVcpu second = m.Partition.CreateVcpu(1, new ScriptedVcpuHost());
        VcpuState.Reset(second.State, init: true, bootstrap: false);
        second.CommitState();
        Equal(MpState.WaitForSipi, second.State->MpState, "MP state after INIT");
        Equal(VcpuExit.Kicked, m.Run(second), "exit while waiting");
        Equal(0xFFF0ul, second.State->Rip, "RIP while waiting");
        // mov ax, cs; hlt
        m.Write(0x5F000, [0x8C, 0xC8, 0xF4]);
        second.State->CS = new SegmentRegister(0x5F00, 0x5F000, 0xFFFF, 0x9B);
        second.State->Rip = 0;
        second.State->MpState = MpState.Runnable;
        second.CommitState();
        Equal(VcpuExit.Halt, m.Run(second), "exit");
        Equal(0x5F00ul, second.State->Gpr[0] & 0xFFFF, "CS of the started processor");
    }

    private static void LockedIncrements(ConformanceMachine m)
    {
        if (m.Capabilities.MaxVcpus < 2)
            return;
        const ulong rounds = 200_000;
        // l: lock inc qword [data]; dec rcx; jnz l
        m.EnterLongMode(c => c.Mov(Gpr.Rcx, rounds).Label("l").Bytes(0xF0, 0x48, 0xFF, 0x04, 0x25).Imm32(DataAddress).Bytes(0x48, 0xFF, 0xC9).Jcc(5, "l").Hlt());
        using IVcpu second = m.Partition.CreateVcpu(1, new ScriptedVcpuHost());
        VcpuExit other = default;
        ConformanceException? failure = null;
        var thread = new Thread(() =>
        {
            SetLongModeState(second);
            second.State->Gpr[(int)Gpr.Rsp] = StackTop - 0x1000;
            second.CommitState();
            try
            {
                other = m.Run(second);
            }
            catch (ConformanceException e)
            {
                failure = e;
            }
        });
        thread.Start();
        VcpuExit exit = m.Run();
        thread.Join();
        True(failure is null, $"the second processor: {failure?.Message}");
        Equal(VcpuExit.Halt, exit, "exit of the first");
        Equal(VcpuExit.Halt, other, "exit of the second");
        Equal(2 * rounds, m.Read64(DataAddress), "the counter");
    }

    private static IEnumerable<ConformanceCheck> MemoryChecks() =>
    [
        Check(ConformanceArea.Memory, "code that changes its next instruction", SelfModifying),
        Check(ConformanceArea.Memory, "code changed through another mapping of the page", AliasedCodeChange),
        Check(ConformanceArea.Memory, "code changed by the host", HostChangesCode),
        Check(ConformanceArea.Memory, "a slot taken away becomes MMIO, one added is memory", SlotsComeAndGo),
        Check(ConformanceArea.DirtyLog, "exactly the written pages are dirty, once per harvest", DirtyPages),
        Check(ConformanceArea.DirtyLog, "two consumers do not disturb each other", TwoDirtyConsumers),
    ];

    private static void SelfModifying(ConformanceMachine m)
    {
        // A loop whose body's immediate is raised by one each round: mov eax, imm32 at "body".
        m.EnterLongMode(c => c.Mov(Gpr.Rcx, 5).Label("l").Label("body").Bytes(0xB8).Imm32(1).Bytes(0x48, 0x01, 0xC3)
            .Bytes(0xFF, 0x04, 0x25).Imm32((uint)c.AddressOf("body") + 1).Bytes(0x48, 0xFF, 0xC9).Jcc(5, "l").Hlt());
        m.RunToHalt();
        Equal(15ul, m[Gpr.Rbx], "1 + 2 + 3 + 4 + 5");
    }

    private static void AliasedCodeChange(ConformanceMachine m)
    {
        m.EnterLongMode(c => c.Mov(Gpr.Rcx, 2).Label("l").Label("body").Bytes(0xB8).Imm32(1).Bytes(0x48, 0x01, 0xC3)
            .Bytes(0xC6, 0x04, 0x25).Imm32((uint)(Unmapped + c.AddressOf("body") - CodeAddress + 1)).Bytes(10)
            .Bytes(0x48, 0xFF, 0xC9).Jcc(5, "l").Hlt());
        m.SetPage(Unmapped, CodeAddress | 3);
        m.RunToHalt();
        Equal(11ul, m[Gpr.Rbx], "1 + 10");
    }

    private static void HostChangesCode(ConformanceMachine m)
    {
        m.EnterLongMode(c => c.Bytes(0xB8).Imm32(1).Hlt());
        m.RunToHalt();
        Equal(1ul, m[Gpr.Rax], "RAX before");
        m.Write(CodeAddress + 1, [2]);
        m.State->Rip = CodeAddress;
        m.State->MpState = MpState.Runnable;
        m.Vcpu.CommitState();
        m.RunToHalt();
        Equal(2ul, m[Gpr.Rax], "RAX after");
    }

    private static void SlotsComeAndGo(ConformanceMachine m)
    {
        const uint at = 0x80_0000;
        var slot = new MemorySlot("extra", at, new HeapMemoryRegion(0x1000));
        m.Memory.Add(slot);
        m.EnterLongMode(c => c.StoreImm(at, 5).Load(Gpr.Rbx, at).Hlt().StoreImm(at, 6).Hlt());
        m.RunToHalt();
        Equal(5ul, m[Gpr.Rbx], "what was read from the slot");
        m.Memory.Remove(slot);
        m.State->MpState = MpState.Runnable;
        m.Vcpu.CommitState();
        m.RunToHalt();
        slot.Dispose();
        Accesses(m, new HostAccess("write", at, 4, 6));
    }

    private static int[] HarvestPages(ConformanceMachine m, DirtyTracker tracker)
    {
        MemorySlot slot = m.Memory.Slots[0];
        var bitmap = new ulong[(int)(slot.PageCount + 63) / 64];
        tracker.Harvest(slot, bitmap);
        return [.. Enumerable.Range(0, (int)slot.PageCount).Where(p => (bitmap[p / 64] >> (p % 64) & 1) != 0)];
    }

    private static void DirtyPages(ConformanceMachine m)
    {
        using DirtyTracker tracker = m.Memory.CreateDirtyTracker("test");
        m.EnterLongMode(c => c.StoreImm(0x10_0000, 1).StoreImm(0x18_0FFE, 2).Hlt().StoreImm(0x10_0000, 1).Hlt());
        // Accessed and dirty bits set before, so that the page tables are not written.
        for (ulong page = 0; page < 512; page++)
            m.SetPage(page << 12, page << 12 | 0x67);
        for (ulong i = 0; i < 4; i++)
            m.Write64(Pdpt + i * 8, (PageDirectory + i * 0x1000) | 0x67);
        m.Write64(PageDirectory, PageTable | 0x67);
        m.Write64(Pml4, Pdpt | 0x67);
        HarvestPages(m, tracker);
        m.RunToHalt();
        Dirty(m, tracker, "dirty pages", 256, 384, 385);
        Equal("", string.Join(", ", HarvestPages(m, tracker)), "dirty pages of a second harvest");
        m.State->MpState = MpState.Runnable;
        m.Vcpu.CommitState();
        m.RunToHalt();
        Dirty(m, tracker, "dirty pages after writing one again", 256);
    }

    /// <summary>Software backends mark exactly what was written; hardware may mark page tables and code besides.</summary>
    private static void Dirty(ConformanceMachine m, DirtyTracker tracker, string what, params int[] written)
    {
        int[] pages = HarvestPages(m, tracker);
        if (m.Capabilities.Execution == ExecutionKind.NonRoot)
            pages = [.. pages.Where(p => p < (CodeAddress >> 12) ? written.Contains(p) : p != CodeAddress >> 12)];
        Equal(string.Join(", ", written), string.Join(", ", pages), what);
    }

    private static void TwoDirtyConsumers(ConformanceMachine m)
    {
        using DirtyTracker one = m.Memory.CreateDirtyTracker("one"), two = m.Memory.CreateDirtyTracker("two");
        m.EnterLongMode(c => c.StoreImm(0x10_0000, 1).Hlt());
        HarvestPages(m, one);
        HarvestPages(m, two);
        m.RunToHalt();
        True(HarvestPages(m, one).Contains(256), "the first consumer missed the page");
        True(HarvestPages(m, two).Contains(256), "the second consumer missed the page after the first had harvested");
    }

    private static IEnumerable<ConformanceCheck> ProcessorChecks() =>
    [
        Check(ConformanceArea.Processor, "CPUID answers as the policy says", CpuidAnswers),
        Check(ConformanceArea.Processor, "RDTSC is the machine's plus the offset; IA32_TSC moves the offset", TimeStampCounter),
        Check(ConformanceArea.Processor, "MSRs that the backend does not keep go to the machine", MachineMsr, ConformanceControllers.Machine),
        Check(ConformanceArea.Processor, "an MSR that nobody knows is #GP(0)", UnknownMsr),
        Check(ConformanceArea.Processor, "a hypercall reaches the machine; refused it is #UD", Hypercalls),
    ];

    private static void CpuidAnswers(ConformanceMachine m)
    {
        m.EnterLongMode(c => c.Mov(Gpr.Rax, 0x80000000).Mov(Gpr.Rcx, 0).Bytes(0x0F, 0xA2).Hlt());
        m.RunToHalt();
        CpuidResult expected = m.Partition.Options.Cpuid.Query(0x80000000, 0);
        Equal(expected, new CpuidResult((uint)m[Gpr.Rax], (uint)m[Gpr.Rbx], (uint)m[Gpr.Rcx], (uint)m[Gpr.Rdx]), "leaf 80000000h");
    }

    private static void TimeStampCounter(ConformanceMachine m)
    {
        // rdtsc; shl rdx, 32; or rax, rdx; mov rbx, rax; then write 0 and read again
        m.EnterLongMode(c => c.Bytes(0x0F, 0x31, 0x48, 0xC1, 0xE2, 32, 0x48, 0x09, 0xC2, 0x48, 0x89, 0xD3)
            .Wrmsr(Msr.Tsc, 0).Bytes(0x0F, 0x31, 0x48, 0xC1, 0xE2, 32, 0x48, 0x09, 0xC2).Hlt());
        m.Host.Tsc = 0x5_0000_0000;
        m.State->TscOffset = 0x1_0000_0000;
        m.Vcpu.CommitState();
        m.RunToHalt();
        True(m[Gpr.Rbx] - 0x6_0000_0000 < 1_000_000_000, $"RDTSC gave 0x{m[Gpr.Rbx]:X}, not the machine's plus the offset");
        True(m[Gpr.Rdx] < 1_000_000_000, $"RDTSC after IA32_TSC = 0 gave 0x{m[Gpr.Rdx]:X}");
    }

    private static void MachineMsr(ConformanceMachine m)
    {
        m.EnterLongMode(c => c.Wrmsr(Msr.TscDeadline, 0x1234_5678_9ABC).Mov(Gpr.Rcx, Msr.TscDeadline).Rdmsr().Hlt());
        m.Host.Msrs[Msr.TscDeadline] = 0;
        m.RunToHalt();
        Equal(0x1234_5678_9ABCul, m.Host.Msrs[Msr.TscDeadline], "the machine's value");
        Equal(0x5678_9ABCul, m[Gpr.Rax], "EAX");
        Equal(0x1234ul, m[Gpr.Rdx], "EDX");
    }

    private static void UnknownMsr(ConformanceMachine m)
    {
        m.EnterLongMode(c => c.Mov(Gpr.Rcx, 0x4000_1234).Rdmsr().Hlt());
        ExceptionReport r = m.RunToException();
        Equal(Vector.GP, r.Vector, "vector");
        Equal(0u, r.Error, "error code");
        Equal((ulong)CodeAddress + 10, r.Rip, "RIP");
    }

    private static void Hypercalls(ConformanceMachine m)
    {
        // vmmcall twice
        m.EnterLongMode(c => c.Mov(Gpr.Rax, 42).Bytes(0x0F, 0x01, 0xD9).Mov(Gpr.Rcx, 1).Bytes(0x0F, 0x01, 0xD9).Hlt());
        int calls = 0;
        m.Host.OnHypercall = state =>
        {
            ((VcpuState*)state)->Gpr[(int)Gpr.Rbx] = 43;
            return calls++ == 0;
        };
        ExceptionReport r = m.RunToException();
        Equal(43ul, m[Gpr.Rbx], "RBX set by the machine");
        Equal(Vector.UD, r.Vector, "vector of the refused call");
        Equal((ulong)CodeAddress + 23, r.Rip, "RIP of the refused call");
    }

    private static IEnumerable<ConformanceCheck> RingChecks() =>
    [
        Check(ConformanceArea.Rings, "exact backends record each transition with its cause", RingEvents),
        Check(ConformanceArea.Rings, "counters count transitions and instructions by ring", RingTotals),
    ];

    private static void SystemCallGuest(ConformanceMachine m)
    {
        EnterRing3(m, c => c.Mov(Gpr.Rax, 39).Syscall().Ud2());
        var h = new GuestCode(CodeAddress + 0x1000);
        h.Sysretq();
        m.Write(h.Origin, h.ToArray());
        m.State->Lstar = h.Origin;
        m.State->Star = (ulong)Code64 << 32 | (ulong)(UserData - 8) << 48;
        m.Vcpu.CommitState();
    }

    private static void RingEvents(ConformanceMachine m)
    {
        if (m.Capabilities.RingFidelity != RingFidelity.Exact)
            return;
        SystemCallGuest(m);
        using var buffer = new RingEventBuffer(16, includeSameRing: false);
        m.Vcpu.Trace = buffer;
        m.RunToException();
        m.Vcpu.Trace = null;
        var events = new RingEvent[16];
        int n = buffer.Read(events);
        string told = string.Join("; ", events.Take(n).Select(e => $"{e.Cause} {e.FromRing}->{e.ToRing} 0x{e.FromRip:X}->0x{e.ToRip:X} v{e.Vector}"));
        Equal($"Syscall 3->0 0x{CodeAddress + 10:X}->0x{CodeAddress + 0x1000:X} v0; Sysret 0->3 0x{CodeAddress + 0x1000:X}->0x{CodeAddress + 12:X} v0; " +
            $"Exception 3->0 0x{CodeAddress + 12:X}->0x{StubOf(m, Vector.UD):X} v6", told, "events");
        Equal(39ul, events[0].Detail, "detail of the system call: RAX");
    }

    private static void RingTotals(ConformanceMachine m)
    {
        if (m.Capabilities.RingFidelity != RingFidelity.Exact)
            return;
        SystemCallGuest(m);
        m.RunToException();
        RingCounters* c = m.Vcpu.Counters;
        Equal(1ul, c->Transitions[(int)RingCause.Syscall], "system calls");
        Equal(1ul, c->Transitions[(int)RingCause.Sysret], "returns");
        Equal(1ul, c->Transitions[(int)RingCause.Exception], "exceptions");
        if (!m.Capabilities.CountsInstructions)
            return;
        Equal(2ul, c->Instructions[3], "instructions retired in ring 3");
        True(c->Nanoseconds[0] + c->Nanoseconds[3] > 0, "no time was charged to any ring");
    }
}
