using System.Diagnostics;

namespace VirtPS.Emulation.Tests;

/// <summary>String instructions in generated code: that they are there, exact at faults and requests, and counted as the interpreter counts them.</summary>
public sealed unsafe class TranslatedStringTests
{
    private static TestGuest Guest(bool translate = true)
    {
        Assert.SkipUnless(EngineOptions.CanTranslate, "this host cannot run generated code");
        var g = new TestGuest(1, new EngineOptions { Translate = translate, HotAfter = 0 });
        g.LongMode();
        return g;
    }

    public static TheoryData<string> Forms => ["movs", "stos", "lods", "cmps", "scas"];

    [Theory]
    [MemberData(nameof(Forms))]
    public void They_are_not_left_to_the_interpreter(string name)
    {
        using TestGuest g = Guest();
        foreach (int size in (ReadOnlySpan<int>)[1, 2, 4, 8])
        {
            foreach (int prefix in (ReadOnlySpan<int>)[0, 0xF3, 0xF2])
            {
                g.Assemble(64, TestGuest.Code, a =>
                {
                    Emit(a, name, size, prefix);
                    a.ud2();
                });
                int translation = g.Cpu.TranslateOnly(TestGuest.Code);
                Assert.False(g.Cpu.Translations!.At(translation).Block->Ops->Has(OpFlags.LeftToInterpreter), $"{name} {size} {prefix:X}");
            }
        }
    }

    /// <summary>Over three pages, of which the code finds none in the TLB at first and each of them then.</summary>
    [Theory]
    [MemberData(nameof(Forms))]
    public void Both_engines_leave_and_count_the_same(string name)
    {
        using TestGuest translated = Guest(), interpreted = Guest(translate: false);
        foreach (int size in (ReadOnlySpan<int>)[1, 2, 4, 8])
        {
            foreach (int prefix in (ReadOnlySpan<int>)[0, 0xF3, 0xF2])
            {
                foreach (ulong at in (ReadOnlySpan<ulong>)[0xFF0, 0xFF1, 0x1003])
                {
                    State first = Run(translated, name, size, prefix, at), second = Run(interpreted, name, size, prefix, at);
                    Assert.Equal(second, first);
                }
            }
        }
    }

    private readonly record struct State(ulong Rax, ulong Rcx, ulong Rsi, ulong Rdi, ulong Flags, ulong Retired, ulong Sum);

    private static State Run(TestGuest g, string name, int size, int prefix, ulong at)
    {
        const ulong Other = TestGuest.Data + 0x10000;
        for (ulong i = 0; i < 0x4000; i++)
        {
            g.Write(TestGuest.Data + i, (byte)(i >> 9));
            g.Write(Other + i, (byte)(i >> 9));
        }

        g.Write(Other + 0x2345, (byte)0x77);
        g[Gpr.Rbp] = 3;
        ulong before = g.S->InstructionsRetired;
        g.Run64(a =>
        {
            Label top = a.CreateLabel();
            a.Label(ref top);
            a.mov(rax, name == "scas" ? 0L : 0x0707070707070707);
            a.mov(rsi, TestGuest.Data + at);
            a.mov(rdi, Other + 0xF00 + at / 16);
            a.mov(ecx, 0x2000 / size);
            a.cmp(rdi, rsi);
            Emit(a, name, size, prefix);
            a.setc(bl);
            a.lea(r12, __[r12 + rbx * 2]);
            a.dec(ebp);
            a.jnz(top);
        });
        ulong sum = g[Gpr.R12];
        for (ulong i = 0; i < 0x4000; i += 8)
            sum = sum * 31 + g.Read<ulong>(Other + i);
        return new State(g[Gpr.Rax], g[Gpr.Rcx], g[Gpr.Rsi], g[Gpr.Rdi], g.Cpu.GetFlags(), g.S->InstructionsRetired - before, sum);
    }

    private static void Emit(Assembler a, string name, int size, int prefix)
    {
        int opcode = name switch { "movs" => 0xA4, "cmps" => 0xA6, "stos" => 0xAA, "lods" => 0xAC, _ => 0xAE } | (size == 1 ? 0 : 1);
        List<byte> bytes = size == 2 ? [0x66] : [];
        if (prefix != 0)
            bytes.Add((byte)prefix);
        if (size == 8)
            bytes.Add(0x48);
        a.db([.. bytes, (byte)opcode]);
    }

    /// <summary>Dead flags that were made by what the instruction changes are shown right by a fault half-way.</summary>
    [Fact]
    public void A_fault_half_way_shows_the_flags_from_before()
    {
        using TestGuest g = Guest();
        g.WriteFaultTables(64);
        g.UnmapLarge(0x40_0000);
        for (int round = 0; round < 3; round++)
        {
            (g[Gpr.Rdi], g[Gpr.Rcx], g[Gpr.Rbx], g[Gpr.Rsp]) = (0x3FEF00, 0x1400, TestGuest.Data, TestGuest.Stack);
            g.S->Cpl = 0;
            g.Run64(a =>
            {
                a.cmp(rdi, 0x3FEF00);
                a.mov(rax, __[rbx]);
                a.rep.stosb();
                a.test(rax, rax);
            });
            // In the handler: #PF, at the first byte that is not there, with ZF from the comparison.
            Assert.Equal(TestGuest.Handlers + Vector.PF, g.S->Rip - 1);
            Assert.Equal((0x400000ul, 0x300ul, 0x400000ul), (g[Gpr.Rdi], g[Gpr.Rcx], g.S->Cr2));
            Assert.Equal(Rflags.ZF, g.Read<ulong>(g[Gpr.Rsp] + 24) & Rflags.ZF);
        }
    }

    [Fact]
    public void A_request_is_seen_between_two_pages_of_a_long_copy()
    {
        using TestGuest g = Guest();
        const ulong Bytes = 0x400000;
        g.Assemble(64, TestGuest.Code, a =>
        {
            a.rep.movsb();
            a.hlt();
        });
        using var kicker = new Timer(_ => Interlocked.Or(ref g.S->Requests, (uint)VcpuRequests.Exit), null, 0, 1);
        var watch = Stopwatch.StartNew();
        bool interrupted = false;
        while (!interrupted && watch.Elapsed < TimeSpan.FromSeconds(20))
        {
            // One byte apart: slow on every processor.
            (g[Gpr.Rsi], g[Gpr.Rdi], g[Gpr.Rcx]) = (TestGuest.Data, TestGuest.Data + 1, Bytes);
            g.S->Rip = TestGuest.Code;
            g.S->MpState = MpState.Runnable;
            while (g.Cpu.Run() == VcpuExit.Kicked)
            {
                interrupted |= g[Gpr.Rcx] is > 0 and < Bytes;
                Assert.Equal(TestGuest.Data + (Bytes - g[Gpr.Rcx]), g[Gpr.Rsi]);
                Assert.Equal(g[Gpr.Rsi] + 1, g[Gpr.Rdi]);
            }

            Assert.Equal(0ul, g[Gpr.Rcx]);
        }

        Assert.True(interrupted);
    }
}
