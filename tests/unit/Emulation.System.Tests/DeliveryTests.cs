using Iced.Intel;
using VirtPS.Sdk.Cpu;
using VirtPS.X86;
using static Iced.Intel.AssemblerRegisters;
using static VirtPS.Emulation.SystemTests.Guest32;
using Gpr = VirtPS.X86.Gpr;

namespace VirtPS.Emulation.SystemTests;

/// <summary>Interrupts and exceptions outside long mode: gates of both sizes, double and triple faults, IRET.</summary>
public unsafe class DeliveryTests
{
    private const uint Handler = CodeBase + 0x1000;

    [Theory]
    [InlineData(SystemType.InterruptGate, false)]
    [InlineData(SystemType.TrapGate, true)]
    public void An_interrupt_gate_clears_IF_a_trap_gate_does_not(uint type, bool interruptsOn)
    {
        using var g = new Guest32();
        g.SetGate(0x80, Gate(type, Code(0), Handler, dpl: 3));
        g.Place(Handler, a =>
        {
            a.pushfd();
            a.pop(ebx);
            a.mov(ecx, esp);
            a.mov(edx, __dword_ptr.ss[esp + 12]);
            a.iretd();
        });
        g.Start(3, a =>
        {
            a.@int(0x80);
            a.mov(esi, esp);
            a.ud2();
        });
        g.S->Rflags |= Rflags.IF | Rflags.CF;
        g.Commit();
        Report32 r = g.RunToReport();
        Assert.Equal((Vector.UD, CodeBase + 4, (uint)Code(3)), (r.Vector, r.Eip, r.Cs));
        Assert.Equal(interruptsOn, (g[Gpr.Rbx] & Rflags.IF) != 0);
        Assert.Equal(StackTop(0) - 20, g[Gpr.Rcx]);
        Assert.Equal((StackTop(3), StackTop(3)), (g[Gpr.Rdx], g[Gpr.Rsi]));
        Assert.Equal(Rflags.IF | Rflags.CF, r.Eflags & (Rflags.IF | Rflags.CF));
    }

    [Fact]
    public void A_16_bit_gate_pushes_words_and_IRETW_takes_them()
    {
        using var g = new Guest32();
        g.SetGate(0x81, Gate(SystemType.InterruptGate16, Code(0), 0x8000, dpl: 0));
        g.Place(0x8000, a =>
        {
            a.mov(ecx, esp);
            a.iret();
        });
        g.Place(0x9000, a =>
        {
            a.@int(0x81);
            a.mov(edx, esp);
            a.hlt();
        });
        g.Start(0, a => a.jmp(0x9000u));
        g.RunToHalt();
        Assert.Equal((StackTop(0) - 6, StackTop(0)), (g[Gpr.Rcx], g[Gpr.Rdx]));
    }

    [Fact]
    public void INT_through_a_gate_of_ring_0_is_GP_with_the_vector()
    {
        using var g = new Guest32();
        g.Start(3, a => a.@int(0x30));
        Report32 r = g.RunToReport();
        Assert.Equal((Vector.GP, 0x30u * 8 + 2, CodeBase), (r.Vector, r.Error, r.Eip));
    }

    [Fact]
    public void INTO_traps_on_overflow_alone()
    {
        using var g = new Guest32();
        g.SetGate(4, Gate(SystemType.InterruptGate, Code(0), Stubs + 16 * 4, dpl: 3));
        g.Start(3, a =>
        {
            a.into();
            a.mov(al, 0x7F);
            a.add(al, 1);
            a.into();
        });
        Report32 r = g.RunToReport();
        Assert.Equal((Vector.OF, CodeBase + 6), (r.Vector, r.Eip));
    }

    [Fact]
    public void ICEBP_is_DB_without_a_DPL_check()
    {
        using var g = new Guest32();
        g.Start(3, a => a.int1());
        Report32 r = g.RunToReport();
        Assert.Equal((Vector.DB, CodeBase + 1), (r.Vector, r.Eip));
    }

    /// <summary>SDM Vol. 3A table 6-5, with a second exception because the first one's gate is not usable.</summary>
    [Theory]
    [InlineData(Vector.UD, Vector.NP, Vector.UD * 8 + 2 + 1)] // benign, then #NP: handled one after the other, EXT set
    [InlineData(Vector.DE, Vector.DF, 0)]                     // contributory, then contributory
    [InlineData(Vector.GP, Vector.DF, 0)]
    public void Exceptions_combine(int first, int delivered, uint error)
    {
        using var g = new Guest32();
        g.SetGate(first, Gate(SystemType.InterruptGate, Code(0), Stubs, dpl: 0, present: false));
        g.Start(0, a =>
        {
            switch (first)
            {
                case Vector.UD:
                    a.ud2();
                    break;
                case Vector.DE:
                    a.xor(ecx, ecx);
                    a.div(ecx);
                    break;
                default:
                    a.mov(ax, 0x1F8);
                    a.mov(ds, ax);
                    break;
            }
        });
        Report32 r = g.RunToReport();
        Assert.Equal((delivered, error), (r.Vector, r.Error));
    }

    [Fact]
    public void A_fault_in_delivering_a_double_fault_is_a_triple_fault()
    {
        using var g = new Guest32();
        g.SetGate(Vector.DE, 0);
        g.SetGate(Vector.DF, 0);
        g.Start(0, a =>
        {
            a.xor(ecx, ecx);
            a.div(ecx);
        });
        Assert.Equal(VcpuExit.Shutdown, g.Machine.Run());
        Assert.Equal(MpState.Shutdown, g.S->MpState);
        Assert.Equal(CodeBase + 2ul, g.S->Rip);
    }

    [Fact]
    public void An_external_interrupt_through_a_bad_gate_sets_EXT()
    {
        using var g = new Guest32();
        g.SetGate(0x40, 0);
        g.Start(0, a =>
        {
            a.nop();
            a.hlt();
        });
        g.S->Rflags |= Rflags.IF;
        g.S->Requests = (uint)VcpuRequests.Interrupt;
        g.Commit();
        Assert.Equal(VcpuExit.InterruptWindow, g.Machine.Run());
        g.S->Requests = 0;
        g.Machine.Vcpu.InjectInterrupt(0x40);
        Report32 r = g.RunToReport();
        Assert.Equal((Vector.GP, 0x40u * 8 + 2 + 1), (r.Vector, r.Error));
    }

    [Fact]
    public void Faults_push_RF_and_traps_do_not()
    {
        using var g = new Guest32();
        g.Start(0, a => a.ud2());
        Assert.NotEqual(0ul, g.RunToReport().Eflags & Rflags.RF);
        using var h = new Guest32();
        h.Start(0, a => a.int3());
        Assert.Equal(0ul, h.RunToReport().Eflags & Rflags.RF);
    }

    [Fact]
    public void IRETD_to_an_outer_ring_keeps_IOPL_and_IF_from_ring_3()
    {
        using var g = new Guest32();
        g.Place(Handler, a =>
        {
            // popfd in ring 3: IOPL and IF stay.
            a.push((int)(Rflags.IoplMask | Rflags.CF));
            a.popfd();
            a.ud2();
        });
        g.Start(0, a =>
        {
            a.push(Data(3));
            a.push((int)StackTop(3));
            a.push((int)(Rflags.IF | Rflags.Fixed1));
            a.push(Code(3));
            a.push((int)Handler);
            a.iretd();
        });
        Report32 r = g.RunToReport();
        Assert.Equal((Vector.UD, (uint)Code(3), StackTop(3)), (r.Vector, r.Cs, r.Esp));
        Assert.Equal(Rflags.IF | Rflags.CF, r.Eflags & (Rflags.IF | Rflags.IoplMask | Rflags.CF));
    }

    [Theory]
    [InlineData(0x0B, 0x08)] // RPL 3 on ring-0 code
    [InlineData(0x10, 0x10)] // a data segment
    [InlineData(0x00, 0x00)] // null
    public void IRETD_to_a_bad_CS_is_GP(int selector, uint error)
    {
        using var g = new Guest32();
        g.Start(0, a =>
        {
            a.push(2);
            a.push(selector);
            a.push((int)Handler);
            a.iretd();
        });
        Report32 r = g.RunToReport();
        Assert.Equal((Vector.GP, error), (r.Vector, r.Error));
    }

    [Fact]
    public void Real_mode_uses_the_vector_table_and_returns()
    {
        using var g = new Guest32();
        // int 0x21 -> 0100:0020: mov bx, 7; iret
        g.Machine.Write(0x21 * 4, [0x20, 0, 0, 1]);
        g.Place(0x1020, a =>
        {
            a.mov(bx, 7);
            a.pushf();
            a.pop(cx);
            a.iret();
        }, 16);
        g.Machine.EnterRealMode(0xFB, 0xF9, 0xCD, 0x21, 0x9C, 0x5A, 0xF4);
        g.RunToHalt();
        Assert.Equal((7u, 0x7000u), (g[Gpr.Rbx], g[Gpr.Rsp]));
        Assert.Equal(0ul, g[Gpr.Rcx] & Rflags.IF);
        Assert.Equal(Rflags.IF | Rflags.CF, g[Gpr.Rdx] & (Rflags.IF | Rflags.CF));
    }

    [Fact]
    public void Real_mode_exceptions_push_no_error_code()
    {
        using var g = new Guest32();
        g.Machine.Write(Vector.GP * 4, [0x00, 0, 0, 1]);
        g.Place(0x1000, a => a.hlt(), 16);
        // mov ax, [0xFFFF]: beyond the segment limit
        g.Machine.EnterRealMode(0xA1, 0xFF, 0xFF, 0xF4);
        g.RunToHalt();
        Assert.Equal(0x7000u - 6, g[Gpr.Rsp]);
        Assert.Equal(0x7C00u, g.Read32(0x6FFA) & 0xFFFF);
    }
}
