namespace VirtPS.Emulation.Tests;

/// <summary>
/// Loops of one block, for which generated code hoists checks out of many rounds, and of several, which become one where the interpreter has seen which way they go: random ones, over pages that lie
/// anywhere or are not there, against the interpreter. Registers, flags, memory, the fault and the count of instructions must be the same.
/// </summary>
public sealed unsafe class LoopTests
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

    private static void Emit(TestGuest g, Random random, bool detours) => g.Assemble(64, TestGuest.Code, a =>
    {
        Label top = a.CreateLabel(), done = a.CreateLabel(), constant = a.CreateLabel();
        a.Label(ref top);
        int n = random.Next(1, detours ? 4 : 8);
        for (int i = 0; i < n; i++)
        {
            if (detours)
                EmitDetour(a, random, constant);
            EmitAccess(a, random, done, constant);
        }

        if (random.Next(2) == 0)
            a.add(rax, random.Next(-3, 4) * 8);
        foreach (AssemblerRegister64 r in s_bases)
        {
            int stride = random.Next(detours ? 20 : 6) switch { 0 => 1, 1 => random.Next(-64, 65), 2 => 32, 3 => -16, _ => 0 };
            if (stride == 1 && random.Next(2) == 0)
                a.inc(r);
            else if (stride != 0 && random.Next(3) == 0)
                a.lea(r, __[r + stride]);
            else if (stride != 0)
                a.add(r, stride);
        }

        EmitEnd(a, random, top, done);
        a.Label(ref constant);
        a.dq(0x123456789);
    });

    /// <summary>One to seven instructions, some of which leave the loop as data says or jump over others, and its end.</summary>
    private static void EmitShort(TestGuest g, Random random) => g.Assemble(64, TestGuest.Code, a =>
    {
        Label top = a.CreateLabel(), done = a.CreateLabel();
        a.Label(ref top);
        for (int i = random.Next(1, 8); i > 0; i--)
        {
            switch (random.Next(9))
            {
                case 0: a.add(r11, r13); break;
                case 1: a.lea(r14, __[r14 + r13 * 2 + 1]); break;
                case 2: a.xor(r9d, r14d); break;
                case 3: a.inc(rdx); break;
                case 4: a.adc(rax, rdx); break;
                case 5: a.setb(bl); break;
                case 6: a.cmp(dl, (sbyte)random.Next(-128, 128)); a.je(done); break;
                case 7: a.add(r10, r10); a.jc(done); break;
                default: EmitSkip(a, random); break;
            }
        }

        EmitEnd(a, random, top, done);
    });

    /// <summary>Counts down and goes round; behind the loop a read that may fault.</summary>
    private static void EmitEnd(Assembler a, Random random, Label top, Label done)
    {
        if (random.Next(2) == 0)
            a.dec(rcx);
        else
            a.sub(rcx, 1);
        a.jnz(top);
        a.mov(rdx, __[rsi]);
        a.Label(ref done);
        a.hlt();
    }

    private static readonly AssemblerRegister64[] s_counters = [rdx, r8, r9, r11, r13, rdi];
    private static readonly AssemblerRegister32[] s_counters32 = [edx, r8d, r9d, r11d, r13d, edi];

    /// <summary>Values near each other, and near the ends of what 32 and 64 bits hold, signed or not.</summary>
    private static void SetCounters(TestGuest g, Random random)
    {
        foreach (AssemblerRegister64 r in s_counters)
        {
            ulong near = random.Next(6) switch { 0 => 0, 1 => 1ul << 31, 2 => 1ul << 32, 3 => 1ul << 63, 4 => (ulong)random.NextInt64(), _ => 0x1000 };
            g.S->Gpr[Number(r)] = near + (ulong)random.Next(-3000, 3000);
        }

        g[Gpr.Rax] = random.Next(3) == 0 ? 0 : 0x1000ul + (ulong)random.Next(-3000, 3000);
        g[Gpr.Rcx] = (ulong)random.Next(1, random.Next(2) == 0 ? 400 : 20000);
    }

    /// <summary>Registers that move, at any place in the round; comparisons between them, with others and with constants, that leave the round or jump over something in it.</summary>
    private static void EmitCounting(TestGuest g, Random random) => g.Assemble(64, TestGuest.Code, a =>
    {
        Label top = a.CreateLabel(), done = a.CreateLabel();
        a.Label(ref top);
        a.cmp(rax, rbx);
        for (int i = random.Next(1, 5); i > 0; i--)
        {
            EmitCounter(a, random);
            if (random.Next(2) != 0)
                continue;
            EmitComparison(a, random);
            if (random.Next(3) != 0)
            {
                EmitBranch(a, random, done);
                continue;
            }

            Label on = a.CreateLabel();
            EmitBranch(a, random, on);
            if (random.Next(4) == 0)
                a.add(r14, r13);
            a.nop();
            a.Label(ref on);
            a.nop();
        }

        if (random.Next(4) == 0)
            a.sub(ecx, 1);
        else
            a.sub(rcx, 1);
        a.jnz(top);
        a.mov(rdx, __[rsi]);
        a.Label(ref done);
        a.hlt();
    });

    private static void EmitCounter(Assembler a, Random random)
    {
        // Mostly each register by one width.
        int r = random.Next(s_counters.Length), by = 1 << random.Next(4);
        bool wide = (r & 1) == 0 ^ random.Next(20) == 0;
        switch (random.Next(7))
        {
            case 0 when wide: a.inc(s_counters[r]); break;
            case 0: a.inc(s_counters32[r]); break;
            case 1 when wide: a.dec(s_counters[r]); break;
            case 1: a.dec(s_counters32[r]); break;
            case 2 or 3 when wide: a.add(s_counters[r], by); break;
            case 2 or 3: a.add(s_counters32[r], by); break;
            case 4 when wide: a.sub(s_counters[r], by); break;
            case 4: a.sub(s_counters32[r], by); break;
            case 5 when wide: a.lea(s_counters[r], __[s_counters[r] - by]); break;
            case 5: a.xor(ebp, ebp); break;
            default: a.mov(r12d, random.Next(-3000, 3000)); break;
        }
    }

    private static void EmitComparison(Assembler a, Random random)
    {
        int l = random.Next(s_counters.Length), r = random.Next(s_counters.Length);
        switch (random.Next(9))
        {
            case 0: a.cmp(s_counters[l], s_counters[r]); break;
            case 1: a.cmp(s_counters32[l], s_counters32[r]); break;
            case 2: a.cmp(s_counters[l], 0x1000); break;
            case 3: a.cmp(s_counters32[l], random.Next(-3000, 3000)); break;
            case 4: a.cmp(s_counters32[l], eax); break;
            case 5: a.cmp(rax, s_counters[l]); break;
            case 6: a.test(s_counters32[l], s_counters32[l]); break;
            case 7: a.cmp(s_counters32[l], ebp); break;
            default: a.cmp(r12, s_counters[l]); break;
        }
    }

    private static void EmitBranch(Assembler a, Random random, Label target)
    {
        switch (random.Next(11))
        {
            case 0: a.jb(target); break;
            case 1: a.jae(target); break;
            case 2: a.ja(target); break;
            case 3: a.jbe(target); break;
            case 4: a.jl(target); break;
            case 5: a.jge(target); break;
            case 6: a.jg(target); break;
            case 7: a.jle(target); break;
            case 8: a.jne(target); break;
            default: a.je(target); break;
        }
    }

    private static void EmitSkip(Assembler a, Random random)
    {
        Label on = a.CreateLabel();
        a.test(r13b, (sbyte)(1 << random.Next(3)));
        a.jne(on);
        a.inc(r12);
        a.Label(ref on);
        a.nop();
    }

    /// <summary>A branch forward, over something: always taken, taken as data says, or taken until the last rounds.</summary>
    private static void EmitDetour(Assembler a, Random random, Label constant)
    {
        Label on = a.CreateLabel();
        switch (random.Next(6))
        {
            case 0: a.jmp(on); break;
            case 1: a.cmp(r9, r9); a.jae(on); break;
            case 2: a.test(r13b, 1); a.jne(on); break;
            case 3: a.cmp(rcx, 3); a.jg(on); break;
            case 4: a.cmp(r14d, r15d); a.jbe(on); break;
            default: a.or(r11, 1); a.jnz(on); break;
        }

        if (random.Next(2) == 0)
            a.add(r11, __qword_ptr[constant]);
        if (random.Next(2) == 0)
            a.movups(xmm1, xmm3);
        a.lea(r14, __[r14 + r13 * 2 + 1]);
        a.Label(ref on);
        if (random.Next(2) == 0)
            a.nop();
        else
            a.xor(r14d, r9d);
    }

    private static void EmitTables(TestGuest g, Random random) => g.Assemble(64, TestGuest.Code, a =>
    {
        Label top = a.CreateLabel();
        a.Label(ref top);
        for (int i = random.Next(1, 5); i > 0; i--)
        {
            a.movzx(r15d, __byte_ptr[rsi]);
            EmitBound(a, random);
            switch (random.Next(5))
            {
                case 0: a.xor(r14d, __dword_ptr[r8 + r15 * 4]); break;
                case 1: a.add(r13, __qword_ptr[r8 + r15 * 8 - 64]); break;
                case 2: a.mov(__byte_ptr[rdi + r15], r14b); break;
                case 3: a.movzx(edx, __byte_ptr[rdi + r15 + 3]); a.add(r14d, edx); break;
                default: a.inc(__dword_ptr[r8 + r15 * 4]); break;
            }
        }

        // Behind the loop nothing by the same registers: a check of the loop's would have to hold for it.
        a.inc(rsi);
        a.sub(rcx, 1);
        a.jnz(top);
        a.mov(rdx, __[rbx]);
        a.hlt();
    });

    private static void EmitBound(Assembler a, Random random)
    {
        switch (random.Next(6))
        {
            case 0: a.xor(r15d, r14d); a.and(r15d, 63); break;
            case 1: a.add(r15, r14); a.and(r15, 0x1F8); break;
            // Shifts leave AF undefined.
            case 2: a.mov(r15d, r14d); a.shr(r15d, 24); a.cmp(r15d, r14d); break;
            case 3: a.mov(r15, r13); a.shr(r15, 57); a.cmp(r15d, r14d); break;
            case 4: a.mov(r15d, r14d); a.movzx(r15d, r15b); break;
        }
    }

    private static void EmitAccess(Assembler a, Random random, Label done, Label constant)
    {
        AssemblerRegister64 b = s_bases[random.Next(s_bases.Length)];
        int distance = random.Next(-4, 5) * 16;
        AssemblerMemoryOperand m = random.Next(4) switch
        {
            0 => __[b + rax * (1 << random.Next(4)) + distance],
            1 => __[b + rdx + distance],
            _ => __[b + distance],
        };
        switch (random.Next(18))
        {
            case 0: a.mov(r13, m); break;
            case 1: a.mov(__qword_ptr[m], r14); break;
            case 2: a.add(__qword_ptr[m], r13); break;
            case 3: a.movzx(r15d, __byte_ptr[m]); break;
            case 4: a.mov(__byte_ptr[m], r14b); break;
            case 5: a.xor(r9d, __dword_ptr[m]); break;
            case 6: a.movups(xmm1, __xmmword_ptr[m]); break;
            case 7: a.movups(__xmmword_ptr[m], xmm2); break;
            case 8: a.movaps(xmm3, __xmmword_ptr[m]); break;
            case 9: a.paddd(xmm2, __xmmword_ptr[m]); break;
            case 10: a.movdqa(__xmmword_ptr[m], xmm1); break;
            case 11: a.vpaddq(ymm4, ymm5, __ymmword_ptr[m]); break;
            case 12: a.push(r14); a.pop(r15); break;
            case 13:
                a.cmp(__byte_ptr[m], random.Next(256));
                a.je(done);
                break;
            case 14: a.mov(r10, __qword_ptr[constant]); a.add(r13, r10); break;
            case 16: // A table: by what was read.
                a.movzx(r15d, __byte_ptr[m]);
                EmitBound(a, random);
                a.xor(r14d, __dword_ptr[b + r15 * 4]);
                break;
            case 17:
                a.movzx(edx, __byte_ptr[m]);
                a.inc(r13d);
                a.mov(__dword_ptr[b + rdx * 4], r13d);
                break;
            case 15: a.adc(__qword_ptr[m], r11); break;
        }
    }
}
