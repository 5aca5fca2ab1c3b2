using System.Runtime.CompilerServices;
using VirtPS.Sdk;

namespace VirtPS.Emulation.Tests;

/// <summary>A small partition with RAM at 0, page tables in its upper part, and vCPUs that start where a test wants them.</summary>
internal sealed unsafe class TestGuest : IDisposable
{
    public const ulong RamSize = 16 << 20, Tables = 8 << 20, Code = 0x10000, Stack = 0x80000, Data = 0x100000;

    /// <summary>What executes: the environment variable VIRTPS_TEST_ENGINE chooses; the suite is run with each. VIRTPS_TEST_STORE is a folder for translations: the second run with it is warm.</summary>
    private static EngineOptions Chosen => Environment.GetEnvironmentVariable("VIRTPS_TEST_ENGINE") switch
    {
        "translator" or "translator-v2" => Translator with { StoreFolder = Environment.GetEnvironmentVariable("VIRTPS_TEST_STORE") },
        _ => new EngineOptions(),
    };

    /// <summary>The translator, in the variant that the variable chooses if it does.</summary>
    public static EngineOptions Translator =>
        Environment.GetEnvironmentVariable("VIRTPS_TEST_ENGINE") == "translator-v2" ? V2 : new EngineOptions { Translate = true, HotAfter = 0 };

    /// <summary>The translator as on a host of level x86-64-v2, without BMI and AVX; each translation is looked at for what such a host lacks.</summary>
    public static EngineOptions V2 => new()
    {
        Translate = true,
        HotAfter = 0,
        Host = Thunks.HostFeatures.Current.LimitedTo(CpuLevel.V2),
        AfterTranslation = VirtPS.Opcodes.HostLevelCheck.Check,
    };

    public readonly SoftPartition Partition;
    public readonly GuestMemory Memory = new();
    public readonly MemorySlot Ram;
    public readonly List<SoftVcpu> Vcpus = [];
    public readonly List<TestHost> Hosts = [];
    private readonly bool _keeps;
    private ulong _nextTable = Tables;

    public TestGuest(int vcpus = 1, EngineOptions? engine = null)
    {
        // What a test chooses itself is not the suite's.
        _keeps = engine is null;
        Partition = (SoftPartition)new SoftBackend(engine ?? Chosen).CreatePartition(new PartitionOptions
        {
            VcpuCount = vcpus,
            Cpuid = new CpuidPolicy([]),
            TscFrequency = 1_000_000_000,
            Log = NullLog.Instance,
        });
        Ram = new MemorySlot("ram", 0, new HeapMemoryRegion(RamSize));
        Memory.Add(Ram);
        Memory.Attach(Partition);
        for (int i = 0; i < vcpus; i++)
        {
            var host = new TestHost();
            Hosts.Add(host);
            Vcpus.Add((SoftVcpu)Partition.CreateVcpu(i, host));
        }
    }

    public SoftVcpu Cpu => Vcpus[0];

    public VcpuState* S => Cpu.State;

    public TestHost Host => Hosts[0];

    public ulong this[Gpr r]
    {
        get => S->Gpr[(int)r];
        set => S->Gpr[(int)r] = value;
    }

    public T Read<T>(ulong gpa) where T : unmanaged => Unsafe.ReadUnaligned<T>(Ram.Address + gpa);

    public void Write<T>(ulong gpa, T value) where T : unmanaged => Unsafe.WriteUnaligned(Ram.Address + gpa, value);

    public ulong AllocateTable()
    {
        ulong t = _nextTable;
        _nextTable += 0x1000;
        return t;
    }

    /// <summary>Assembles code for a bitness; returns the address behind it.</summary>
    public ulong Assemble(int bitness, ulong at, Action<Assembler> code, ulong? rip = null)
    {
        var a = new Assembler(bitness);
        code(a);
        var stream = new MemoryStream();
        a.Assemble(new StreamCodeWriter(stream), rip ?? at);
        byte[] bytes = stream.ToArray();
        bytes.CopyTo(new Span<byte>(Ram.Address + at, bytes.Length));
        Partition.InvalidateCode(Ram, at, (ulong)bytes.Length);
        return at + (ulong)bytes.Length;
    }

    /// <summary>64-bit mode, ring 0, the first 16 MiB mapped one to one with 2 MiB pages, everything accessible to both rings.</summary>
    public void LongMode(int vcpu = 0, int ring = 0)
    {
        VcpuState* s = Vcpus[vcpu].State;
        ulong pml4 = AllocateTable(), pdpt = AllocateTable(), pd = AllocateTable();
        Write(pml4, pdpt | 7);
        Write(pdpt, pd | 7);
        for (ulong i = 0; i < RamSize >> 21; i++)
            Write(pd + i * 8, i << 21 | 0x87);
        s->Cr3 = pml4;
        s->Cr4 = Cr4.PAE | Cr4.PGE | Cr4.OSFXSR;
        s->Efer = Efer.LME | Efer.LMA | Efer.NXE;
        s->Cr0 = Cr0.PE | Cr0.PG | Cr0.WP | Cr0.NE | Cr0.ET;
        SetSegments(s, ring, SegmentRegister.L | SegmentRegister.G);
        s->Rip = Code;
        s->Gpr[(int)Gpr.Rsp] = Stack;
        s->MpState = MpState.Runnable;
        s->Cpl = (byte)ring;
        Vcpus[vcpu].CommitState();
    }

    /// <summary>In long mode: takes away the 2 MiB page at a linear address.</summary>
    public void UnmapLarge(ulong linear)
    {
        ulong pd = Read<ulong>(Read<ulong>(S->Cr3) & PageBits.AddressMask) & PageBits.AddressMask;
        Write(pd + (linear >> 21) * 8, 0ul);
        Cpu.CommitState();
    }

    /// <summary>Flat 32-bit protected mode without paging.</summary>
    public void Protected32(int ring = 0)
    {
        VcpuState* s = S;
        s->Cr0 = Cr0.PE | Cr0.ET;
        SetSegments(s, ring, SegmentRegister.DB | SegmentRegister.G);
        s->Rip = Code;
        s->Gpr[(int)Gpr.Rsp] = Stack;
        s->Cpl = (byte)ring;
        Cpu.CommitState();
    }

    /// <summary>Real mode at 0000:<see cref="Code"/> truncated.</summary>
    public void RealMode(ushort ip = 0x1000)
    {
        VcpuState* s = S;
        s->CS = SegmentRegister.Real(0, code: true);
        s->Rip = ip;
        s->Gpr[(int)Gpr.Rsp] = 0x8000;
        Cpu.CommitState();
    }

    private static void SetSegments(VcpuState* s, int ring, uint codeFlags)
    {
        uint dpl = (uint)ring << 5;
        s->CS = new SegmentRegister((ushort)(8 | ring), 0, 0xFFFF_FFFF, 0x9B | dpl | codeFlags);
        for (SegmentName n = SegmentName.ES; n <= SegmentName.GS; n++)
        {
            if (n != SegmentName.CS)
                *VcpuState.Segment(s, n) = new SegmentRegister((ushort)(16 | ring), 0, 0xFFFF_FFFF, 0x93 | dpl | SegmentRegister.DB | SegmentRegister.G);
        }
    }

    /// <summary>Runs until HLT. Anything else fails the test.</summary>
    public void RunToHalt(int vcpu = 0)
    {
        VcpuExit exit = Vcpus[vcpu].Run();
        Assert.True(exit == VcpuExit.Halt, $"{exit} at RIP 0x{Vcpus[vcpu].State->Rip:X}, CR2 0x{Vcpus[vcpu].State->Cr2:X}, fault {Vcpus[vcpu].PendingFault.Vector}");
        Vcpus[vcpu].State->MpState = MpState.Runnable;
    }

    /// <summary>Assembles at the usual place, runs in 32-bit code to the HLT that is added.</summary>
    public void Run32(Action<Assembler> code)
    {
        Assemble(32, Code, a =>
        {
            code(a);
            a.hlt();
        });
        S->Rip = Code;
        RunToHalt();
    }

    /// <summary>Assembles at the usual place, runs in 64-bit mode to the HLT that is added.</summary>
    public void Run64(Action<Assembler> code)
    {
        Assemble(64, Code, a =>
        {
            code(a);
            a.hlt();
        });
        S->Rip = Code;
        RunToHalt();
    }

    public const ulong Handlers = 0x4000;
    private const ulong Gdt = 0x7000, Idt = 0x6000, Tss = 0x5000;

    /// <summary>GDT, TSS and an IDT whose handler for vector n is at Handlers + n.</summary>
    public void WriteFaultTables(int bitness)
    {
        Write(Gdt + 8, bitness == 64 ? 0x00AF_9B00_0000_FFFFul : 0x00CF_9B00_0000_FFFFul);
        Write(Gdt + 16, 0x00CF_9300_0000_FFFFul);
        S->Gdtr = new DescriptorTable(Gdt, 0x7F);
        S->TR = new SegmentRegister(0x40, Tss, 0x67, SegmentRegister.P | SystemType.TssBusy);
        Write(Tss + 4, (uint)Stack);
        Write(Tss + 8, bitness == 64 ? 0u : 16u);
        for (uint v = 0; v < 32; v++)
        {
            ulong target = Handlers + v;
            ulong low = target & 0xFFFF | 8 << 16 | 0x8E00ul << 32;
            Write(Idt + v * (bitness == 64 ? 16u : 8u), low);
            if (bitness == 64)
                Write(Idt + v * 16 + 8, 0ul);
        }

        S->Idtr = new DescriptorTable(Idt, 0x1FF);
        new Span<byte>(Ram.Address + Handlers, 32).Fill(0xF4);
    }

    /// <summary>Executes one instruction and returns the vector of the fault it met, or -1. Afterwards the vCPU is in the handler.</summary>
    public int FaultOf(Action<Assembler> code, int bitness = 64)
    {
        Assemble(bitness, Code, code);
        WriteFaultTables(bitness);
        int ring = S->Cpl;
        SegmentRegister cs = S->CS, ss = S->SS;
        S->Rip = Code;
        Cpu.CommitState();
        Assert.Equal(VcpuExit.SingleStep, Cpu.SingleStep());
        if (S->Rip - Handlers >= 32)
            return -1;
        int vector = (int)(S->Rip - Handlers);
        S->Cpl = (byte)ring;
        (S->CS, S->SS) = (cs, ss);
        S->Gpr[(int)Gpr.Rsp] = Stack;
        Cpu.CommitState();
        return vector;
    }

    public void Dispose()
    {
        if (_keeps)
            Partition.Finish();
        Partition.Dispose();
        Memory.Dispose();
    }
}

/// <summary>The machine around a test's vCPU: ports and MMIO are logged, reads answer what the test says.</summary>
internal sealed unsafe class TestHost : IVcpuHost
{
    public readonly List<string> Log = [];
    public ulong NextRead { get; set; }
    public Action? OnPort { get; set; }

    public void ReadPort(ushort port, int size, byte* data, int count)
    {
        Log.Add($"in {port:x} {size}x{count}");
        for (int i = 0; i < size * count; i++)
            data[i] = (byte)(NextRead + (ulong)i);
        OnPort?.Invoke();
    }

    public void WritePort(ushort port, int size, byte* data, int count)
    {
        ulong v = 0;
        for (int i = 0; i < Math.Min(8, size * count); i++)
            v |= (ulong)data[i] << (8 * i);
        Log.Add($"out {port:x} {size}x{count} {v:x}");
        OnPort?.Invoke();
    }

    public ulong ReadMmio(ulong gpa, int size)
    {
        Log.Add($"read {gpa:x} {size}");
        return NextRead;
    }

    public void WriteMmio(ulong gpa, int size, ulong value) => Log.Add($"write {gpa:x} {size} {value:x}");

    public bool ReadMsr(uint msr, out ulong value)
    {
        value = 0;
        return false;
    }

    public bool WriteMsr(uint msr, ulong value) => false;

    public ulong ReadCr8() => 0;

    public void WriteCr8(ulong value)
    {
    }

    public ulong ReadMachineTsc() => 0;

    public void FillRandom(Span<byte> destination) => Random.Shared.NextBytes(destination);

    public bool Hypercall(VcpuState* state) => false;

    public void ReportFailure(string reason) => Log.Add(reason);
}
