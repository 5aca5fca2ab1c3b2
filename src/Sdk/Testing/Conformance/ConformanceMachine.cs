using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Memory;
using VirtPS.Sdk.Plugins;
using VirtPS.X86;

namespace VirtPS.Sdk.Testing.Conformance;

/// <summary>
/// A partition with 4 MiB of RAM at 0 and nothing else but the scripted host. <see cref="EnterLongMode"/> gives vCPU 0 a flat 64-bit ring 0 with 4 GiB mapped one to one, an IDT
/// whose handlers report to <see cref="ReportAddress"/> and halt, and a TSS with stacks.
/// </summary>
public sealed unsafe class ConformanceMachine : IDisposable
{
    public const ulong RamSize = 4 << 20;
    public const uint GdtAddress = 0x1000, IdtAddress = 0x2000, TssAddress = 0x3000, ReportAddress = 0x3800, StubAddress = 0x4000;
    public const uint Pml4 = 0x8000, Pdpt = 0x9000, PageDirectory = 0xA000, PageTable = 0xE000;

    /// <summary>Free for a check's code and data; stacks end at <see cref="StackTop"/>, <see cref="Ring0Stack"/> (from the TSS) and <see cref="UserStack"/>.</summary>
    public const uint CodeAddress = 0x10000, DataAddress = 0x20000, StackTop = 0x30000, Ring0Stack = 0x34000, UserStack = 0x38000;

    /// <summary>The first 2 MiB are mapped by 4 KiB pages of <see cref="PageTable"/>; here is no memory, so it is MMIO.</summary>
    public const uint MmioAddress = 0xD000_0000;
    public const ushort Code64 = 0x08, Data = 0x10, UserData = 0x1B, UserCode64 = 0x23, Code32 = 0x28, TssSelector = 0x30, NotPresent = 0x40;
    private static readonly TimeSpan s_limit = TimeSpan.FromSeconds(10);

    // With the partition's controllers a halted processor sleeps inside Run: so often it is asked.
    private static readonly TimeSpan s_glance = TimeSpan.FromMilliseconds(2);
    private readonly ICpuBackend _backend;
    private bool _kickAsked;

    /// <param name="strategy">What is tested.</param>
    /// <param name="partitionControllers">Take the partition's own interrupt controllers, which the backend must have.</param>
    public ConformanceMachine(IStrategy strategy, bool partitionControllers = false)
    {
        Strategy = strategy;
        var options = new Dictionary<string, string>();
        _backend = strategy.CreateBackend(options, NullLog.Instance);
        int vcpus = Math.Min(2, _backend.Capabilities.MaxVcpus);
        Partition = _backend.CreatePartition(new PartitionOptions
        {
            VcpuCount = vcpus,
            Cpuid = strategy.CreateCpuidPolicy(vcpus, options),
            TscFrequency = 1_000_000_000,
            UsePartitionInterruptController = partitionControllers,
            Log = NullLog.Instance,
        });
        Memory = new GuestMemory();
        Memory.Add(new MemorySlot("ram", 0, new HeapMemoryRegion(RamSize)));
        Memory.Attach(Partition);
        Vcpu = Partition.CreateVcpu(0, Host);
        StrategyConformance.True(!partitionControllers || Partition.InterruptController is not null, "the partition has no interrupt controllers of its own");
        Partition.InterruptController?.Reset();
    }

    public IStrategy Strategy { get; }

    public IPartition Partition { get; }

    public BackendCapabilities Capabilities => _backend.Capabilities;

    public GuestMemory Memory { get; }

    public ScriptedVcpuHost Host { get; } = new();

    public IVcpu Vcpu { get; }

    public VcpuState* State => Vcpu.State;

    public ulong this[Gpr register] => State->Gpr[(int)register];

    /// <summary>Writes guest memory, dropping code made from it.</summary>
    public void Write(ulong gpa, ReadOnlySpan<byte> bytes) => StrategyConformance.True(Memory.TryWrite(gpa, bytes), $"no memory at 0x{gpa:X}");

    public void Write64(ulong gpa, ulong value) => Write(gpa, BitConverter.GetBytes(value));

    public ulong Read64(ulong gpa)
    {
        StrategyConformance.True(Memory.TryRead(gpa, out ulong value), $"no memory at 0x{gpa:X}");
        return value;
    }

    /// <summary>Builds the tables and puts vCPU 0 into 64-bit ring 0 at <see cref="CodeAddress"/> with <paramref name="code"/> there.</summary>
    public void EnterLongMode(Action<GuestCode> code)
    {
        BuildTables();
        var c = new GuestCode(CodeAddress);
        code(c);
        Write(CodeAddress, c.ToArray());
        SetLongModeState(Vcpu);
    }

    /// <summary>The state that <see cref="EnterLongMode"/> gives, for any vCPU.</summary>
    public static void SetLongModeState(IVcpu vcpu)
    {
        VcpuState* s = vcpu.State;
        VcpuState.Reset(s, init: false, bootstrap: true);
        s->Cr0 = Cr0.PE | Cr0.MP | Cr0.ET | Cr0.NE | Cr0.WP | Cr0.PG;
        s->Cr3 = Pml4;
        s->Cr4 = Cr4.PAE | Cr4.OSFXSR | Cr4.OSXMMEXCPT;
        s->Efer = Efer.LME | Efer.LMA | Efer.NXE | Efer.SCE;
        s->CS = new SegmentRegister(Code64, 0, 0xFFFF_FFFF, 0xA09B);
        s->SS = s->DS = s->ES = s->FS = s->GS = new SegmentRegister(Data, 0, 0xFFFF_FFFF, 0xC093);
        s->TR = new SegmentRegister(TssSelector, TssAddress, 0x67, 0x8B);
        s->LDTR = new SegmentRegister(0, 0, 0, SegmentRegister.Unusable);
        s->Gdtr = new DescriptorTable(GdtAddress, 0x7F);
        s->Idtr = new DescriptorTable(IdtAddress, 0xFFF);
        s->Rip = CodeAddress;
        s->Gpr[(int)Gpr.Rsp] = StackTop;
        vcpu.CommitState();
    }

    /// <summary>Real mode at 0000:7C00 with <paramref name="code"/> there; SS:SP = 0000:7000.</summary>
    public void EnterRealMode(params byte[] code)
    {
        Write(0x7C00, code);
        VcpuState.Reset(State, init: false, bootstrap: true);
        State->CS = SegmentRegister.Real(0, code: true);
        State->Idtr = new DescriptorTable(0, 0x3FF);
        State->Rip = 0x7C00;
        State->Gpr[(int)Gpr.Rsp] = 0x7000;
        Vcpu.CommitState();
    }

    /// <summary>Asks vCPU 0 to leave guest code, from any thread: <see cref="Run()"/> returns Kicked.</summary>
    public void RequestExit()
    {
        Volatile.Write(ref _kickAsked, true);
        Kick(Vcpu);
    }

    /// <summary>Runs vCPU 0 until it returns with anything but a kick that nobody asked for; fails after 10 s.</summary>
    public VcpuExit Run() => Run(Vcpu);

    /// <summary>The same for any vCPU. One that sleeps halted inside Run, as those of a partition with its own controllers do, is seen by a glance at its state: Halt.</summary>
    public VcpuExit Run(IVcpu vcpu)
    {
        bool late = false;
        using var watchdog = new Timer(_ =>
        {
            Volatile.Write(ref late, true);
            Kick(vcpu);
        });
        watchdog.Change(s_limit, Timeout.InfiniteTimeSpan);
        VcpuExit exit = Partition.InterruptController is null ? vcpu.Run() : RunWithGlances(vcpu, ref late);
        vcpu.SynchronizeState();
        StrategyConformance.True(!Volatile.Read(ref late), $"still running after {s_limit.TotalSeconds} s, RIP 0x{vcpu.State->Rip:X}");
        return exit;
    }

    private VcpuExit RunWithGlances(IVcpu vcpu, ref bool late)
    {
        VcpuExit exit;
        bool asked;
        var glances = new Timer(_ => Kick(vcpu), null, s_glance, s_glance);
        do
        {
            exit = vcpu.Run();
            vcpu.SynchronizeState();
            asked = vcpu == Vcpu && Interlocked.Exchange(ref _kickAsked, false);
        }
        while (exit == VcpuExit.Kicked && !asked && !Volatile.Read(ref late) && vcpu.State->MpState == MpState.Runnable && (Volatile.Read(ref vcpu.State->Requests) & (uint)VcpuRequests.LocalApic) == 0);
        using (var ended = new ManualResetEvent(false))
        {
            if (glances.Dispose(ended))
                ended.WaitOne();
        }

        if (!Volatile.Read(ref _kickAsked))
            Interlocked.And(ref vcpu.State->Requests, ~(uint)VcpuRequests.Exit);
        return exit == VcpuExit.Kicked && !asked && vcpu.State->MpState == MpState.Halted ? VcpuExit.Halt : exit;
    }

    private static void Kick(IVcpu vcpu)
    {
        Interlocked.Or(ref vcpu.State->Requests, (uint)VcpuRequests.Exit);
        vcpu.Kick();
    }

    /// <summary>Runs to HLT.</summary>
    public void RunToHalt()
    {
        VcpuExit exit = Run();
        if (exit != VcpuExit.Halt)
            throw new ConformanceException($"expected Halt, got {exit} at RIP 0x{State->Rip:X}{(exit == VcpuExit.Failed ? ": " + Host.Failure : "")}");
    }

    /// <summary>Runs to the halt of an exception handler and gives its report.</summary>
    public ExceptionReport RunToException()
    {
        RunToHalt();
        ulong vector = Read64(ReportAddress);
        if (vector == ulong.MaxValue)
            throw new ConformanceException($"no exception was delivered; halted at RIP 0x{State->Rip:X}");
        return new ExceptionReport((int)vector, (uint)Read64(ReportAddress + 8), Read64(ReportAddress + 16), (ushort)Read64(ReportAddress + 24),
            Read64(ReportAddress + 32), Read64(ReportAddress + 40), (ushort)Read64(ReportAddress + 48), Read64(ReportAddress + 56));
    }

    /// <summary>Entry of the 4 KiB page that holds <paramref name="linear"/> (below 2 MiB).</summary>
    public static ulong EntryOf(ulong linear) => PageTable + (linear >> 12) * 8;

    public void SetPage(ulong linear, ulong entry) => Write64(EntryOf(linear), entry);

    /// <summary>A 64-bit gate of the IDT.</summary>
    public void SetGate(int vector, ulong target, int dpl = 0, int ist = 0, bool present = true, ushort selector = Code64)
    {
        ulong at = IdtAddress + (ulong)vector * 16;
        ulong low = (target & 0xFFFF) | (ulong)selector << 16 | (ulong)ist << 32 | 0xEul << 40 | (ulong)dpl << 45 | (present ? 1ul << 47 : 0)
            | (target & 0xFFFF_0000) << 32;
        Write64(at, low);
        Write64(at + 8, target >> 32);
    }

    public void Dispose()
    {
        Vcpu.Dispose();
        Partition.Dispose();
        _backend.Dispose();
        Memory.Dispose();
    }

    private void BuildTables()
    {
        ulong[] gdt =
        [
            0, 0x00AF_9B00_0000_FFFF, 0x00CF_9300_0000_FFFF, 0x00CF_F300_0000_FFFF, 0x00AF_FB00_0000_FFFF, 0x00CF_9B00_0000_FFFF,
            0x0000_8B00_0000_0067 | (ulong)TssAddress << 16, 0, 0x00CF_1300_0000_FFFF,
        ];
        for (int i = 0; i < gdt.Length; i++)
            Write64(GdtAddress + (ulong)i * 8, gdt[i]);
        Write64(Pml4, Pdpt | 7);
        for (ulong g = 0; g < 4; g++)
        {
            Write64(Pdpt + g * 8, (PageDirectory + g * 0x1000) | 7);
            for (ulong i = 0; i < 512; i++)
                Write64(PageDirectory + g * 0x1000 + i * 8, g << 30 | i << 21 | 0x87);
        }

        Write64(PageDirectory, PageTable | 7);
        for (ulong page = 0; page < 512; page++)
            Write64(PageTable + page * 8, page << 12 | 7);
        Write64(TssAddress + 4, Ring0Stack);
        // IST1.
        Write64(TssAddress + 36, Ring0Stack + 0x2000);
        Write64(TssAddress + 0x60, 0x68ul << 48);
        Write64(ReportAddress, ulong.MaxValue);
        BuildHandlers();
    }

    /// <summary>Stubs that make every vector's frame look the same, then one handler that copies it out and halts.</summary>
    private void BuildHandlers()
    {
        var c = new GuestCode(StubAddress);
        var stubs = new ulong[256];
        for (int v = 0; v < 256; v++)
        {
            stubs[v] = c.Here;
            if (!HasErrorCode(v))
                c.Bytes(0x6A, 0);
            c.Bytes(0x68).Imm32((uint)v).Jmp("report");
        }

        c.Label("report").Push(Gpr.Rax);
        // [rsp+8] vector, +16 error, +24 RIP, +32 CS, +40 RFLAGS, +48 RSP, +56 SS.
        for (byte i = 0; i < 7; i++)
            c.Bytes(0x48, 0x8B, 0x44, 0x24, (byte)(8 + 8 * i)).Store(ReportAddress + 8u * i, Gpr.Rax);
        c.FromCr(Gpr.Rax, 2).Store(ReportAddress + 56, Gpr.Rax).Pop(Gpr.Rax).Hlt();
        Write(StubAddress, c.ToArray());
        for (int v = 0; v < 256; v++)
            SetGate(v, stubs[v]);
    }

    private static bool HasErrorCode(int vector) => vector is 8 or >= 10 and <= 14 or 17 or 21;
}

/// <summary>What an exception handler found on its stack, and CR2.</summary>
public readonly record struct ExceptionReport(int Vector, uint Error, ulong Rip, ushort Cs, ulong Rflags, ulong Rsp, ushort Ss, ulong Cr2);
