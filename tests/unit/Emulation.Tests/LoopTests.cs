namespace VirtPS.Emulation.Tests;

/// <summary>
/// Loops of one block, for which generated code hoists checks out of many rounds, and of several, which become one where the interpreter has seen which way they go: random ones, over pages that lie
/// anywhere or are not there, against the interpreter. Registers, flags, memory, the fault and the count of instructions must be the same.
/// </summary>
public sealed unsafe partial class LoopTests
{
    private const ulong Array = 0x40_0000, Frames = 0x20_0000;
    private const int Pages = 16;

    private enum Kind
    {
        OneBlock, SeveralBlocks,

        /// <summary>Short, of one block or several, without memory.</summary>
        Registers,

        /// <summary>Of one block or several, which only count and compare.</summary>
        Counting,

        /// <summary>Of one block, which look up what they read in tables near page ends.</summary>
        Tables,
    }

    private static readonly AssemblerRegister64[] s_bases = [rsi, rdi, rbx, r8, r12, rbp];

    [Theory]
    [InlineData(0, 1)]
    [InlineData(0, 2)]
    [InlineData(3, 3)]
    [InlineData(3, 4)]
    public void Random_loops_do_what_the_interpreter_does(int ring, int seed) => Compare(ring, seed, hotAfter: 0, Kind.OneBlock);

    [Theory]
    [InlineData(0, 5)]
    [InlineData(0, 6)]
    [InlineData(3, 7)]
    [InlineData(3, 8)]
    public void Random_loops_of_several_blocks_do_what_the_interpreter_does(int ring, int seed) => Compare(ring, seed, hotAfter: 4, Kind.SeveralBlocks);

    [Theory]
    [InlineData(0, 9)]
    [InlineData(3, 10)]
    [InlineData(3, 11)]
    public void Random_short_loops_of_registers_do_what_the_interpreter_does(int ring, int seed) => Compare(ring, seed, hotAfter: 4, Kind.Registers);

    [Theory]
    [InlineData(0, 12)]
    [InlineData(0, 13)]
    [InlineData(3, 14)]
    [InlineData(3, 15)]
    public void Random_loops_that_only_count_do_what_the_interpreter_does(int ring, int seed) => Compare(ring, seed, hotAfter: 4, Kind.Counting);

    [Theory]
    [InlineData(0, 16)]
    [InlineData(3, 17)]
    public void Random_loops_over_tables_do_what_the_interpreter_does(int ring, int seed) => Compare(ring, seed, hotAfter: 0, Kind.Tables);

    private static void Compare(int ring, int seed, int hotAfter, Kind kind)
    {
        Assert.SkipUnless(EngineOptions.CanTranslate, "this host cannot run generated code");
        var random = new Random(seed);
        using var interpreter = new TestGuest(engine: new EngineOptions());
        int traces = 0, repeats = 0, counting = 0, faults = 0;
        using var translator = new TestGuest(engine: new EngineOptions
        {
            Translate = true, HotAfter = hotAfter,
            AfterTranslation = (cpu, at) =>
            {
                Block* decoded = cpu.Translations!.At(((Block*)at)->Translation).Decoded;
                repeats += IsRepeated(decoded) ? 1 : 0;
                counting += OnlyCounts(decoded) ? 1 : 0;
                traces += !IsRepeated(decoded) && FollowsCondition(decoded) ? 1 : 0;
            },
        });
        ulong table = Prepare(interpreter, ring);
        Assert.Equal(table, Prepare(translator, ring));
        using var stop = new CancellationTokenSource();
        // Loops look for requests now and then; there always is one.
        Thread kicks = Kick(translator.Cpu, stop.Token);
        try
        {
            for (int i = 0; i < 400; i++)
            {
                int code = random.Next(), data = random.Next();
                string text = Run(interpreter, ring, table, code, data, kind);
                Assert.Equal((code, text), (code, Run(translator, ring, table, code, data, kind)));
                faults += interpreter.S->Cr2 != 0 ? 1 : 0;
            }
        }
        finally
        {
            stop.Cancel();
            kicks.Join();
        }

        Assert.True(faults > 20, $"{faults} loops met a page that is not there or may not be written");
        Assert.True(kind == Kind.SeveralBlocks ? traces > 20 : kind is Kind.Registers or Kind.Counting || traces == 0, $"{traces} loops of several blocks were put together");
        Assert.True(kind != Kind.Registers || repeats > 100, $"{repeats} rounds were written several times");
        Assert.True(kind != Kind.Counting || counting > 200, $"{counting} loops only count");
    }

    private static bool OnlyCounts(Block* decoded)
    {
        int end = 0;
        while (end < decoded->Count && !(HotForms.IsConditionalBranch(decoded->Ops[end].Code) && decoded->Ops[end].Imm == 0))
            end++;
        return end < decoded->Count && new CountingLoop().TryRead(decoded->Ops, end + 1);
    }

    /// <summary>Whether what was translated goes on where a conditional branch leads.</summary>
    private static bool FollowsCondition(Block* decoded)
    {
        for (Op* op = decoded->Ops; op < decoded->Ops + decoded->Count - 1; op++)
        {
            if (HotForms.IsConditionalBranch(op->Code) && op[1].Offset != op->Offset + op->Length)
                return true;
        }

        return false;
    }

    /// <summary>Whether what was translated has its first instruction twice.</summary>
    private static bool IsRepeated(Block* decoded)
    {
        for (uint i = 1; i < decoded->Count; i++)
        {
            if (decoded->Ops[i].Offset == 0)
                return true;
        }

        return false;
    }

    private static Thread Kick(SoftVcpu cpu, CancellationToken stop)
    {
        var thread = new Thread(() =>
        {
            while (!stop.IsCancellationRequested)
            {
                cpu.Kick();
                Thread.SpinWait(50);
            }
        });
        thread.Start();
        return thread;
    }

    private static ulong Prepare(TestGuest g, int ring)
    {
        g.LongMode(ring: ring);
        g.S->Cr4 |= Cr4.OSXSAVE;
        g.S->Xcr0 = Xcr0.X87 | Xcr0.Sse | Xcr0.Avx;
        g.Cpu.CommitState();
        g.WriteFaultTables(64);
        ulong pd = g.Read<ulong>(g.Read<ulong>(g.S->Cr3) & PageBits.AddressMask) & PageBits.AddressMask;
        ulong table = g.AllocateTable();
        g.Write(pd + (Array >> 21) * 8, table | 7);
        return table;
    }

    /// <summary>Everything that can be seen behind one random loop.</summary>
    private static string Run(TestGuest g, int ring, ulong table, int code, int data, Kind kind)
    {
        Map(g, table, new Random(data));
        if (kind == Kind.Registers)
            EmitShort(g, new Random(code));
        else if (kind == Kind.Counting)
            EmitCounting(g, new Random(code));
        else if (kind == Kind.Tables)
            EmitTables(g, new Random(code));
        else
            Emit(g, new Random(code), kind == Kind.SeveralBlocks);
        var random = new Random(data ^ 0x5555);
        for (int r = 0; r < 16; r++)
            g.S->Gpr[r] = (ulong)random.NextInt64();
        foreach (AssemblerRegister64 r in s_bases)
            g.S->Gpr[Number(r)] = Array + (ulong)random.Next(Pages * 4096) & (random.Next(3) == 0 ? ~0ul : ~31ul);
        g[Gpr.Rax] = (ulong)random.Next(64) * 8;
        g[Gpr.Rdx] = (ulong)random.Next(256);
        g[Gpr.Rcx] = (ulong)random.Next(1, random.Next(2) == 0 ? 20 : 3000);
        if (kind == Kind.Counting)
            SetCounters(g, random);
        if (kind == Kind.Tables)
            (g[Gpr.R8], g[Gpr.Rdi]) = (Array + (ulong)random.Next(1, Pages) * 4096 - (ulong)random.Next(2200), Array + (ulong)random.Next(1, Pages) * 4096 - (ulong)random.Next(600));
        g[Gpr.Rsp] = Array + (ulong)random.Next(2, Pages) * 4096 - (ulong)random.Next(16) * 8;
        g.S->Rip = TestGuest.Code;
        g.S->Rflags = 2;
        ulong before = g.S->InstructionsRetired;
        (SegmentRegister cs, SegmentRegister ss) = (g.S->CS, g.S->SS);
        VcpuExit exit = g.Cpu.Run();
        g.S->MpState = MpState.Runnable;
        var hash = new HashCode();
        hash.AddBytes(new ReadOnlySpan<byte>(g.Ram.Address + Frames, Pages * 4096));
        hash.AddBytes(new ReadOnlySpan<byte>(g.S->Xsave, 512));
        string registers = string.Join(' ', Enumerable.Range(0, 16).Select(r => g.S->Gpr[r].ToString("x", null)));
        string end = $"{exit} rip {g.S->Rip:x} flags {g.S->Rflags:x} cr2 {g.S->Cr2:x} retired {g.S->InstructionsRetired - before} {registers} memory {hash.ToHashCode():x}";
        (g.S->CS, g.S->SS, g.S->Cpl) = (cs, ss, (byte)ring);
        g.Cpu.CommitState();
        return end;
    }

    /// <summary>The array's pages in any order, one in eight not there, one in eight read-only; then contents.</summary>
    private static void Map(TestGuest g, ulong table, Random random)
    {
        int[] order = [.. Enumerable.Range(0, Pages)];
        random.Shuffle(order);
        for (int i = 0; i < Pages; i++)
        {
            uint rights = random.Next(8) switch { 0 => 0u, 1 => 5u, _ => 7u };
            g.Write(table + (ulong)i * 8, Frames + (ulong)order[i] * 4096 | rights);
        }

        random.NextBytes(new Span<byte>(g.Ram.Address + Frames, Pages * 4096));
        g.S->Cr2 = 0;
        g.Cpu.FlushTlb(global: true);
    }

    private static int Number(AssemblerRegister64 r) => (Register)r - Register.RAX;
}
