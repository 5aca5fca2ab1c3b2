using Iced.Intel;
using VirtPS.X86;
using static Iced.Intel.AssemblerRegisters;
using static VirtPS.Emulation.SystemTests.Guest32;
using Gpr = VirtPS.X86.Gpr;

namespace VirtPS.Emulation.SystemTests;

/// <summary>Segment loads, descriptor-table registers, the instructions that inspect selectors.</summary>
public unsafe class SegmentTests
{
    [Theory]
    [InlineData("ds", 0x1F8, Vector.GP, 0x1F8)]
    [InlineData("ds", NotPresentData, Vector.NP, NotPresentData)]
    [InlineData("ds", TssSelector, Vector.GP, TssSelector)]
    [InlineData("ds", ExecuteOnly, Vector.GP, ExecuteOnly)]
    [InlineData("ss", 0, Vector.GP, 0)]
    [InlineData("ss", NotPresentData, Vector.SS, NotPresentData)]
    [InlineData("ss", ReadOnlyData, Vector.GP, ReadOnlyData)]
    [InlineData("ss", 0x20, Vector.GP, 0x20)]
    [InlineData("ss", 0x13, Vector.GP, 0x10)]
    public void A_refused_load_names_the_selector(string register, int selector, int vector, uint error)
    {
        using var g = new Guest32();
        ushort before = Data(0);
        g.Start(0, a =>
        {
            a.mov(ax, (short)selector);
            a.mov(register == "ss" ? ss : ds, ax);
        });
        Report32 r = g.RunToReport();
        Assert.Equal((vector, error, CodeBase + 4), (r.Vector, r.Error, r.Eip));
        Assert.Equal(before, register == "ss" ? g.S->SS.Selector : g.S->DS.Selector);
    }

    [Fact]
    public void Ring_3_may_not_load_data_of_ring_0()
    {
        using var g = new Guest32();
        g.Start(3, a =>
        {
            a.mov(ax, Data(0));
            a.mov(fs, ax);
        });
        Report32 r = g.RunToReport();
        Assert.Equal((Vector.GP, (uint)Data(0)), (r.Vector, r.Error));
    }

    [Fact]
    public void A_load_sets_the_accessed_bit_in_the_table()
    {
        using var g = new Guest32();
        g.SetDescriptor(0xC0, 0x00CF_9200_0000_FFFF);
        g.Start(0, a =>
        {
            a.mov(ax, 0xC0);
            a.mov(es, ax);
            a.hlt();
        });
        g.RunToHalt();
        Assert.Equal(0x00CF_9300_0000_FFFFul, g.Descriptor(0xC0));
        Assert.Equal(0x93u, g.S->ES.Attributes & 0xFF);
    }

    [Fact]
    public void A_null_selector_loads_and_its_use_is_GP()
    {
        using var g = new Guest32();
        g.Start(0, a =>
        {
            a.xor(eax, eax);
            a.mov(ds, ax);
            a.mov(ebx, __dword_ptr.ds[(int)DataBase]);
        });
        Report32 r = g.RunToReport();
        Assert.Equal((Vector.GP, 0u, CodeBase + 5), (r.Vector, r.Error, r.Eip));
    }

    [Fact]
    public void Les_loads_offset_and_selector()
    {
        using var g = new Guest32();
        g.Write32(DataBase, 0x1234_5678);
        g.Write16(DataBase + 4, Data(3));
        g.Start(0, a =>
        {
            a.les(esi, __fword_ptr.ds[(int)DataBase]);
            a.hlt();
        });
        g.RunToHalt();
        Assert.Equal((0x1234_5678u, Data(3)), (g[Gpr.Rsi], g.S->ES.Selector));
    }

    [Fact]
    public void An_LDT_segment_is_found_after_LLDT()
    {
        using var g = new Guest32();
        g.Machine.Write64(Ldt + 8, 0x0040_9312_3456_0FFF);
        g.Start(0, a =>
        {
            a.mov(ax, LdtSelector);
            a.lldt(ax);
            a.mov(ax, 0x0C);
            a.mov(gs, ax);
            a.sldt(ecx);
            a.hlt();
        });
        g.S->LDTR = new SegmentRegister(0, 0, 0, SegmentRegister.Unusable);
        g.Commit();
        g.RunToHalt();
        Assert.Equal((0x12_3456ul, 0xFFFu), (g.S->GS.Base, g.S->GS.Limit));
        Assert.Equal((uint)LdtSelector, g[Gpr.Rcx]);
    }

    [Fact]
    public void LTR_marks_the_segment_busy_and_refuses_a_busy_one()
    {
        using var g = new Guest32();
        g.Start(0, a =>
        {
            a.mov(ax, Tss2Selector);
            a.ltr(ax);
            a.str(ebx);
            a.ltr(ax);
        });
        Report32 r = g.RunToReport();
        Assert.Equal((Vector.GP, (uint)Tss2Selector), (r.Vector, r.Error));
        Assert.Equal((uint)Tss2Selector, g[Gpr.Rbx]);
        Assert.Equal(0x8Bul, g.Descriptor(Tss2Selector) >> 40 & 0xFF);
    }

    [Theory]
    [InlineData(0x10, true, true, 0x00CF_9300u, 0xFFFF_FFFFu)]
    [InlineData(ReadOnlyData, true, false, 0x00CF_9100u, 0xFFFF_FFFFu)]
    [InlineData(ExecuteOnly, false, false, 0x00CF_9900u, 0xFFFF_FFFFu)]
    [InlineData(TssSelector, false, false, 0x0000_8B00u, 0x67u)]
    public void LAR_LSL_VERR_VERW_look_at_a_selector(int selector, bool readable, bool writable, uint rights, uint limit)
    {
        using var g = new Guest32();
        g.Start(0, a =>
        {
            a.mov(eax, selector);
            a.verr(ax);
            a.setz(__byte_ptr.ds[(int)DataBase]);
            a.verw(ax);
            a.setz(__byte_ptr.ds[(int)DataBase + 1]);
            a.lar(ebx, eax);
            a.lsl(ecx, eax);
            a.hlt();
        });
        g.RunToHalt();
        Assert.Equal((readable, writable), ((g.Read32(DataBase) & 0xFF) != 0, (g.Read32(DataBase) & 0xFF00) != 0));
        Assert.Equal((rights, limit), (g[Gpr.Rbx], g[Gpr.Rcx]));
        Assert.NotEqual(0ul, g.S->Rflags & Rflags.ZF);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(0x1F8)]
    [InlineData(0x10)]
    public void LAR_leaves_the_register_when_ring_3_may_not_see_it(int selector)
    {
        using var g = new Guest32();
        g.Start(3, a =>
        {
            a.mov(eax, selector);
            a.mov(ebx, 7);
            a.cmp(eax, eax);
            a.lar(ebx, eax);
            a.ud2();
        });
        Report32 r = g.RunToReport();
        Assert.Equal((Vector.UD, 7u), (r.Vector, g[Gpr.Rbx]));
        Assert.Equal(0ul, r.Eflags & Rflags.ZF);
    }

    [Fact]
    public void ARPL_raises_the_RPL()
    {
        using var g = new Guest32();
        g.Start(0, a =>
        {
            a.mov(eax, 0x0FF0_0010);
            a.mov(ebx, 3);
            a.arpl(ax, bx);
            a.hlt();
        });
        g.RunToHalt();
        Assert.Equal(0x0FF0_0013u, g[Gpr.Rax]);
        Assert.NotEqual(0ul, g.S->Rflags & Rflags.ZF);
    }

    [Theory]
    [InlineData(Iced.Intel.Code.Sgdt_m1632)]
    [InlineData(Iced.Intel.Code.Sidt_m1632)]
    public void UMIP_keeps_table_addresses_from_ring_3(Iced.Intel.Code code)
    {
        using var g = new Guest32();
        g.Start(3, a => a.AddInstruction(Instruction.Create(code, __dword_ptr.ds[(int)DataBase].ToMemoryOperand(32))));
        g.S->Cr4 |= Cr4.UMIP;
        g.Commit();
        Report32 r = g.RunToReport();
        Assert.Equal((Vector.GP, 0u), (r.Vector, r.Error));
    }

    [Fact]
    public void LGDT_and_SGDT()
    {
        using var g = new Guest32();
        g.Write16(DataBase, 0x7F);
        g.Write32(DataBase + 2, 0x0012_3450);
        g.Start(0, a =>
        {
            a.lgdt(__[(int)DataBase]);
            a.sgdt(__[(int)DataBase + 8]);
            a.hlt();
        });
        g.RunToHalt();
        Assert.Equal(new DescriptorTable(0x12_3450, 0x7F), g.S->Gdtr);
        Assert.Equal((0x3450_007Fu, (ushort)0x12), (g.Read32(DataBase + 8), (ushort)g.Read32(DataBase + 12)));
    }

    [Fact]
    public void Limits_of_protected_mode_stay_in_real_mode()
    {
        using var g = new Guest32();
        // cr0 &= ~PE in a 16-bit segment; then ds = 0 and a 32-bit offset above 64 KiB: "unreal mode".
        g.Place(0x8000, a =>
        {
            a.mov(eax, cr0);
            a.and(al, 0xFE);
            a.mov(cr0, eax);
            a.xor(ax, ax);
            a.mov(ds, ax);
            a.mov(ebx, 0x12_3456);
            a.mov(__byte_ptr.ds[ebx], 0x5A);
            a.hlt();
        }, 16);
        g.Start(0, a => a.jmp(Code16, 0x8000));
        g.RunToHalt();
        Assert.Equal(0x5Au, g.Read32(0x12_3456) & 0xFF);
        Assert.Equal(VirtPS.Sdk.Cpu.CpuMode.Real, g.S->Mode);
    }
}
