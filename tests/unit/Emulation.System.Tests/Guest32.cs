using Iced.Intel;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Testing.Conformance;
using VirtPS.X86;
using static Iced.Intel.AssemblerRegisters;
using Gpr = VirtPS.X86.Gpr;

namespace VirtPS.Emulation.SystemTests;

/// <summary>What a handler of <see cref="Guest32"/> found on its stack.</summary>
internal readonly record struct Report32(int Vector, uint Error, uint Eip, uint Cs, uint Eflags, uint Esp, uint Ss, uint Es, uint Ds, uint Fs, uint Gs);

/// <summary>
/// Protected mode without paging: flat code and data segments of all four rings, task-state segments, an IDT whose handlers report their frame and halt.
/// </summary>
internal sealed unsafe class Guest32 : IDisposable
{
    public const uint Gdt = 0x1000, Idt = 0x2000, Report = 0x2F00, Stubs = 0x3000, Tss = 0x6000, Tss2 = 0x6100, Tss16 = 0x6200, Ldt = 0x6300;
    public const uint CodeBase = 0x10000, DataBase = 0x20000;

    /// <summary>Selectors with their ring as RPL.</summary>
    public static ushort Code(int ring) => (ushort)(0x08 + 0x10 * ring | ring);

    public static ushort Data(int ring) => (ushort)(0x10 + 0x10 * ring | ring);

    public const ushort TssSelector = 0x48, Tss2Selector = 0x50, Tss16Selector = 0x58, LdtSelector = 0x60, GateSelector = 0x68, Conforming = 0x80, Code16 = 0x88, Data16 = 0x90,
        NotPresentData = 0x98, ReadOnlyData = 0xA0, ExecuteOnly = 0xA8;

    public Guest32()
    {
        Machine = new ConformanceMachine(new TestEngine());
        for (int ring = 0; ring < 4; ring++)
        {
            SetDescriptor(Code(ring), 0x00CF_9B00_0000_FFFF | (ulong)ring << 45);
            SetDescriptor(Data(ring), 0x00CF_9300_0000_FFFF | (ulong)ring << 45);
        }

        SetDescriptor(TssSelector, TssDescriptor(Tss, 0x67, 0x8B));
        SetDescriptor(Tss2Selector, TssDescriptor(Tss2, 0x67, 0x89));
        SetDescriptor(Tss16Selector, TssDescriptor(Tss16, 0x2B, 0x81));
        SetDescriptor(LdtSelector, TssDescriptor(Ldt, 0x3F, 0x82));
        SetDescriptor(Conforming, 0x00CF_9F00_0000_FFFF);
        SetDescriptor(Code16, 0x0000_9B00_0000_FFFF);
        SetDescriptor(Data16, 0x0000_9300_0000_FFFF);
        SetDescriptor(NotPresentData, 0x00CF_1300_0000_FFFF);
        SetDescriptor(ReadOnlyData, 0x00CF_9100_0000_FFFF);
        SetDescriptor(ExecuteOnly, 0x00CF_9900_0000_FFFF);
        for (int ring = 0; ring < 3; ring++)
        {
            Write32(Tss + 4 + 8 * (uint)ring, StackTop(ring));
            Write32(Tss + 8 + 8 * (uint)ring, Data(ring));
        }

        Write32(Tss + 0x64, 0x68u << 16);
        BuildHandlers();
        Write32(Report, uint.MaxValue);
    }

    public ConformanceMachine Machine { get; }

    public VcpuState* S => Machine.State;

    public static uint StackTop(int ring) => 0x30000 + 0x1000 * (uint)ring + 0x1000;

    public static ulong TssDescriptor(uint at, uint limit, uint access) => (limit & 0xFFFF) | (ulong)(at & 0xFF_FFFF) << 16 | (ulong)access << 40 | (ulong)(at >> 24) << 56;

    /// <summary>A call, interrupt, trap or task gate.</summary>
    public static ulong Gate(uint type, ushort selector, uint offset, int dpl, int parameters = 0, bool present = true) =>
        (offset & 0xFFFF) | (ulong)selector << 16 | (ulong)parameters << 32 | (ulong)type << 40 | (ulong)dpl << 45 | (present ? 1ul << 47 : 0) | (ulong)(offset >> 16) << 48;

    public void SetDescriptor(ushort selector, ulong descriptor) => Machine.Write64(Gdt + (selector & 0xFFF8u), descriptor);

    public ulong Descriptor(ushort selector) => Machine.Read64(Gdt + (selector & 0xFFF8u));

    public void SetGate(int vector, ulong gate) => Machine.Write64(Idt + 8 * (uint)vector, gate);

    public void Write32(uint at, uint value) => Machine.Write(at, BitConverter.GetBytes(value));

    public void Write16(uint at, ushort value) => Machine.Write(at, BitConverter.GetBytes(value));

    public uint Read32(uint at) => (uint)Machine.Read64(at);

    public uint this[Gpr r] => (uint)S->Gpr[(int)r];

    /// <summary>Assembles at an address; returns it.</summary>
    public uint Place(uint at, Action<Assembler> code, int bitness = 32)
    {
        var a = new Assembler(bitness);
        code(a);
        using var stream = new MemoryStream();
        a.Assemble(new StreamCodeWriter(stream), at);
        Machine.Write(at, stream.ToArray());
        return at;
    }

    /// <summary>Places code at <see cref="CodeBase"/> and puts the processor in front of it, in the ring's segments and stack.</summary>
    public void Start(int ring, Action<Assembler> code)
    {
        Place(CodeBase, code);
        VcpuState.Reset(S, init: false, bootstrap: true);
        S->Cr0 = Cr0.PE | Cr0.ET | Cr0.NE;
        S->Gdtr = new DescriptorTable(Gdt, 0xFF);
        S->Idtr = new DescriptorTable(Idt, 0x7FF);
        S->TR = new SegmentRegister(TssSelector, Tss, 0x67, 0x8B);
        S->LDTR = new SegmentRegister(LdtSelector, Ldt, 0x3F, 0x82);
        S->CS = SegmentRegister.FromDescriptor(Code(ring), Descriptor(Code(ring)));
        S->SS = S->DS = S->ES = S->FS = S->GS = SegmentRegister.FromDescriptor(Data(ring), Descriptor(Data(ring)));
        S->Cpl = (byte)ring;
        S->Rip = CodeBase;
        S->Gpr[(int)Gpr.Rsp] = StackTop(ring);
        Machine.Vcpu.CommitState();
    }

    /// <summary>After a change of the state by the test.</summary>
    public void Commit() => Machine.Vcpu.CommitState();

    /// <summary>Runs to HLT. A write of the TSC has the machine look at it: the translator returns for that at once, the interpreter behind the block.</summary>
    public void RunToHalt()
    {
        VcpuExit exit;
        do
            exit = Machine.Run();
        while (exit == VcpuExit.Kicked);
        Assert.True(exit == VcpuExit.Halt, $"{exit} at EIP 0x{S->Rip:X}");
    }

    /// <summary>Runs to the halt of a reporting handler.</summary>
    public Report32 RunToReport()
    {
        RunToHalt();
        return ReadReport();
    }

    private Report32 ReadReport()
    {
        uint[] f = [.. Enumerable.Range(0, 11).Select(i => Read32(Report + 4 * (uint)i))];
        Assert.True(f[0] != uint.MaxValue, $"no handler ran; halted at {S->CS.Selector:X4}:{S->Rip:X}");
        return new Report32((int)f[0], f[1], f[2], f[3], f[4], f[5], f[6], f[7], f[8], f[9], f[10]);
    }

    /// <summary>The report of a handler that has run.</summary>
    public Report32 LastReport() => ReadReport();

    public void Dispose() => Machine.Dispose();

    private void BuildHandlers()
    {
        uint common = Place(Stubs + 0x1800, a =>
        {
            a.push(eax);
            for (int i = 0; i < 11; i++)
            {
                a.mov(eax, __dword_ptr.ss[esp + 4 + 4 * i]);
                a.mov(__dword_ptr.ss[(int)Report + 4 * i], eax);
            }

            a.pop(eax);
            a.hlt();
        });
        for (int v = 0; v < 256; v++)
        {
            int vector = v;
            uint at = Place(Stubs + 16 * (uint)v, a =>
            {
                if (!(vector is 8 or >= 10 and <= 14 or 17))
                    a.push(0);
                a.push(vector);
                a.jmp(common);
            });
            SetGate(v, Gate(SystemType.InterruptGate, Code(0), at, 0));
        }
    }
}
