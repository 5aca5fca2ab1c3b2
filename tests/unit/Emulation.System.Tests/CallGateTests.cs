using VirtPS.X86;
using static Iced.Intel.AssemblerRegisters;
using static VirtPS.Emulation.SystemTests.Guest32;
using Gpr = VirtPS.X86.Gpr;

namespace VirtPS.Emulation.SystemTests;

/// <summary>Far transfers: call gates, conforming code, returns to outer rings.</summary>
public unsafe class CallGateTests
{
    private const uint Target = CodeBase + 0x1000;

    [Fact]
    public void A_call_gate_switches_stacks_copies_parameters_and_returns()
    {
        using var g = new Guest32();
        g.SetDescriptor(GateSelector, Gate(SystemType.CallGate, Code(0), Target, dpl: 3, parameters: 2));
        g.Place(Target, a =>
        {
            a.mov(eax, __dword_ptr[esp + 8]);
            a.mov(ebx, __dword_ptr[esp + 12]);
            a.mov(ecx, esp);
            a.mov(edx, __dword_ptr[esp + 4]);
            a.mov(esi, __dword_ptr[esp + 16]);
            a.mov(edi, __dword_ptr[esp + 20]);
            a.db(0xCA, 8, 0); // retf 8
        });
        g.Start(3, a =>
        {
            a.push(0x1111);
            a.push(0x2222);
            a.call(GateSelector | 3, 0);
            a.mov(ebp, esp);
            a.ud2();
        });
        Report32 r = g.RunToReport();
        Assert.Equal((Vector.UD, (uint)Code(3)), (r.Vector, r.Cs));
        Assert.Equal((0x2222u, 0x1111u), (g[Gpr.Rax], g[Gpr.Rbx]));
        Assert.Equal(StackTop(0) - 24, g[Gpr.Rcx]);
        Assert.Equal((uint)Code(3), g[Gpr.Rdx]);
        Assert.Equal((StackTop(3) - 8, (uint)Data(3)), (g[Gpr.Rsi], g[Gpr.Rdi]));
        Assert.Equal(StackTop(3), g[Gpr.Rbp]);
        // DS was of ring 3 all the time and stays.
        Assert.Equal(Data(3), g.S->DS.Selector);
    }

    [Fact]
    public void Gates_lead_through_all_four_rings()
    {
        using var g = new Guest32();
        for (int ring = 0; ring < 3; ring++)
            g.SetDescriptor((ushort)(0xC0 + 8 * ring), Gate(SystemType.CallGate, Code(ring), Target + 0x100 * (uint)ring, dpl: ring + 1));
        g.Place(Target, a => a.hlt());
        g.Place(Target + 0x100, a => a.call(0xC0 | 1, 0));
        g.Place(Target + 0x200, a => a.call(0xC8 | 2, 0));
        g.Start(3, a => a.call(0xD0 | 3, 0));
        g.RunToHalt();
        Assert.Equal(0, g.S->Cpl);
        Assert.Equal((Code(0), Data(0)), (g.S->CS.Selector, g.S->SS.Selector));
        for (int ring = 0; ring < 3; ring++)
            Assert.Equal((uint)Data(ring + 1), g.Read32(StackTop(ring) - 4));
    }

    [Fact]
    public void A_16_bit_call_gate_pushes_words()
    {
        using var g = new Guest32();
        g.SetDescriptor(GateSelector, Gate(SystemType.CallGate16, Code(0), 0x8000, dpl: 3, parameters: 1));
        g.Place(0x8000, a => a.hlt());
        g.Start(3, a =>
        {
            a.push(0x0ABC1234);
            a.call(GateSelector | 3, 0);
        });
        g.RunToHalt();
        Assert.Equal(StackTop(0) - 10, g[Gpr.Rsp]);
        Assert.Equal((ushort)0x1234, (ushort)g.Read32(StackTop(0) - 6));
        Assert.Equal((ushort)Code(3), (ushort)g.Read32(StackTop(0) - 8));
    }

    [Theory]
    [InlineData(2, true, Vector.GP, GateSelector)]
    [InlineData(3, false, Vector.NP, GateSelector)]
    public void A_gate_checks_privilege_before_presence(int dpl, bool present, int vector, uint error)
    {
        using var g = new Guest32();
        g.SetDescriptor(GateSelector, Gate(SystemType.CallGate, Code(0), Target, dpl, present: present));
        g.Start(3, a => a.call(GateSelector | 3, 0));
        Report32 r = g.RunToReport();
        Assert.Equal((vector, error, CodeBase), (r.Vector, r.Error, r.Eip));
    }

    [Fact]
    public void A_jump_through_a_gate_does_not_change_the_ring()
    {
        using var g = new Guest32();
        g.SetDescriptor(GateSelector, Gate(SystemType.CallGate, Code(0), Target, dpl: 3));
        g.Start(3, a => a.jmp(GateSelector | 3, 0));
        Report32 r = g.RunToReport();
        Assert.Equal((Vector.GP, 8u), (r.Vector, r.Error));
    }

    [Fact]
    public void A_bad_inner_stack_is_TS_with_its_selector()
    {
        using var g = new Guest32();
        g.SetDescriptor(GateSelector, Gate(SystemType.CallGate, Code(1), Target, dpl: 3));
        g.Write32(Tss + 8 + 8, Data(2));
        g.Start(3, a => a.call(GateSelector | 3, 0));
        Report32 r = g.RunToReport();
        Assert.Equal((Vector.TS, Data(2) & 0xFFFCu, CodeBase), (r.Vector, r.Error, r.Eip));
        Assert.Equal(StackTop(3), r.Esp);
    }

    [Fact]
    public void Conforming_code_runs_in_the_callers_ring()
    {
        using var g = new Guest32();
        g.Place(Target, a => a.ud2());
        g.Start(3, a => a.jmp(Conforming, Target));
        Report32 r = g.RunToReport();
        Assert.Equal((Vector.UD, (uint)Conforming | 3, Target), (r.Vector, r.Cs, r.Eip));
    }

    [Fact]
    public void A_direct_call_to_an_inner_ring_is_GP()
    {
        using var g = new Guest32();
        g.Start(3, a => a.call(Code(0), Target));
        Report32 r = g.RunToReport();
        Assert.Equal((Vector.GP, 8u), (r.Vector, r.Error));
    }

    [Fact]
    public void Return_to_an_outer_ring_nulls_what_it_may_not_use()
    {
        using var g = new Guest32();
        g.Place(Target, a => a.ud2());
        g.Start(0, a =>
        {
            a.mov(ax, Data(3));
            a.mov(es, ax);
            a.push(Data(3));
            a.push((int)StackTop(3));
            a.push(Code(3));
            a.push((int)Target);
            a.retf();
        });
        Report32 r = g.RunToReport();
        Assert.Equal((Vector.UD, (uint)Code(3), Target, StackTop(3)), (r.Vector, r.Cs, r.Eip, r.Esp));
        Assert.Equal(Data(3), g.S->ES.Selector);
        Assert.Equal(0, g.S->DS.Selector);
        Assert.False(g.S->DS.IsUsable);
    }

    [Fact]
    public void Return_to_an_inner_ring_is_GP()
    {
        using var g = new Guest32();
        g.Start(3, a =>
        {
            a.push(Code(0));
            a.push((int)Target);
            a.retf();
        });
        Report32 r = g.RunToReport();
        Assert.Equal((Vector.GP, 8u), (r.Vector, r.Error));
    }

    [Fact]
    public void A_jump_beyond_the_segment_limit_is_GP_0()
    {
        using var g = new Guest32();
        g.SetDescriptor(0xC0, 0x0040_9B00_0000_0FFF);
        g.Start(0, a => a.jmp(0xC0, 0x1000));
        Report32 r = g.RunToReport();
        Assert.Equal((Vector.GP, 0u, CodeBase), (r.Vector, r.Error, r.Eip));
    }
}
