
namespace VirtPS.Emulation.Tests;

/// <summary>Guests that try to break the engine: right results, bounded memory, never a crash. In both tiers, whatever the suite's environment says.</summary>
public sealed unsafe class HostileCodeTests
{
    private static EngineOptions Engine(bool translate, int cache = 32 << 20) => new() { Translate = translate, HotAfter = 0, CodeCacheSize = cache };

    [Theory, InlineData(false), InlineData(true)]
    public void A_loop_that_rewrites_its_own_code_forty_thousand_times(bool translate)
    {
        using var g = new TestGuest(1, Engine(translate));
        g.LongMode();
        g.Run64(a =>
        {
            Label top = a.CreateLabel(), immediate = a.CreateLabel();
            a.xor(ebx, ebx);
            a.mov(ecx, 40_000);
            a.Label(ref top);
            a.add(__dword_ptr[immediate], 3);
            // mov eax, imm32, whose immediate counts up
            a.db(0xB8);
            a.Label(ref immediate);
            a.dd(0);
            a.add(rbx, rax);
            a.dec(ecx);
            a.jne(top);
        });
        Assert.Equal(3ul * 40_000 * 40_001 / 2, g[Gpr.Rbx]);
    }

    /// <summary>Each block begins with a common check that misses, over a page end, and wants a second translation: there is none to be had while the cache is full.</summary>
    [Theory, InlineData(false), InlineData(true)]
    public void Common_checks_that_miss_in_a_cache_too_small_for_them(bool translate)
    {
        using var g = new TestGuest(1, Engine(translate, 192 << 10));
        g.LongMode();
        g[Gpr.Rsi] = TestGuest.Data + 0xFFC;
        const int Rounds = 20, Blocks = 1200;
        g.Run64(a =>
        {
            Label top = a.CreateLabel();
            a.mov(ecx, Rounds);
            a.xor(ebx, ebx);
            a.Label(ref top);
            for (int i = 0; i < Blocks; i++)
            {
                Label next = a.CreateLabel();
                a.mov(rax, __[rsi]);
                a.mov(__[rsi + 8], rdx);
                a.inc(rbx);
                a.jmp(next);
                a.Label(ref next);
            }

            a.dec(ecx);
            a.jne(top);
        });
        Assert.Equal((ulong)Rounds * Blocks, g[Gpr.Rbx]);
        Assert.Equal(2 + (ulong)Rounds * (Blocks * 4 + 2) + 1, g.S->InstructionsRetired);
    }

    [Theory, InlineData(false), InlineData(true)]
    public void Code_entered_at_each_byte_offset(bool translate)
    {
        using var g = new TestGuest(1, Engine(translate));
        g.LongMode();
        // mov rax, 90…90h: entered in its middle it is something else, but all ways lead to the HLT behind the page.
        const ulong Page = 0x40000;
        byte* p = g.Ram.Address + Page;
        for (int i = 0; i + 10 <= 4096; i += 10)
        {
            (p[i], p[i + 1]) = (0x48, 0xB8);
            new Span<byte>(p + i + 2, 8).Fill(0x90);
        }

        new Span<byte>(p + 4090, 6).Fill(0x90);
        p[4096] = 0xF4;
        for (ulong offset = 0; offset <= 4096; offset++)
        {
            // B8 without its prefix takes four bytes, all of them NOPs.
            g.S->Rip = Page + offset;
            g.Cpu.CommitState();
            g.RunToHalt();
            Assert.Equal(Page + 4097, g.S->Rip);
        }
    }

    [Theory, InlineData(false), InlineData(true)]
    public void More_code_than_the_cache_holds(bool translate)
    {
        using var g = new TestGuest(1, Engine(translate, cache: 1 << 20));
        g.LongMode();
        // Four mebibytes of short blocks: inc rax; jmp +0, over and over.
        const ulong From = 0x200000, Size = 4 << 20, Unit = 8;
        for (ulong at = From; at < From + Size; at += Unit)
            g.Write(at, 0x9090_00EB_90C0_FF48ul);
        g.Write(From + Size, (byte)0xF4);
        g.Partition.InvalidateCode(g.Ram, From, Size + 1);
        long before = GC.GetTotalMemory(false);
        for (ulong round = 1; round <= 2; round++)
        {
            g.S->Rip = From;
            g.Cpu.CommitState();
            g.RunToHalt();
            Assert.Equal(round * (Size / Unit), g[Gpr.Rax]);
        }

        Assert.True(GC.GetTotalMemory(false) - before < 64 << 20, "The managed heap grew with the guest's code.");
    }

    [Theory, InlineData(false), InlineData(true)]
    public void One_page_of_code_at_ten_thousand_addresses(bool translate)
    {
        using var g = new TestGuest(1, Engine(translate, cache: 4 << 20));
        g.LongMode();
        const ulong Linear = 1ul << 30, Function = 0x40000, Count = 10_000;
        ulong pdpt = g.Read<ulong>(g.S->Cr3) & PageBits.AddressMask, pd = g.AllocateTable();
        g.Write(pdpt + 8, pd | 7);
        for (ulong i = 0; i < Count; i++)
        {
            ulong slot = pd + (i >> 9) * 8;
            if ((i & 511) == 0)
                g.Write(slot, g.AllocateTable() | 7);
            g.Write((g.Read<ulong>(slot) & PageBits.AddressMask) + (i & 511) * 8, Function | 0x67);
        }

        g.Assemble(64, Function, a =>
        {
            a.inc(rax);
            a.ret();
        });
        g.Run64(a =>
        {
            Label again = a.CreateLabel(), next = a.CreateLabel();
            a.xor(eax, eax);
            a.mov(edx, 3);
            a.Label(ref again);
            a.mov(rbx, Linear);
            a.mov(ecx, (int)Count);
            a.Label(ref next);
            a.call(rbx);
            a.add(rbx, 4096);
            a.dec(ecx);
            a.jne(next);
            a.dec(edx);
            a.jne(again);
        });
        Assert.Equal(3 * Count, g[Gpr.Rax]);
    }

    [Theory, InlineData(false), InlineData(true)]
    public void A_segment_of_one_byte(bool translate)
    {
        using var g = new TestGuest(1, Engine(translate));
        g.Protected32();
        g.S->DS = g.S->DS with { Base = (uint)TestGuest.Data, Limit = 0 };
        g.Write(TestGuest.Data, (byte)0x5A);
        g.Cpu.CommitState();
        Assert.Equal(-1, g.FaultOf(a => a.mov(al, __byte_ptr[0]), 32));
        Assert.Equal(0x5Aul, g[Gpr.Rax] & 0xFF);
        Assert.Equal(Vector.GP, g.FaultOf(a => a.mov(ax, __word_ptr[0]), 32));
        Assert.Equal(Vector.GP, g.FaultOf(a => a.mov(al, __byte_ptr[1]), 32));
    }

    [Theory, InlineData(false), InlineData(true)]
    public void Running_over_a_page_end_into_nothing(bool translate)
    {
        using var g = new TestGuest(1, Engine(translate));
        g.LongMode();
        const ulong Linear = 1ul << 30, Page = 0x40000;
        ulong pdpt = g.Read<ulong>(g.S->Cr3) & PageBits.AddressMask, pd = g.AllocateTable(), table = g.AllocateTable();
        g.Write(pdpt + 8, pd | 7);
        g.Write(pd, table | 7);
        g.Write(table, Page | 0x67);
        new Span<byte>(g.Ram.Address + Page, 4096).Fill(0x90);
        for (int round = 0; round < 3; round++)
        {
            Assert.Equal((Linear + 4096, Linear + 4096), PageFaultOf(g, Linear + 4000));
            // The beginning of a long instruction at the very end: it faults for its second page, and RIP is where it begins.
            (*(g.Ram.Address + Page + 4094), *(g.Ram.Address + Page + 4095)) = (0xC7, 0x05);
            g.Partition.InvalidateCode(g.Ram, Page, 4096);
            Assert.Equal((Linear + 4094, Linear + 4096), PageFaultOf(g, Linear + 4000));
            new Span<byte>(g.Ram.Address + Page + 4094, 2).Fill(0x90);
            g.Partition.InvalidateCode(g.Ram, Page, 4096);
        }
    }

    /// <summary>Runs until #PF and returns its RIP and CR2.</summary>
    private static (ulong Rip, ulong Cr2) PageFaultOf(TestGuest g, ulong start)
    {
        g.WriteFaultTables(64);
        g.S->Rip = start;
        g.S->Gpr[(int)Gpr.Rsp] = TestGuest.Stack;
        g.Cpu.CommitState();
        g.RunToHalt();
        Assert.Equal(TestGuest.Handlers + (ulong)Vector.PF + 1, g.S->Rip);
        return (g.Read<ulong>(g[Gpr.Rsp] + 8), g.S->Cr2);
    }
}
