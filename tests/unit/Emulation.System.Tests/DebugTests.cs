using VirtPS.X86;
using static Iced.Intel.AssemblerRegisters;
using static VirtPS.Emulation.SystemTests.Guest32;
using Gpr = VirtPS.X86.Gpr;

namespace VirtPS.Emulation.SystemTests;

/// <summary>Debug registers and single step.</summary>
public unsafe class DebugTests
{
    [Fact]
    public void General_detect_stops_an_access_and_is_cleared_for_the_handler()
    {
        using var g = new Guest32();
        g.Start(0, a => a.mov(eax, dr0));
        g.S->Dr7 = 0x400 | 1 << 13;
        g.Commit();
        Report32 r = g.RunToReport();
        Assert.Equal((Vector.DB, CodeBase), (r.Vector, r.Eip));
        Assert.Equal(1ul << 13, g.S->Dr6 & (1ul << 13));
        Assert.Equal(0ul, g.S->Dr7 & (1ul << 13));
    }

    [Theory]
    [InlineData(0ul, false)]
    [InlineData(Cr4.DE, true)]
    public void DR4_means_DR6_unless_DE(ulong cr4, bool undefined)
    {
        using var g = new Guest32();
        g.Start(0, a =>
        {
            a.db(0x0F, 0x21, 0xE0); // mov eax, dr4
            a.hlt();
        });
        g.S->Cr4 = cr4;
        g.Commit();
        g.RunToHalt();
        Assert.Equal(undefined, g.Read32(Report) == Vector.UD);
        if (!undefined)
            Assert.Equal(0xFFFF_0FF0u, g[Gpr.Rax]);
    }

    [Fact]
    public void An_IO_breakpoint_traps_behind_the_OUT()
    {
        using var g = new Guest32();
        g.Start(0, a =>
        {
            a.@out(0x80, al);
            a.nop();
            a.hlt();
        });
        g.S->Cr4 = Cr4.DE;
        g.S->Dr2 = 0x80;
        g.S->Dr7 = 0x400 | 1 << 4 | 2u << 24;
        g.Commit();
        Report32 r = g.RunToReport();
        Assert.Equal((Vector.DB, CodeBase + 2), (r.Vector, r.Eip));
        Assert.Equal(4ul, g.S->Dr6 & 0xF);
        Assert.Single(g.Machine.Host.Accesses);
    }

    [Fact]
    public void MOV_SS_delays_a_data_breakpoint_by_one_instruction()
    {
        using var g = new Guest32();
        g.Write32(DataBase, Data(0));
        g.Start(0, a =>
        {
            a.mov(ss, __word_ptr.ds[(int)DataBase]);
            a.nop();
            a.nop();
            a.hlt();
        });
        g.S->Dr0 = DataBase;
        g.S->Dr7 = 0x400 | 1 | 0b0111u << 16;
        g.Commit();
        Report32 r = g.RunToReport();
        Assert.Equal((Vector.DB, CodeBase + 8), (r.Vector, r.Eip));
    }

    [Fact]
    public void TF_through_POPF_traps_behind_the_next_instruction()
    {
        using var g = new Guest32();
        g.Start(0, a =>
        {
            a.push((int)(Rflags.TF | Rflags.Fixed1));
            a.popfd();
            a.nop();
            a.nop();
            a.hlt();
        });
        Report32 r = g.RunToReport();
        Assert.Equal((Vector.DB, CodeBase + 7), (r.Vector, r.Eip));
        Assert.Equal(1ul << 14, g.S->Dr6 & 0xE00F);
    }

    [Fact]
    public void RF_lets_the_instruction_at_a_breakpoint_run_once()
    {
        using var g = new Guest32();
        uint target = CodeBase + 0x1000;
        g.Place(target, a =>
        {
            a.inc(ebx);
            a.cmp(ebx, 2);
            a.jne(target);
            a.hlt();
        });
        g.Start(0, a =>
        {
            a.push((int)(Rflags.RF | Rflags.Fixed1));
            a.push(Code(0));
            a.push((int)target);
            a.iretd();
        });
        g.S->Dr0 = target;
        g.S->Dr7 = 0x402;
        g.Commit();
        Report32 r = g.RunToReport();
        // The first pass was let through by RF; the second stops.
        Assert.Equal((Vector.DB, target, 1u), (r.Vector, r.Eip, g[Gpr.Rbx]));
    }

    [Fact]
    public void Single_step_goes_through_a_system_call_gate_with_TF_off_in_the_handler()
    {
        using var g = new Guest32();
        g.SetGate(0x80, Gate(SystemType.InterruptGate, Code(0), CodeBase + 0x1000, dpl: 3));
        g.Place(CodeBase + 0x1000, a =>
        {
            a.inc(ecx);
            a.inc(ecx);
            a.iretd();
        });
        g.Start(3, a =>
        {
            a.@int(0x80);
            a.nop();
            a.nop();
        });
        g.S->Rflags |= Rflags.TF;
        g.Commit();
        Report32 r = g.RunToReport();
        // INT clears TF before its own trap would be taken; IRET restores it and the trap follows the next instruction.
        Assert.Equal((Vector.DB, 2u), (r.Vector, g[Gpr.Rcx]));
        Assert.Equal(CodeBase + 3, r.Eip);
    }
}
