namespace VirtPS.Emulation.Tests;

/// <summary>Blocks that go on at the target of a jump or call: what the interpreter does, ended by requests, made anew when any piece of their code changes.</summary>
public sealed unsafe class TraceTests
{
    private static readonly EngineOptions s_translate = new() { Translate = true, HotAfter = 0 };

    private static TestGuest Guest(EngineOptions engine)
    {
        Assert.SkipUnless(EngineOptions.CanTranslate, "this host cannot run generated code");
        var g = new TestGuest(engine: engine);
        g.LongMode();
        return g;
    }

    [Theory, InlineData(1), InlineData(2), InlineData(3)]
    public void Pieces_in_any_order_do_what_the_interpreter_does(int seed)
    {
        using TestGuest interpreter = Guest(new EngineOptions()), translator = Guest(s_translate), checkedOne = Guest(s_translate with { LockStep = true });
        var random = new Random(seed);
        for (int i = 0; i < 150; i++)
        {
            int code = random.Next();
            string expected = Run(interpreter, code);
            Assert.Equal((code, expected), (code, Run(translator, code)));
            Assert.Equal((code, expected), (code, Run(checkedOne, code)));
        }
    }

    private static string Run(TestGuest g, int seed)
    {
        var random = new Random(seed);
        g.Assemble(64, TestGuest.Code, a => Emit(a, random));
        for (int r = 0; r < 16; r++)
            g.S->Gpr[r] = (ulong)random.NextInt64();
        g[Gpr.Rsi] = TestGuest.Data + 0x800;
        g[Gpr.Rcx] = 60;
        g[Gpr.Rsp] = TestGuest.Stack - (ulong)random.Next(4) * 0x7F8;
        g.S->Rip = TestGuest.Code;
        g.S->Rflags = 2;
        ulong before = g.S->InstructionsRetired;
        g.RunToHalt();
        var hash = new HashCode();
        hash.AddBytes(new ReadOnlySpan<byte>(g.Ram.Address + TestGuest.Data, 0x2000));
        hash.AddBytes(new ReadOnlySpan<byte>(g.Ram.Address + TestGuest.Stack - 0x3000, 0x3000));
        return $"flags {g.S->Rflags:x} retired {g.S->InstructionsRetired - before} {string.Join(' ', Enumerable.Range(0, 16).Select(r => g.S->Gpr[r].ToString("x", null)))} memory {hash.ToHashCode():x}";
    }

    /// <summary>Pieces that jump to each other and call functions; each counts down, and the last round ends.</summary>
    private static void Emit(Assembler a, Random random)
    {
        int n = random.Next(2, 9);
        Label[] pieces = [.. Enumerable.Range(0, n).Select(_ => a.CreateLabel())], functions = [.. Enumerable.Range(0, 3).Select(_ => a.CreateLabel())];
        Label end = a.CreateLabel();
        a.jmp(pieces[random.Next(n)]);
        for (int i = 0; i < n; i++)
        {
            a.Label(ref pieces[i]);
            EmitWork(a, random);
            if (random.Next(3) == 0)
                a.call(functions[random.Next(3)]);
            EmitWork(a, random);
            a.dec(ecx);
            a.js(end);
            a.jmp(pieces[random.Next(n)]);
        }

        for (int i = 0; i < 3; i++)
        {
            a.Label(ref functions[i]);
            EmitWork(a, random);
            if (i < 2 && random.Next(2) == 0)
                a.call(functions[2]);
            a.ret();
        }

        a.Label(ref end);
        a.hlt();
    }

    private static void EmitWork(Assembler a, Random random)
    {
        for (int i = random.Next(4); i > 0; i--)
        {
            switch (random.Next(7))
            {
                case 0: a.add(rax, __[rsi + random.Next(-8, 8) * 16]); break;
                case 1: a.mov(__[rsi + random.Next(-8, 8) * 16], rbx); break;
                case 2: a.adc(rbx, rax); break;
                case 3: a.push(rdx); a.pop(r10); break;
                case 4: a.xor(r9, r10); break;
                case 5: a.setc(dl); break;
                case 6: a.lea(r8, __[r8 + rax * 4 + 3]); break;
            }
        }
    }

    /// <summary>Round and round through jumps, some of which are followed, backwards and forwards.</summary>
    [Fact]
    public void An_endless_loop_of_jumps_sees_requests()
    {
        using TestGuest g = Guest(s_translate);
        g.Assemble(64, TestGuest.Code, a =>
        {
            Label first = a.CreateLabel(), second = a.CreateLabel(), third = a.CreateLabel();
            a.jmp(second);
            a.Label(ref first);
            a.inc(rax);
            a.jmp(third);
            a.Label(ref second);
            a.inc(rbx);
            a.jmp(first);
            a.Label(ref third);
            a.inc(rdx);
            a.jmp(second);
        });
        g[Gpr.Rbx] = g[Gpr.Rdx] = 0;
        using var exit = new Timer(_ =>
        {
            Interlocked.Or(ref g.S->Requests, (uint)VcpuRequests.Exit);
            g.Cpu.Kick();
        }, null, 100, Timeout.Infinite);
        Assert.Equal(VcpuExit.Kicked, g.Cpu.Run());
        Assert.True(g[Gpr.Rbx] > 1000);
        Assert.InRange(g[Gpr.Rbx] - g[Gpr.Rdx], 0ul, 1ul);
    }

    /// <summary>The piece behind a jump is changed by the guest in each round.</summary>
    [Fact]
    public void A_changed_piece_is_executed_as_it_is()
    {
        using TestGuest g = Guest(s_translate);
        g.Assemble(64, TestGuest.Code, a => a.mov(ecx, 1000));
        ulong top = TestGuest.Code + 5;
        ulong jump = g.Assemble(64, top, a => a.mov(__dword_ptr[TestGuest.Code + 0x401], ecx));
        g.Assemble(64, jump, a => a.jmp(TestGuest.Code + 0x400));
        // B8 imm32: MOV EAX; ADD EDX, EAX; DEC ECX; JNZ top; HLT
        g.Assemble(64, TestGuest.Code + 0x400, a =>
        {
            a.mov(eax, 0x11111111);
            a.add(edx, eax);
            a.dec(ecx);
            a.jne(top);
            a.hlt();
        });
        g[Gpr.Rdx] = 0;
        g.S->Rip = TestGuest.Code;
        g.RunToHalt();
        Assert.Equal(1000ul * 1001 / 2, g[Gpr.Rdx]);
    }
}
