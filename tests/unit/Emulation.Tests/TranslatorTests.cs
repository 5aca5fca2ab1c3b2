using System.Runtime.InteropServices;

namespace VirtPS.Emulation.Tests;

/// <summary>Generated code in the process around it, and guests that make it hard.</summary>
public sealed unsafe partial class TranslatorTests
{
    private static TestGuest Guest(int vcpus = 1, int codeCache = 32 << 20, bool slowPext = false)
    {
        Assert.SkipUnless(EngineOptions.CanTranslate, "this host cannot run generated code");
        return new TestGuest(vcpus, TestGuest.Translator with { CodeCacheSize = codeCache, AvoidPext = slowPext });
    }

    /// <summary>
    /// The entry design: while generated code runs, the stack pointer is in the vCPU's own memory. Signals push their frames there, helpers run on the thread's stack, and
    /// collections neither wait for the guest nor are disturbed by it.
    /// </summary>
    [Fact]
    public void Collections_and_signals_do_not_disturb_generated_code()
    {
        using TestGuest g = Guest();
        g.LongMode();
        g.Assemble(64, TestGuest.Code, a =>
        {
            Label top = a.CreateLabel();
            a.Label(ref top);
            a.add(rbx, rax);
            a.mov(__[TestGuest.Data], rbx);
            a.inc(__qword_ptr[TestGuest.Data + 8]);
            // A port read is a helper in managed code.
            a.@in(al, 0x80);
            a.mov(eax, 3);
            a.dec(ecx);
            a.jnz(top);
            a.hlt();
        });
        g[Gpr.Rcx] = 300_000;
        bool done = false;
        int collections = GC.CollectionCount(0), sent = 0, vcpu = CurrentThread();
        var thread = new Thread(() =>
        {
            // .NET's handler writes each to a pipe, and would wait for its reader while that waits for the end of a collection: fewer than the pipe holds.
            const int MaxSignals = 10_000;
            using PosixSignalRegistration quiet = PosixSignalRegistration.Create((PosixSignal)28, c => c.Cancel = true);
            while (!Volatile.Read(ref done))
            {
                _ = new byte[1000];
                GC.Collect(0);
                if (sent < MaxSignals && SignalThread(Environment.ProcessId, vcpu, 28) == 0)
                    sent++;
                // One collection right behind the other would hold the guest at each of its port reads.
                Thread.Sleep(1);
            }
        });
        thread.Start();
        g[Gpr.Rax] = 3;
        g.RunToHalt();
        Volatile.Write(ref done, true);
        thread.Join();
        Assert.Equal(900_000ul, g[Gpr.Rbx]);
        Assert.Equal(300_000ul, g.Read<ulong>(TestGuest.Data + 8));
        Assert.True(GC.CollectionCount(0) > collections);
        Assert.True(sent > 1, $"{sent} signals");
        Assert.True(g.Cpu.TranslatedBlocks > 0);
    }

    [Fact]
    public void A_fault_of_generated_code_ends_this_machine_alone_and_is_reported()
    {
        using TestGuest g = Guest(), other = Guest();
        g.LongMode();
        other.LongMode();
        g.Run64(a => a.mov(eax, 5));
        Assert.Equal(5ul, g[Gpr.Rax]);
        TranslationCache cache = g.Cpu.Translations!;
        // Something that no translation contains: a write to address 0.
        byte* code = cache.Executable(1) - cache.Shift;
        new byte[] { 0xA3, 0, 0, 0, 0, 0, 0, 0, 0 }.CopyTo(new Span<byte>(code, 9));
        g.S->Rip = TestGuest.Code;
        var e = Assert.Throws<InvalidOperationException>(() => g.RunToHalt());
        Assert.Contains("signal 11", e.Message, StringComparison.Ordinal);
        Assert.Contains("linear 0x10000", e.Message, StringComparison.Ordinal);
        string report = FaultReport.Write(cache, g.S, (ulong)cache.Executable(1), 11);
        Assert.Contains("mov eax,5", report, StringComparison.Ordinal);
        other.Run64(a => a.mov(eax, 6));
        Assert.Equal(6ul, other[Gpr.Rax]);
    }

    [Fact]
    public void A_full_code_cache_is_made_anew()
    {
        using TestGuest g = Guest(codeCache: 256 * 1024);
        g.LongMode();
        // 4,000 functions of their own, called twice in turn.
        for (int i = 0; i < 4000; i++)
        {
            int n = i;
            g.Assemble(64, TestGuest.Data + (ulong)i * 64, a =>
            {
                a.add(rax, n);
                a.mov(__[TestGuest.Data - 8], rax);
                a.ret();
            });
        }

        g.Assemble(64, TestGuest.Code, a =>
        {
            Label again = a.CreateLabel(), top = a.CreateLabel();
            a.xor(eax, eax);
            a.mov(edx, 2);
            a.Label(ref again);
            a.mov(ebx, (uint)TestGuest.Data);
            a.mov(ecx, 4000);
            a.Label(ref top);
            a.call(rbx);
            a.add(rbx, 64);
            a.dec(ecx);
            a.jnz(top);
            a.dec(edx);
            a.jnz(again);
            a.hlt();
        });
        g.RunToHalt();
        Assert.Equal(2ul * 3999 * 4000 / 2, g[Gpr.Rax]);
        Assert.True(g.Cpu.Translations!.Used <= 256 * 1024);
    }

    [Fact]
    public void One_page_of_code_at_ten_thousand_addresses()
    {
        using TestGuest g = Guest();
        g.LongMode();
        ulong pdpt = g.Read<ulong>(g.S->Cr3) & PageBits.AddressMask;
        ulong pd = g.AllocateTable();
        g.Write(pdpt + 8, pd | 7);
        for (ulong t = 0; t < 20; t++)
        {
            ulong table = g.AllocateTable();
            g.Write(pd + t * 8, table | 7);
            for (ulong i = 0; i < 512; i++)
                g.Write(table + i * 8, 0x20000ul | 7);
        }

        // Returns the page that it runs in.
        g.Assemble(64, 0x20000, a =>
        {
            a.db(0x48, 0x8D, 0x05, 0, 0, 0, 0);
            a.ret();
        });
        g.Run64(a =>
        {
            Label top = a.CreateLabel();
            a.mov(ebx, 0x4000_0000);
            a.mov(ecx, 10_000);
            a.xor(edi, edi);
            a.Label(ref top);
            a.call(rbx);
            a.sub(rax, rbx);
            a.add(rdi, rax);
            a.add(rbx, 0x1000);
            a.dec(ecx);
            a.jnz(top);
        });
        Assert.Equal(70_000ul, g[Gpr.Rdi]);
    }

    [Fact]
    public void Every_byte_offset_can_be_jumped_to()
    {
        using TestGuest g = Guest();
        g.LongMode();
        // 256 times PUSH RAX's neighbour: 48 FF C0 is INC RAX, FF C0 INC EAX, C0 90 .. differs; each start must decode for itself.
        byte[] pattern = [0x48, 0xFF, 0xC0];
        for (int i = 0; i < 256; i++)
            pattern.CopyTo(new Span<byte>(g.Ram.Address + TestGuest.Data + i * 3, 3));
        g.Write(TestGuest.Data + 768, (byte)0xC3);
        ulong expected = 0, sum = 0;
        for (int start = 0; start < 768; start++)
        {
            // From a C0 byte on it is ROL/ROR group: left out.
            if (start % 3 == 2)
                continue;
            expected = (ulong)(256 - start / 3);
            g[Gpr.Rbx] = TestGuest.Data + (ulong)start;
            g.Run64(a =>
            {
                a.xor(eax, eax);
                a.call(rbx);
            });
            Assert.Equal(expected, g[Gpr.Rax]);
            sum += g[Gpr.Rax];
        }

        Assert.NotEqual(0ul, sum);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Both_ways_to_index_the_tlb_give_the_same(bool slowPext)
    {
        using TestGuest g = Guest(slowPext: slowPext);
        g.LongMode();
        g.Run64(a =>
        {
            Label top = a.CreateLabel(), f = a.CreateLabel(), end = a.CreateLabel();
            a.mov(ecx, 2000);
            a.mov(ebx, (uint)TestGuest.Data);
            a.xor(eax, eax);
            a.Label(ref top);
            a.mov(__[rbx + 3], rcx);
            a.add(rax, __[rbx + 3]);
            a.call(f);
            a.add(rbx, 0x7FD);
            a.dec(ecx);
            a.jnz(top);
            a.jmp(end);
            a.Label(ref f);
            a.push(rcx);
            a.pushfq();
            a.popfq();
            a.pop(rcx);
            a.ret();
            a.Label(ref end);
        });
        Assert.Equal(2000ul * 2001 / 2, g[Gpr.Rax]);
    }

    [LibraryImport("libc", EntryPoint = "tgkill")]
    private static partial int SignalThread(int process, int thread, int signal);

    [LibraryImport("libc", EntryPoint = "gettid")]
    private static partial int CurrentThread();
}
