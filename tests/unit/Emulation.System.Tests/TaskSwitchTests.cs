using VirtPS.X86;
using static Iced.Intel.AssemblerRegisters;
using static VirtPS.Emulation.SystemTests.Guest32;
using Gpr = VirtPS.X86.Gpr;

namespace VirtPS.Emulation.SystemTests;

/// <summary>Hardware task switches.</summary>
public unsafe class TaskSwitchTests
{
    private const uint Other = CodeBase + 0x2000;

    /// <summary>Fills the second TSS: ring 0, entry at <see cref="Other"/>, EBX = 0xB0B.</summary>
    private static void FillTss2(Guest32 g, uint eflags = 2)
    {
        g.Write32(Tss2 + 0x20, Other);
        g.Write32(Tss2 + 0x24, eflags);
        g.Write32(Tss2 + 0x28 + 4 * 3, 0xB0B);
        g.Write32(Tss2 + 0x28 + 4 * 4, StackTop(0) - 0x400);
        for (uint i = 0; i < 6; i++)
            g.Write32(Tss2 + 0x48 + 4 * i, i == 1 ? Code(0) : Data(0));
        g.Write32(Tss2 + 0x64, 0x68u << 16);
    }

    private static byte Access(Guest32 g, ushort selector) => (byte)(g.Descriptor(selector) >> 40);

    [Fact]
    public void JMP_to_a_TSS_saves_and_loads_everything()
    {
        using var g = new Guest32();
        FillTss2(g);
        g.Place(Other, a => a.hlt());
        g.Start(0, a =>
        {
            a.mov(eax, 0xAAAA);
            a.mov(edi, 0xD1D1);
            a.jmp(Tss2Selector, 0);
        });
        g.RunToHalt();
        Assert.Equal((Other + 1ul, 0xB0Bu, StackTop(0) - 0x400), (g.S->Rip, g[Gpr.Rbx], g[Gpr.Rsp]));
        Assert.Equal(Tss2Selector, g.S->TR.Selector);
        Assert.Equal((0x89, 0x8B), (Access(g, TssSelector), Access(g, Tss2Selector)));
        Assert.Equal((0xAAAAu, 0xD1D1u, CodeBase + 17), (g.Read32(Tss + 0x28), g.Read32(Tss + 0x28 + 28), g.Read32(Tss + 0x20)));
        Assert.NotEqual(0ul, g.S->Cr0 & Cr0.TS);
        Assert.Equal(0ul, g.S->Rflags & Rflags.NT);
    }

    [Fact]
    public void CALL_links_and_IRET_goes_back()
    {
        using var g = new Guest32();
        FillTss2(g);
        g.Place(Other, a =>
        {
            a.pushfd();
            a.pop(ecx);
            a.mov(__dword_ptr.ds[(int)DataBase], ecx);
            a.iretd();
        });
        g.Start(0, a =>
        {
            a.mov(ebx, 5);
            a.call(Tss2Selector, 0);
            a.hlt();
        });
        g.RunToHalt();
        Assert.Equal((CodeBase + 13ul, 5u, StackTop(0)), (g.S->Rip, g[Gpr.Rbx], g[Gpr.Rsp]));
        Assert.Equal((uint)TssSelector, g.Read32(Tss2) & 0xFFFF);
        Assert.NotEqual(0ul, g.Read32(DataBase) & Rflags.NT);
        Assert.Equal((0x8B, 0x89), (Access(g, TssSelector), Access(g, Tss2Selector)));
        Assert.Equal(0ul, g.S->Rflags & Rflags.NT);
        // Where the other task goes on when it is called again: behind its IRET.
        Assert.Equal(g.S->Rip > 0, g.Read32(Tss2 + 0x20) > Other);
    }

    [Fact]
    public void An_exception_through_a_task_gate_pushes_its_error_code_in_the_new_task()
    {
        using var g = new Guest32();
        FillTss2(g);
        g.SetGate(Vector.GP, Gate(SystemType.TaskGate, Tss2Selector, 0, dpl: 0));
        g.Place(Other, a =>
        {
            a.pop(edx);
            a.hlt();
        });
        g.Start(0, a =>
        {
            a.mov(ax, 0x1F8);
            a.mov(ds, ax);
        });
        g.RunToHalt();
        Assert.Equal((0x1F8u, CodeBase + 4), (g[Gpr.Rdx], g.Read32(Tss + 0x20)));
        Assert.NotEqual(0ul, g.S->Rflags & Rflags.NT);
    }

    [Fact]
    public void A_16_bit_task()
    {
        using var g = new Guest32();
        g.Write16(Tss16 + 0x0E, 0x8000);
        g.Write16(Tss16 + 0x10, 2);
        g.Write16(Tss16 + 0x12 + 2 * 3, 0xBEEF);
        g.Write16(Tss16 + 0x12 + 2 * 4, 0x7000);
        g.Write16(Tss16 + 0x22, Data16);
        g.Write16(Tss16 + 0x24, Code16);
        g.Write16(Tss16 + 0x26, Data16);
        g.Write16(Tss16 + 0x28, Data16);
        g.Place(0x8000, a => a.hlt(), 16);
        g.Start(0, a => a.jmp(Tss16Selector, 0));
        g.RunToHalt();
        Assert.Equal((0x8001ul, (ushort)0xBEEF, Code16), (g.S->Rip, (ushort)g[Gpr.Rbx], g.S->CS.Selector));
        Assert.Equal(0x83, Access(g, Tss16Selector));
    }

    [Fact]
    public void The_T_bit_traps_before_the_first_instruction()
    {
        using var g = new Guest32();
        FillTss2(g);
        g.Write32(Tss2 + 0x64, 0x68u << 16 | 1);
        g.Place(Other, a => a.hlt());
        g.Start(0, a => a.jmp(Tss2Selector, 0));
        Report32 r = g.RunToReport();
        Assert.Equal((Vector.DB, Other), (r.Vector, r.Eip));
        Assert.Equal(1ul << 15, g.S->Dr6 & (1ul << 15));
    }

    [Theory]
    [InlineData(0x48 + 8, ReadOnlyData, Vector.TS, ReadOnlyData)]
    [InlineData(0x48 + 4, 0x10, Vector.TS, 0x10)]
    [InlineData(0x48 + 12, NotPresentData, Vector.NP, NotPresentData)]
    [InlineData(0x60, TssSelector, Vector.TS, TssSelector)]
    public void A_bad_selector_in_the_new_task_faults_there(uint offset, ushort selector, int vector, uint error)
    {
        using var g = new Guest32();
        FillTss2(g);
        g.Write32(Tss2 + offset, selector);
        g.SetGate(vector, Gate(SystemType.TaskGate, 0xB0, 0, dpl: 0));
        // A third task takes the fault, whatever state the second is in.
        g.SetDescriptor(0xB0, TssDescriptor(0x6400, 0x67, 0x89));
        g.Write32(0x6400 + 0x20, CodeBase + 0x3000);
        g.Write32(0x6400 + 0x24, 2);
        g.Write32(0x6400 + 0x38, StackTop(1));
        for (uint i = 0; i < 6; i++)
            g.Write32(0x6400 + 0x48 + 4 * i, i == 1 ? Code(0) : Data(0));
        g.Place(CodeBase + 0x3000, a =>
        {
            a.pop(edx);
            a.hlt();
        });
        g.Start(0, a => a.jmp(Tss2Selector, 0));
        g.RunToHalt();
        Assert.Equal((error, CodeBase + 0x3002ul), (g[Gpr.Rdx], g.S->Rip));
        // The faulting task is the second, not yet past its first instruction.
        Assert.Equal(((uint)Tss2Selector, Other), (g.Read32(0x6400) & 0xFFFF, g.Read32(Tss2 + 0x20)));
    }

    [Fact]
    public void A_TSS_that_is_too_short_is_TS_in_the_old_task()
    {
        using var g = new Guest32();
        g.SetDescriptor(Tss2Selector, TssDescriptor(Tss2, 0x66, 0x89));
        g.Start(0, a => a.jmp(Tss2Selector, 0));
        Report32 r = g.RunToReport();
        Assert.Equal((Vector.TS, (uint)Tss2Selector, CodeBase), (r.Vector, r.Error, r.Eip));
    }

    [Fact]
    public void A_busy_TSS_is_GP()
    {
        using var g = new Guest32();
        g.Start(0, a => a.jmp(TssSelector, 0));
        Report32 r = g.RunToReport();
        Assert.Equal((Vector.GP, (uint)TssSelector), (r.Vector, r.Error));
    }
}
