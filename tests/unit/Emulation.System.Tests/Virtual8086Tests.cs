using Iced.Intel;
using VirtPS.X86;
using static Iced.Intel.AssemblerRegisters;
using static VirtPS.Emulation.SystemTests.Guest32;
using Gpr = VirtPS.X86.Gpr;

namespace VirtPS.Emulation.SystemTests;

/// <summary>Virtual-8086 mode, with and without VME.</summary>
public unsafe class Virtual8086Tests
{
    private const ushort Segment = 0x0700;
    private const uint Linear = 0x7000;

    /// <summary>Enters by IRETD from ring 0 at 0700:0010 with SS:SP = 0800:0100 and DS = 0x0123.</summary>
    private static Guest32 Enter(Action<Assembler> code, ulong flags = 0, ulong cr4 = 0)
    {
        var g = new Guest32();
        g.Place(Linear + 0x10, code, 16);
        g.Start(0, a =>
        {
            a.push(0x0444);
            a.push(0x0333);
            a.push(0x0123);
            a.push(0x0222);
            a.push(0x0800);
            a.push(0x0100);
            a.push((int)(Rflags.VM | Rflags.Fixed1 | flags));
            a.push(Segment);
            a.push(0x0010);
            a.iretd();
        });
        g.S->Cr4 = cr4;
        g.Commit();
        return g;
    }

    [Fact]
    public void Entry_and_the_frame_of_the_way_out()
    {
        using Guest32 g = Enter(a =>
        {
            a.mov(ax, ds);
            a.mov(__byte_ptr.ds[0x10], 0x77);
            a.ud2();
        });
        Report32 r = g.RunToReport();
        Assert.Equal((Vector.UD, 0x18u, (uint)Segment), (r.Vector, r.Eip, r.Cs));
        Assert.Equal((0x100u, 0x800u, 0x222u, 0x123u, 0x333u, 0x444u), (r.Esp, r.Ss, r.Es, r.Ds, r.Fs, r.Gs));
        Assert.NotEqual(0ul, r.Eflags & Rflags.VM);
        Assert.Equal(0x123u, g[Gpr.Rax] & 0xFFFF);
        Assert.Equal(0x77u, g.Read32(0x1240) & 0xFF);
        Assert.Equal((0, 0, false), (g.S->Cpl, g.S->DS.Selector, g.S->ES.IsUsable));
    }

    [Theory]
    [InlineData("cli")]
    [InlineData("sti")]
    [InlineData("pushf")]
    [InlineData("int")]
    [InlineData("iret")]
    public void Sensitive_instructions_are_GP_below_IOPL_3(string instruction)
    {
        using Guest32 g = Enter(a => Emit(a, instruction));
        Report32 r = g.RunToReport();
        Assert.Equal((Vector.GP, 0u, 0x10u), (r.Vector, r.Error, r.Eip));
    }

    private static void Emit(Assembler a, string instruction)
    {
        switch (instruction)
        {
            case "cli":
                a.cli();
                break;
            case "sti":
                a.sti();
                break;
            case "pushf":
                a.pushf();
                break;
            case "int":
                a.@int(0x21);
                break;
            default:
                a.iret();
                break;
        }
    }

    [Fact]
    public void IOPL_3_runs_them_and_INT_takes_the_protected_gate()
    {
        using Guest32 g = Enter(a =>
        {
            a.sti();
            a.pushf();
            a.pop(bx);
            a.cli();
            a.@int(0x21);
        }, Rflags.IoplMask);
        g.SetGate(0x21, Gate(SystemType.InterruptGate, Code(0), Stubs + 16 * 0x21, dpl: 3));
        Report32 r = g.RunToReport();
        Assert.Equal((0x21, 0x16u), (r.Vector, r.Eip));
        Assert.NotEqual(0ul, g[Gpr.Rbx] & Rflags.IF);
        Assert.Equal(0ul, r.Eflags & Rflags.IF);
    }

    [Fact]
    public void VME_turns_CLI_and_STI_to_VIF()
    {
        using Guest32 g = Enter(a =>
        {
            a.sti();
            a.pushf();
            a.pop(bx);
            a.cli();
            a.pushf();
            a.pop(cx);
            a.ud2();
        }, cr4: Cr4.VME);
        Report32 r = g.RunToReport();
        Assert.Equal(Vector.UD, r.Vector);
        Assert.Equal((Rflags.IF | Rflags.IoplMask, Rflags.IoplMask), (g[Gpr.Rbx] & (Rflags.IF | Rflags.IoplMask), g[Gpr.Rcx] & (Rflags.IF | Rflags.IoplMask)));
        Assert.Equal(0ul, r.Eflags & (Rflags.IF | Rflags.VIF));
    }

    [Fact]
    public void PVI_does_the_same_for_ring_3_of_protected_mode()
    {
        using var g = new Guest32();
        g.Start(3, a =>
        {
            a.sti();
            a.pushfd();
            a.pop(ebx);
            a.cli();
            a.ud2();
        });
        g.S->Cr4 = Cr4.PVI;
        g.Commit();
        Report32 r = g.RunToReport();
        Assert.Equal((Vector.UD, Rflags.VIF), (r.Vector, g[Gpr.Rbx] & (Rflags.VIF | Rflags.IF)));
        Assert.Equal(0ul, r.Eflags & (Rflags.VIF | Rflags.IF));
    }

    [Fact]
    public void VME_STI_with_an_interrupt_pending_is_GP()
    {
        using Guest32 g = Enter(a => a.sti(), Rflags.VIP, Cr4.VME);
        Report32 r = g.RunToReport();
        Assert.Equal((Vector.GP, 0u), (r.Vector, r.Error));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void VME_redirects_INT_by_its_bitmap(bool toProtected)
    {
        using Guest32 g = Enter(a => a.@int(0x21), Rflags.VIF, Cr4.VME);
        // I/O map at 0x88, redirection map in the 32 bytes before it.
        g.Write32(Tss + 0x64, 0x88u << 16);
        g.Write32(Tss + 0x68 + 4, toProtected ? 1u << 1 : 0);
        g.S->TR.Limit = 0x100;
        g.Commit();
        g.Machine.Write(0x21 * 4, [0x20, 0, 0, 0x09]);
        g.Place(0x9020, a =>
        {
            a.mov(bp, sp);
            a.mov(bx, __word_ptr.ss[bp + 4]);
            a.ud2();
        }, 16);
        Report32 r = g.RunToReport();
        if (toProtected)
        {
            Assert.Equal((Vector.GP, 0u, 0x10u), (r.Vector, r.Error, r.Eip));
            return;
        }

        Assert.Equal((Vector.UD, 0x900u, 0x100u - 6), (r.Vector, r.Cs, r.Esp));
        Assert.Equal(Rflags.IF | Rflags.IoplMask, g[Gpr.Rbx] & (Rflags.IF | Rflags.IoplMask));
        Assert.Equal(0ul, r.Eflags & Rflags.VIF);
    }

    [Fact]
    public void Ports_need_the_bitmap_even_with_IOPL_3()
    {
        using Guest32 g = Enter(a => a.@out(0x80, al), Rflags.IoplMask);
        Report32 r = g.RunToReport();
        Assert.Equal((Vector.GP, 0u), (r.Vector, r.Error));
        Assert.Empty(g.Machine.Host.Accesses);
    }

    [Fact]
    public void An_offset_beyond_64_KiB_is_GP()
    {
        using Guest32 g = Enter(a =>
        {
            a.mov(ebx, 0x1_0000);
            a.mov(al, __byte_ptr.ds[ebx]);
        });
        Report32 r = g.RunToReport();
        Assert.Equal((Vector.GP, 0u), (r.Vector, r.Error));
    }
}
