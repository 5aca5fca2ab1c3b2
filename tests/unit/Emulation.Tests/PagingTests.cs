namespace VirtPS.Emulation.Tests;

public sealed unsafe class PagingTests : IDisposable
{
    private const ulong P = PageBits.P, RW = PageBits.RW, US = PageBits.US, A = PageBits.A, D = PageBits.D, NX = PageBits.NX;
    private readonly TestGuest _g = new();

    public void Dispose() => _g.Dispose();

    /// <summary>64-bit mode with one extra 4 KiB page table for linear 0x40000000 and up; returns its address.</summary>
    private ulong LongModeWithTable(int ring = 0)
    {
        _g.LongMode(ring: ring);
        ulong pdpt = _g.Read<ulong>(_g.S->Cr3) & PageBits.AddressMask;
        ulong pd = _g.AllocateTable(), pt = _g.AllocateTable();
        _g.Write(pdpt + 8, pd | P | RW | US);
        _g.Write(pd, pt | P | RW | US);
        return pt;
    }

    private const ulong Linear = 0x4000_0000;

    [Fact]
    public void Accessed_and_dirty_bits_are_set_when_due_and_not_before()
    {
        ulong pt = LongModeWithTable();
        _g.Write(pt, TestGuest.Data | P | RW | US);
        _g.Write(pt + 8, (TestGuest.Data + 0x1000) | P | RW | US);
        _g[Gpr.Rbx] = Linear;
        _g.Run64(a => a.mov(rax, __qword_ptr[rbx]));
        Assert.Equal(TestGuest.Data | P | RW | US | A, _g.Read<ulong>(pt));
        Assert.Equal((TestGuest.Data + 0x1000) | P | RW | US, _g.Read<ulong>(pt + 8));
        _g.Run64(a => a.mov(__byte_ptr[rbx + 5], 9));
        Assert.Equal(TestGuest.Data | P | RW | US | A | D, _g.Read<ulong>(pt));
        Assert.Equal(9, _g.Read<byte>(TestGuest.Data + 5));
    }

    [Fact]
    public void An_access_over_a_page_end_uses_both_pages_and_changes_nothing_when_the_second_faults()
    {
        ulong pt = LongModeWithTable();
        _g.Write(pt, TestGuest.Data | P | RW);
        _g.Write(pt + 8, (TestGuest.Data + 0x8000) | P | RW);
        _g[Gpr.Rbx] = Linear + 0xFFC;
        _g[Gpr.Rax] = 0x1122334455667788;
        _g.Run64(a =>
        {
            a.mov(__qword_ptr[rbx], rax);
            a.mov(rdx, __qword_ptr[rbx]);
        });
        Assert.Equal(0x55667788u, _g.Read<uint>(TestGuest.Data + 0xFFC));
        Assert.Equal(0x11223344u, _g.Read<uint>(TestGuest.Data + 0x8000));
        Assert.Equal(0x1122334455667788ul, _g[Gpr.Rdx]);

        _g.Write(pt + 8, (TestGuest.Data + 0x8000) | P);
        _g.Cpu.CommitState();
        _g[Gpr.Rax] = 0;
        Assert.Equal(Vector.PF, _g.FaultOf(a => a.mov(__qword_ptr[rbx], rax)));
        Assert.Equal(Linear + 0x1000, _g.S->Cr2);
        Assert.Equal(0x55667788u, _g.Read<uint>(TestGuest.Data + 0xFFC));
    }

    [Theory]
    [InlineData(0ul, 0, false, 0u)]                                    // not present, read
    [InlineData(P | RW, 3, false, 5u)]                                 // supervisor page from ring 3
    [InlineData(P | US, 3, true, 7u)]                                  // read-only, ring 3
    [InlineData(P | US, 0, true, 3u)]                                  // read-only, ring 0 with WP
    [InlineData(P | RW | US | 1ul << 45, 0, false, 9u)]                // address bit above the width
    public void Page_faults_have_their_error_code(ulong bits, int ring, bool write, uint error)
    {
        ulong pt = LongModeWithTable(ring);
        _g.Write(pt, TestGuest.Data | bits);
        _g[Gpr.Rbx] = Linear + 0x123;
        Assert.Equal(Vector.PF, _g.FaultOf(a =>
        {
            if (write)
                a.mov(__byte_ptr[rbx], al);
            else
                a.mov(al, __byte_ptr[rbx]);
        }));
        Assert.Equal(Linear + 0x123, _g.S->Cr2);
        Assert.Equal(error, _g.Cpu.PendingFault.Error);
    }

    [Fact]
    public void Write_protection_follows_Cr0_WP()
    {
        ulong pt = LongModeWithTable();
        _g.Write(pt, TestGuest.Data | P);
        _g[Gpr.Rbx] = Linear;
        _g.S->Cr0 &= ~Cr0.WP;
        _g.Cpu.CommitState();
        Assert.Equal(-1, _g.FaultOf(a => a.mov(__byte_ptr[rbx], 7)));
        Assert.Equal(7, _g.Read<byte>(TestGuest.Data));
        _g.S->Cr0 |= Cr0.WP;
        _g.Cpu.CommitState();
        Assert.Equal(Vector.PF, _g.FaultOf(a => a.mov(__byte_ptr[rbx], 8)));
    }

    [Fact]
    public void No_execute_smep_and_smap()
    {
        ulong pt = LongModeWithTable();
        _g.Write(pt, TestGuest.Data | P | RW | NX);
        _g.Write(pt + 8, (TestGuest.Data + 0x1000) | P | RW | US);
        _g.Assemble(64, TestGuest.Data, a => a.nop());
        _g.Assemble(64, TestGuest.Data + 0x1000, a => a.ret());
        // The first 16 MiB are user pages: supervisor-only here, so that SMEP and SMAP leave the test itself alone.
        ulong pd = _g.Read<ulong>(_g.Read<ulong>(_g.S->Cr3) & PageBits.AddressMask) & PageBits.AddressMask;
        for (ulong i = 0; i < 8; i++)
            _g.Write(pd + i * 8, i << 21 | P | RW | PageBits.PS);
        _g.S->Cr4 |= Cr4.SMEP | Cr4.SMAP;
        _g[Gpr.Rbx] = Linear;
        _g[Gpr.Rcx] = Linear + 0x1000;
        _g.S->Rip = Linear;
        Assert.Equal(Vector.PF, FaultAt(Linear));
        Assert.Equal(PageFaultError.P | PageFaultError.I, _g.Cpu.PendingFault.Error);
        Assert.Equal(Vector.PF, FaultAt(Linear + 0x1000));
        Assert.Equal(PageFaultError.P | PageFaultError.I, _g.Cpu.PendingFault.Error);
        Assert.Equal(Vector.PF, _g.FaultOf(a => a.mov(al, __byte_ptr[rcx])));
        _g.S->Rflags |= Rflags.AC;
        Assert.Equal(-1, _g.FaultOf(a => a.mov(al, __byte_ptr[rcx])));
        _g.S->Rflags &= ~Rflags.AC;
        Assert.Equal(Vector.PF, _g.FaultOf(a => a.mov(al, __byte_ptr[rcx])));
        _g.S->Cr4 &= ~(Cr4.SMEP | Cr4.SMAP);
        Assert.Equal(-1, _g.FaultOf(a => a.mov(al, __byte_ptr[rcx])));
    }

    private int FaultAt(ulong rip)
    {
        _g.FaultOf(a => a.nop());
        _g.S->Rip = rip;
        _g.Cpu.CommitState();
        Assert.Equal(VcpuExit.SingleStep, _g.Cpu.SingleStep());
        return _g.Cpu.PendingFault.Vector;
    }

    [Fact]
    public void Translations_are_kept_until_flushed_and_global_ones_over_Cr3()
    {
        ulong pt = LongModeWithTable();
        _g.Write(pt, TestGuest.Data | P | RW);
        _g.Write(pt + 8, TestGuest.Data | P | RW | PageBits.G);
        _g.Write(TestGuest.Data, 1ul);
        _g.Write(TestGuest.Data + 0x1000, 2ul);
        _g[Gpr.Rbx] = Linear;
        _g[Gpr.Rcx] = pt;
        _g.Run64(a =>
        {
            a.mov(r8, __qword_ptr[rbx]);
            a.mov(r9, __qword_ptr[rbx + 0x1000]);
            a.mov(rax, TestGuest.Data + 0x1003);
            a.mov(__qword_ptr[rcx], rax);
            a.mov(__qword_ptr[rcx + 8], rax);
            a.mov(rax, cr3);
            a.mov(cr3, rax);
            a.mov(r8, __qword_ptr[rbx]);
            a.mov(r9, __qword_ptr[rbx + 0x1000]);
            a.invlpg(__[rbx + 0x1000]);
            a.mov(r10, __qword_ptr[rbx + 0x1000]);
        });
        Assert.Equal(2ul, _g[Gpr.R8]);
        Assert.Equal(1ul, _g[Gpr.R9]);
        Assert.Equal(2ul, _g[Gpr.R10]);
    }

    [Fact]
    public void Invlpg_of_any_address_in_a_large_page_drops_all_of_it()
    {
        _g.LongMode();
        ulong pd = _g.Read<ulong>(_g.Read<ulong>(_g.S->Cr3) & PageBits.AddressMask) & PageBits.AddressMask;
        _g.Write(0x600000, 0x66ul);
        _g.Write(0x400000, 0x44ul);
        _g[Gpr.Rbx] = 0x400000;
        _g[Gpr.Rcx] = pd + 2 * 8;
        _g.Run64(a =>
        {
            a.mov(r8, __qword_ptr[rbx]);
            a.mov(__dword_ptr[rcx], 0x600087);
            a.invlpg(__[rbx + 0x7F000]);
            a.mov(r9, __qword_ptr[rbx]);
        });
        Assert.Equal(0x44ul, _g[Gpr.R8]);
        Assert.Equal(0x66ul, _g[Gpr.R9]);
    }

    [Fact]
    public void Invlpg_of_any_address_in_a_huge_page_drops_all_of_it()
    {
        _g.LongMode();
        ulong pdpt = _g.Read<ulong>(_g.S->Cr3) & PageBits.AddressMask, pd = _g.AllocateTable();
        _g.Write(pdpt + 8, 0x83ul);
        _g.Write(pd, 0x400083ul);
        _g.Write(0x100008, 1ul);
        _g.Write(0x500008, 2ul);
        _g[Gpr.Rbx] = 0x40100008;
        _g[Gpr.Rcx] = pdpt + 8;
        _g[Gpr.Rdx] = pd | 3;
        _g.Run64(a =>
        {
            a.mov(r8, __qword_ptr[rbx]);
            a.mov(__qword_ptr[rcx], rdx);
            a.invlpg(__[rbx + 0x20000000]);
            a.mov(r9, __qword_ptr[rbx]);
        });
        Assert.Equal((1ul, 2ul), (_g[Gpr.R8], _g[Gpr.R9]));
    }

    [Fact]
    public void Invlpg_in_a_large_page_leaves_other_pages()
    {
        _g.LongMode();
        ulong pd = _g.Read<ulong>(_g.Read<ulong>(_g.S->Cr3) & PageBits.AddressMask) & PageBits.AddressMask;
        foreach (ulong page in new ulong[] { 0x400000, 0x600000, 0xA00000, 0xC00000 })
            _g.Write(page, page >> 20);
        _g[Gpr.Rbx] = 0x400000;
        _g[Gpr.Rcx] = pd;
        _g.Run64(a =>
        {
            a.mov(r8, __qword_ptr[rbx]);
            a.mov(r9, __qword_ptr[rbx + 0x600000]);
            a.mov(__dword_ptr[rcx + 2 * 8], 0x600087);
            a.mov(__dword_ptr[rcx + 5 * 8], 0xC00087);
            a.invlpg(__[rbx + 0x7F000]);
            a.mov(r10, __qword_ptr[rbx]);
            a.mov(r11, __qword_ptr[rbx + 0x600000]);
        });
        Assert.Equal((4ul, 10ul), (_g[Gpr.R8], _g[Gpr.R9]));
        Assert.Equal((6ul, 10ul), (_g[Gpr.R10], _g[Gpr.R11]));
    }

    /// <summary>Jumps to a large page, direct and from the jump cache, that are linked and then led elsewhere by INVLPG of another address in it.</summary>
    [Fact]
    public void Code_in_a_large_page_that_is_mapped_elsewhere_is_not_executed_after_INVLPG()
    {
        const int Times = 40;
        _g.LongMode();
        ulong pd = _g.Read<ulong>(_g.Read<ulong>(_g.S->Cr3) & PageBits.AddressMask) & PageBits.AddressMask;
        _g.S->Cr4 |= Cr4.PGE;
        for (ulong i = 0; i < 4; i++)
            _g.Write(pd + i * 8, i << 21 | 0x187);
        _g.Cpu.CommitState();
        foreach ((ulong page, int answer) in new[] { (0x400000ul, 1), (0x600000ul, 100) })
        {
            _g.Assemble(64, page, a =>
            {
                a.add(rax, answer);
                a.ret();
            });
        }

        _g[Gpr.Rcx] = pd;
        _g.Run64(a =>
        {
            Label once = a.CreateLabel(), top = a.CreateLabel();
            a.xor(eax, eax);
            a.xor(r8d, r8d);
            a.mov(ebx, 0x400000);
            a.Label(ref once);
            a.mov(edx, Times);
            a.Label(ref top);
            a.call(0x400000);
            a.call(rbx);
            a.dec(edx);
            a.jne(top);
            a.mov(__dword_ptr[rcx + 2 * 8], 0x600187);
            a.invlpg(__[rbx + 0x1FF000]);
            a.inc(r8d);
            a.cmp(r8d, 2);
            a.jb(once);
        });
        Assert.Equal(2ul * Times * 101, _g[Gpr.Rax]);
    }

    [Fact]
    public void Invlpg_of_either_half_drops_a_page_of_4_MiB()
    {
        _g.Protected32();
        ulong pd = _g.AllocateTable();
        for (uint i = 0; i < 4; i++)
            _g.Write(pd + i * 4, i << 22 | 0x83);
        _g.S->Cr3 = pd;
        _g.S->Cr4 = Cr4.PSE;
        _g.S->Cr0 |= Cr0.PG | Cr0.WP;
        foreach (uint page in new uint[] { 0, 0x400000, 0xC00000 })
        {
            _g.Write(page, page >> 20);
            _g.Write(page + 0x200000, (page >> 20) + 1);
        }

        _g.S->Gpr[(int)Gpr.Rcx] = pd;
        _g.Assemble(32, TestGuest.Code, a =>
        {
            a.mov(eax, __dword_ptr[0x400000]);
            a.mov(eax, __dword_ptr[0x600000]);
            a.mov(__dword_ptr[ecx + 4], 0xC00083);
            a.invlpg(__[0x400000]);
            a.mov(ebx, __dword_ptr[0x600000]);
            a.mov(edx, __dword_ptr[0x400000]);
            a.mov(__dword_ptr[ecx + 4], 0x83);
            a.invlpg(__[0x7FF000]);
            a.mov(esi, __dword_ptr[0x400000]);
            a.mov(edi, __dword_ptr[0x600000]);
            a.hlt();
        });
        _g.S->Rip = TestGuest.Code;
        _g.Cpu.CommitState();
        _g.RunToHalt();
        Assert.Equal((13u, 12u, 0u, 1u), ((uint)_g[Gpr.Rbx], (uint)_g[Gpr.Rdx], (uint)_g[Gpr.Rsi], (uint)_g[Gpr.Rdi]));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Two_level_paging_with_and_without_4_MiB_pages(bool large)
    {
        _g.Protected32();
        ulong pd = _g.AllocateTable(), pt = _g.AllocateTable();
        _g.Write(pd, large ? 0x83u : (uint)pt | 3);
        _g.Write(pd + 8, 0x0040_0083u);
        for (uint i = 0; i < 1024; i++)
            _g.Write(pt + i * 4, i << 12 | 3);
        _g.S->Cr3 = pd;
        _g.S->Cr4 = Cr4.PSE;
        _g.S->Cr0 |= Cr0.PG | Cr0.WP;
        _g.Write(0x400100, 0xABCDu);
        _g.Assemble(32, TestGuest.Code, a =>
        {
            a.mov(eax, __dword_ptr[0x800100]);
            a.mov(__dword_ptr[0x100010], eax);
            a.hlt();
        });
        _g.S->Rip = TestGuest.Code;
        _g.Cpu.CommitState();
        _g.RunToHalt();
        Assert.Equal(0xABCDu, _g.Read<uint>(0x100010));
        Assert.Equal(0x20u, _g.Read<uint>(pd + 8) & 0x60);
        Assert.Equal(0x60u, _g.Read<uint>(large ? pd : pt + 0x100 * 4) & 0x60);
    }

    [Fact]
    public void Pae_paging_uses_its_loaded_pointers()
    {
        _g.Protected32();
        ulong pd = _g.AllocateTable(), pt = _g.AllocateTable();
        _g.Write(pd, 0x83ul);
        _g.Write(pd + 8, pt | 3);
        _g.Write(pt, TestGuest.Data | 3 | NX);
        _g.Write(TestGuest.Data, 0x77u);
        _g.S->Pdpte[0] = pd | 1;
        _g.S->Cr4 = Cr4.PAE;
        _g.S->Efer = Efer.NXE;
        _g.S->Cr0 |= Cr0.PG | Cr0.WP;
        _g.Assemble(32, TestGuest.Code, a =>
        {
            a.mov(eax, __dword_ptr[0x200000]);
            a.hlt();
        });
        _g.S->Rip = TestGuest.Code;
        _g.Cpu.CommitState();
        _g.RunToHalt();
        Assert.Equal(0x77ul, _g[Gpr.Rax]);
    }

    [Fact]
    public void Addresses_without_memory_and_rom_writes_go_to_the_machine()
    {
        using var rom = new MemorySlot("rom", 0x2000_0000, new HeapMemoryRegion(0x1000), readOnly: true);
        _g.Memory.Add(rom);
        _g.Protected32();
        _g.Host.NextRead = 0x1122_3344_5566_7788;
        _g.Assemble(32, TestGuest.Code, a =>
        {
            a.mov(ebx, 0x3000_0000);
            a.mov(eax, __dword_ptr[ebx + 4]);
            a.or(__byte_ptr[ebx + 1], 1);
            a.mov(ecx, 0x2000_0000);
            a.mov(__dword_ptr[ecx], 5);
            a.mov(edx, __dword_ptr[ecx]);
            a.hlt();
        });
        _g.RunToHalt();
        Assert.Equal(0x55667788ul, _g[Gpr.Rax]);
        Assert.Equal(0ul, _g[Gpr.Rdx]);
        Assert.Equal(["read 30000004 4", "read 30000001 1", "write 30000001 1 89", "write 20000000 4 5"], _g.Host.Log);
        _g.Memory.Remove(rom);
    }

    [Fact]
    public void Unmapped_memory_is_gone_at_once()
    {
        var extra = new MemorySlot("extra", 0x2000_0000, new HeapMemoryRegion(0x2000));
        _g.Memory.Add(extra);
        *(uint*)extra.Address = 0x42;
        _g.Protected32();
        _g[Gpr.Rbx] = 0x2000_0000;
        _g.Assemble(32, TestGuest.Code, a =>
        {
            a.mov(eax, __dword_ptr[ebx]);
            a.hlt();
        });
        _g.RunToHalt();
        Assert.Equal(0x42ul, _g[Gpr.Rax]);
        _g.Memory.Remove(extra);
        extra.Dispose();
        _g.Host.NextRead = 0xFFFF_FFFF;
        _g.S->Rip = TestGuest.Code;
        _g.RunToHalt();
        Assert.Equal(0xFFFF_FFFFul, _g[Gpr.Rax]);
    }

    [Fact]
    public void Alignment_is_checked_in_ring_3_only_when_both_bits_ask()
    {
        _g.LongMode(ring: 3);
        _g[Gpr.Rbx] = TestGuest.Data + 1;
        Assert.Equal(-1, _g.FaultOf(a => a.mov(eax, __dword_ptr[rbx])));
        _g.S->Cr0 |= Cr0.AM;
        _g.S->Rflags |= Rflags.AC;
        Assert.Equal(Vector.AC, _g.FaultOf(a => a.mov(eax, __dword_ptr[rbx])));
        _g.S->Rflags |= Rflags.AC;
        Assert.Equal(-1, _g.FaultOf(a => a.mov(al, __byte_ptr[rbx])));
    }

    [Fact]
    public void Non_canonical_addresses_fault_by_their_segment()
    {
        _g.LongMode();
        _g[Gpr.Rbx] = 0x8000_0000_0000;
        Assert.Equal(Vector.GP, _g.FaultOf(a => a.mov(al, __byte_ptr[rbx])));
        _g[Gpr.Rbp] = 0x8000_0000_0000;
        Assert.Equal(Vector.SS, _g.FaultOf(a => a.mov(al, __byte_ptr[rbp])));
    }
}
