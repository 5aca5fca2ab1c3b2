using Iced.Intel;
using VirtPS.X86;
using static Iced.Intel.AssemblerRegisters;
using static VirtPS.Emulation.SystemTests.Guest32;
using Gpr = VirtPS.X86.Gpr;

namespace VirtPS.Emulation.SystemTests;

/// <summary>Control registers, XCR0, MSRs, fast system calls.</summary>
public unsafe class ControlTests
{
    private static Report32? Try(Action<Guest32> prepare, Action<Assembler> code, out Guest32 guest, int ring = 0)
    {
        var g = new Guest32();
        g.Start(ring, a =>
        {
            code(a);
            a.hlt();
        });
        prepare(g);
        g.Commit();
        g.RunToHalt();
        guest = g;
        return g.Read32(Report) == uint.MaxValue ? null : g.LastReport();
    }

    [Theory]
    [InlineData(0x8000_0010u)] // PG without PE
    [InlineData(0x2000_0011u)] // NW without CD
    public void Bad_CR0_is_GP(uint value)
    {
        Report32? r = Try(_ => { }, a =>
        {
            a.mov(eax, value);
            a.mov(cr0, eax);
        }, out Guest32 g);
        using (g)
            Assert.Equal((Vector.GP, 0u, CodeBase + 5), (r!.Value.Vector, r.Value.Error, r.Value.Eip));
    }

    [Theory]
    [InlineData(0x8000_0000u, true)]
    [InlineData(0x0000_1000u, true)]  // LA57 is not offered
    [InlineData(0x0002_0000u, true)]  // PCIDE outside long mode
    [InlineData(0x0031_0E9Fu, false)]
    public void CR4_takes_what_CPUID_offers(uint value, bool refused)
    {
        Report32? r = Try(_ => { }, a =>
        {
            a.mov(eax, value);
            a.mov(cr4, eax);
        }, out Guest32 g);
        using (g)
        {
            Assert.Equal(refused, r is { Vector: Vector.GP });
            Assert.Equal(refused ? 0 : value, g.S->Cr4);
        }
    }

    [Fact]
    public void A_reserved_bit_in_a_PDPTE_is_GP_at_the_CR3_load()
    {
        Report32? r = Try(g =>
        {
            g.Machine.Write64(0x40000, 0x41001);
            g.Machine.Write64(0x40008, 0x41001 | 1 << 5);
            g.S->Cr4 = Cr4.PAE;
        }, a =>
        {
            a.mov(eax, 0x40000);
            a.mov(cr3, eax);
            a.mov(eax, cr0);
            a.or(eax, int.MinValue);
            a.mov(cr0, eax);
        }, out Guest32 g);
        using (g)
        {
            // Without paging CR3 alone loads nothing; turning paging on does.
            Assert.Equal(Vector.GP, r!.Value.Vector);
            Assert.Equal(0x40000ul, g.S->Cr3);
            Assert.Equal(0ul, g.S->Cr0 & Cr0.PG);
        }
    }

    [Fact]
    public void PAE_paging_uses_the_loaded_PDPTEs()
    {
        Report32? r = Try(g =>
        {
            g.Machine.Write64(0x40000, 0x41001);
            g.Machine.Write64(0x41000, 0x87);
            g.Machine.Write64(0x41008, 0x87);
            g.S->Cr4 = Cr4.PAE;
        }, a =>
        {
            a.mov(eax, 0x40000);
            a.mov(cr3, eax);
            a.mov(eax, cr0);
            a.or(eax, int.MinValue);
            a.mov(cr0, eax);
            // 2 MiB + DataBase is an alias of DataBase. A PDPTE cleared in memory is not seen before CR3 is loaded again.
            a.mov(__dword_ptr.ds[0x40000], 0);
            a.mov(__dword_ptr.ds[0x20_0000 + (int)DataBase], 0x77);
        }, out Guest32 g);
        using (g)
        {
            Assert.Null(r);
            Assert.Equal(0x77u, g.Read32(DataBase));
        }
    }

    [Theory]
    [InlineData(0u, 7u, Vector.UD, false)] // OSXSAVE off
    [InlineData(0u, 6u, Vector.GP, true)]  // x87 missing
    [InlineData(0u, 5u, Vector.GP, true)]  // AVX without SSE
    [InlineData(1u, 7u, Vector.GP, true)]  // XCR1
    [InlineData(0u, 0xE3u, Vector.GP, true)] // AVX-512 without AVX
    [InlineData(0u, 0xE5u, Vector.GP, true)] // and without SSE
    [InlineData(0u, 0x27u, Vector.GP, true)] // a part of AVX-512
    [InlineData(0u, 0xC7u, Vector.GP, true)]
    [InlineData(0u, 0x1Fu, Vector.GP, true)] // MPX
    [InlineData(0u, 3u, -1, true)]
    public void XSETBV(uint index, uint value, int vector, bool enabled)
    {
        Report32? r = Try(g => g.S->Cr4 = enabled ? Cr4.OSXSAVE : 0, a =>
        {
            a.mov(ecx, index);
            a.mov(eax, value);
            a.xor(edx, edx);
            a.xsetbv();
        }, out Guest32 g);
        using (g)
        {
            Assert.Equal(vector, r?.Vector ?? -1);
            Assert.Equal(vector < 0 ? value : 1, g.S->Xcr0);
        }
    }

    [Theory]
    [InlineData(7ul, 7ul, true)]
    [InlineData(0xE7ul, 0xE7ul, true)]
    [InlineData(0xE7ul, 7ul, false)]
    [InlineData(0xE3ul, 0xE7ul, false)]
    [InlineData(0xE1ul, 0xE7ul, false)]
    [InlineData(0x67ul, 0xE7ul, false)]
    [InlineData(0x87ul, 0xE7ul, false)]
    [InlineData(0xE6ul, 0xE7ul, false)]
    [InlineData(0ul, 0xE7ul, false)]
    [InlineData(1ul, 0xE7ul, true)]
    public void XCR0_takes_what_belongs_together_and_is_offered(ulong value, ulong offered, bool valid) => Assert.Equal(valid, Xcr0.IsValid(value, offered));

    private static void WriteMsr(Assembler a, uint msr, ulong value)
    {
        a.mov(ecx, msr);
        a.mov(eax, (uint)value);
        a.mov(edx, (uint)(value >> 32));
        a.wrmsr();
    }

    [Theory]
    [InlineData(Msr.Pat, 0x0007_0406_0007_0402ul)]        // type 2 is reserved
    [InlineData(Msr.KernelGsBase, 0x0000_8000_0000_0000ul)]
    [InlineData(Msr.Lstar, 0x8000_0000_0000_0000ul)]
    [InlineData(Msr.Efer, 1ul << 12)]                     // SVME is not offered
    [InlineData(Msr.MtrrDefType, 0x802ul)]
    [InlineData(Msr.MtrrPhysBase0, 1ul << 52)]
    [InlineData(Msr.MtrrCap, 0x508ul)]                    // read-only
    [InlineData(Msr.TscAux, 1ul << 32)]
    [InlineData(Msr.SpecCtrl, 1ul)]                       // not offered
    [InlineData(0x0000_3000u, 0ul)]
    public void A_refused_MSR_write_is_GP(uint msr, ulong value)
    {
        Report32? r = Try(_ => { }, a => WriteMsr(a, msr, value), out Guest32 g);
        using (g)
            Assert.Equal((Vector.GP, 0u, CodeBase + 15), (r!.Value.Vector, r.Value.Error, r.Value.Eip));
    }

    [Theory]
    [InlineData(Msr.Pat, 0x0007_0406_0007_0405ul)]
    [InlineData(Msr.Star, 0x0023_0010_1234_5678ul)]
    [InlineData(Msr.Lstar, 0xFFFF_8000_0000_1000ul)]
    [InlineData(Msr.KernelGsBase, 0xFFFF_8880_0000_0000ul)]
    [InlineData(Msr.SysenterEsp, 0x1234ul)]
    [InlineData(Msr.MtrrDefType, 0xC00ul)]
    [InlineData(Msr.MtrrPhysBase0 + 2, 0x8000_0006ul)]
    [InlineData(Msr.MtrrPhysMask7, 0xFF_C000_0800ul)]
    [InlineData(Msr.MtrrFix4KC0000, 0x0606_0606_0606_0606ul)]
    [InlineData(Msr.Efer, Efer.SCE | Efer.NXE | 1ul << 21)]
    [InlineData(Msr.HwCr, 0x0100_0010ul)]
    [InlineData(0xC001_001Fu, 1ul << 46)]
    public void An_MSR_reads_back_what_was_written(uint msr, ulong value)
    {
        Report32? r = Try(_ => { }, a =>
        {
            WriteMsr(a, msr, value);
            a.xor(eax, eax);
            a.xor(edx, edx);
            a.rdmsr();
        }, out Guest32 g);
        using (g)
        {
            Assert.Null(r);
            Assert.Equal(value, g[Gpr.Rax] | (ulong)g[Gpr.Rdx] << 32);
        }
    }

    [Theory]
    [InlineData(Msr.HwCr, 1ul << 24)]
    [InlineData(Msr.DeCfg, 2ul)]
    [InlineData(Msr.MtrrDefType, 0xC06ul)]
    [InlineData(Msr.MtrrPhysMask7 - 14, 0xFF_C000_0800ul)]
    [InlineData(Msr.McgCap, 0ul)]
    [InlineData(Msr.BiosSignId, 0x0B00_21FFul)]
    public void Power_on_values(uint msr, ulong value)
    {
        Report32? r = Try(_ => { }, a =>
        {
            a.mov(ecx, msr);
            a.rdmsr();
        }, out Guest32 g);
        using (g)
        {
            Assert.Null(r);
            Assert.Equal(value, g[Gpr.Rax] | (ulong)g[Gpr.Rdx] << 32);
        }
    }

    [Fact]
    public void TSC_ADJUST_moves_the_TSC_and_follows_it()
    {
        Report32? r = Try(_ => { }, a =>
        {
            WriteMsr(a, Msr.TscAdjust, 0x100_0000_0000);
            a.rdtsc();
            a.mov(ebx, edx);
            WriteMsr(a, Msr.Tsc, 0);
            a.mov(ecx, Msr.TscAdjust);
            a.rdmsr();
        }, out Guest32 g);
        using (g)
        {
            Assert.Null(r);
            Assert.Equal(0x100u, g[Gpr.Rbx]);
            // Back by what the TSC was: the adjustment is what the offset is.
            Assert.Equal(g.S->TscOffset, g.S->TscAdjust);
            Assert.Equal((uint)g.S->TscAdjust, g[Gpr.Rax]);
        }
    }

    [Fact]
    public void RDMSR_in_ring_3_is_GP()
    {
        Report32? r = Try(_ => { }, a => a.rdmsr(), out Guest32 g, ring: 3);
        using (g)
            Assert.Equal((Vector.GP, 0u), (r!.Value.Vector, r.Value.Error));
    }

    [Fact]
    public void RDTSC_in_ring_3_obeys_TSD()
    {
        Report32? r = Try(g => g.S->Cr4 = Cr4.TSD, a => a.rdtsc(), out Guest32 g, ring: 3);
        using (g)
            Assert.Equal((Vector.GP, CodeBase), (r!.Value.Vector, r.Value.Eip));
    }

    [Fact]
    public void SYSENTER_and_SYSEXIT_between_rings_3_and_0()
    {
        using var g = new Guest32();
        g.SetDescriptor(0xC0, 0x00CF_9B00_0000_FFFF);
        g.Place(CodeBase + 0x1000, a =>
        {
            a.mov(ebx, cs);
            a.mov(esi, esp);
            a.mov(edx, (int)CodeBase + 0x2000);
            a.mov(ecx, (int)StackTop(3));
            a.sysexit();
        });
        g.Place(CodeBase + 0x2000, a => a.ud2());
        g.Start(3, a => a.sysenter());
        g.S->SysenterCs = 0xC0;
        g.S->SysenterEsp = StackTop(0);
        g.S->SysenterEip = CodeBase + 0x1000;
        g.S->Rflags |= Rflags.IF;
        g.Commit();
        Report32 r = g.RunToReport();
        Assert.Equal((0xC0u, StackTop(0)), (g[Gpr.Rbx], g[Gpr.Rsi]));
        Assert.Equal((Vector.UD, 0xD3u, 0xDBu, CodeBase + 0x2000, StackTop(3)), (r.Vector, r.Cs, r.Ss, r.Eip, r.Esp));
        Assert.Equal(0ul, r.Eflags & Rflags.IF);
    }

    [Fact]
    public void LMSW_sets_but_never_clears_PE()
    {
        Report32? r = Try(_ => { }, a =>
        {
            a.mov(ax, 8);
            a.lmsw(ax);
            a.smsw(ebx);
            a.clts();
        }, out Guest32 g);
        using (g)
        {
            Assert.Null(r);
            Assert.Equal(Cr0.PE | Cr0.TS, g[Gpr.Rbx] & (Cr0.PE | Cr0.TS));
            Assert.Equal(Cr0.PE, g.S->Cr0 & (Cr0.PE | Cr0.TS));
        }
    }
}
