using VirtPS.X86;

namespace VirtPS.Emulation.Tests;

/// <summary>Blocks that are kept on disk between runs: used where the guest's bytes are theirs and nowhere else, and no worse than missing when the file is wrong.</summary>
public sealed unsafe partial class TranslationStoreTests : IDisposable
{
    private readonly string _folder = Path.Combine(Path.GetTempPath(), "virtps-store-" + Guid.NewGuid().ToString("N"));

    public TranslationStoreTests() => Assert.SkipUnless(EngineOptions.CanTranslate, "this host cannot run generated code");

    public void Dispose()
    {
        if (Directory.Exists(_folder))
            Directory.Delete(_folder, recursive: true);
    }

    private EngineOptions Engine => new() { Translate = true, HotAfter = 0, StoreFolder = _folder };

    private string StoreFilePath => Assert.Single(Directory.GetFiles(_folder, "*.blocks"));

    private TestGuest Guest(int ring, bool slowPext = false)
    {
        var g = new TestGuest(1, Engine with { AvoidPext = slowPext });
        g.LongMode(ring: ring);
        return g;
    }

    public static TheoryData<int, bool> Rings => new() { { 0, false }, { 3, false }, { 0, true }, { 3, true } };

    /// <summary>
    /// What is kept is put in another place: of guest memory, of the code cache, of the arena, with other links and slots before it. The result must be, byte for byte, what the translator
    /// writes there itself. An emitter that writes something absolute in its own way is found here.
    /// </summary>
    [Theory]
    [MemberData(nameof(Rings))]
    public void Translations_put_elsewhere_are_what_is_made_there(int ring, bool slowPext)
    {
        var cases = GoldenCodeTests.Cases.Append(("branches to other pages", a =>
        {
            Label near = a.CreateLabel();
            a.jz(0x12345);
            a.jc(near);
            a.call(0x13456);
            a.Label(ref near);
            a.jmp(0x1F000);
        })).ToArray();
        for (int i = 0; i < cases.Length; i++)
        {
            using (TestGuest first = Guest(ring, slowPext))
            {
                Translate(first, TestGuest.Code, cases[i].Item2);
                first.Partition.Finish();
            }

            const ulong Elsewhere = TestGuest.Code + 0x3000;
            using TestGuest made = new(1, Engine with { StoreFolder = null, AvoidPext = slowPext }), taken = Guest(ring, slowPext);
            made.LongMode(ring: ring);
            byte[] expected = TranslateElsewhere(made), actual = TranslateElsewhere(taken);
            Assert.True(expected.AsSpan().SequenceEqual(actual), cases[i].Item1);
            Assert.Equal(1ul, taken.Cpu.ReadStatistics().Engine!.StoredTranslations);

            byte[] TranslateElsewhere(TestGuest g)
            {
                // The same bytes: assembled for the first place.
                Translate(g, TestGuest.Code + 0x8000, a =>
                {
                    a.mov(__[rbx], rax);
                    a.cpuid();
                    a.jz(0x30000);
                    a.jmp(0x40000);
                });
                return Translate(g, Elsewhere, cases[i].Item2, TestGuest.Code);
            }
        }
    }

    /// <summary>Blocks that were put together for the translator alone lie among the others when they are kept: none of it is taken for what it is not.</summary>
    [Fact]
    public void Loops_over_several_blocks_are_passed_over()
    {
        ulong[] sums = [.. Enumerable.Range(0, 2).Select(_ =>
        {
            using var g = new TestGuest(1, Engine with { HotAfter = 16 });
            g.LongMode();
            g.Run64(a =>
            {
                Label top = a.CreateLabel(), second = a.CreateLabel(), third = a.CreateLabel(), never = a.CreateLabel();
                a.mov(ecx, 5000);
                a.xor(eax, eax);
                a.Label(ref top);
                a.add(rax, rcx);
                a.test(rcx, rcx);
                a.jnz(second);
                a.Label(ref never);
                a.ud2();
                a.Label(ref second);
                a.add(rax, 3);
                a.cmp(rcx, -1);
                a.jne(third);
                a.ud2();
                a.Label(ref third);
                a.dec(rcx);
                a.jnz(top);
            });
            bool traced = false;
            for (int i = 1; i <= g.Cpu.TranslatedBlocks; i++)
            {
                ref TranslatedBlock t = ref g.Cpu.Translations!.At(i);
                traced |= t.Decoded != t.Block;
            }

            Assert.True(traced);
            g.Partition.Finish();
            return g[Gpr.Rax];
        })];
        Assert.Equal(5000ul * 5001 / 2 + 3 * 5000, sums[0]);
        Assert.Equal(sums[0], sums[1]);
    }

    /// <summary>So does one that goes over jumps only and looks like a superblock: where its instructions' bytes are is where they were found, and what lies behind its ops is somebody else's.</summary>
    [Fact]
    public void A_loop_over_jumps_is_no_superblock()
    {
        ulong Run(int constant)
        {
            using var g = new TestGuest(1, Engine with { HotAfter = 16 });
            g.LongMode();
            g.Run64(a =>
            {
                Label top = a.CreateLabel(), second = a.CreateLabel(), never = a.CreateLabel();
                a.mov(ecx, 5000);
                a.xor(eax, eax);
                a.Label(ref top);
                a.mov(rdx, __[rsp]);
                a.test(rcx, rcx);
                a.jz(never);
                a.jmp(second);
                a.Label(ref never);
                a.ud2();
                a.nop();
                a.Label(ref second);
                a.add(rax, 0x10000 + constant);
                a.sub(rcx, 1);
                a.jnz(top);
            });
            g.Partition.Finish();
            return g[Gpr.Rax];
        }

        Assert.Equal([5000ul * 0x10003, 5000ul * 0x10005, 5000ul * 0x10003], [Run(3), Run(5), Run(3)]);
    }

    private static byte[] Translate(TestGuest g, ulong at, Action<Assembler> code, ulong? rip = null)
    {
        g.Assemble(64, at, a =>
        {
            code(a);
            a.ud2();
        }, rip);
        g.Cpu.CommitState();
        int translation = g.Cpu.TranslateOnly(at);
        TranslationCache cache = g.Cpu.Translations!;
        return new ReadOnlySpan<byte>(cache.Executable(translation), cache.At(translation).Size).ToArray();
    }

    private static void Program(Assembler a, int constant)
    {
        Label top = a.CreateLabel(), function = a.CreateLabel(), end = a.CreateLabel();
        a.xor(eax, eax);
        a.mov(ecx, 50);
        a.Label(ref top);
        a.call(function);
        a.mov(__[rsi + rcx * 8], rax);
        a.add(rax, __[rsi + rcx * 8]);
        a.dec(ecx);
        a.jnz(top);
        a.jmp(end);
        for (int i = 0; i < 5000; i++)
            a.nop();
        a.Label(ref function);
        a.add(rax, constant);
        a.movd(xmm0, eax);
        a.paddd(xmm0, xmm0);
        a.movd(edx, xmm0);
        a.ret();
        a.Label(ref end);
        a.hlt();
    }

    private (ulong Rax, ulong Rdx, ulong Instructions, ulong? Stored) RunProgram(int constant = 7, Action<TestGuest>? before = null, bool keep = true, EngineOptions? engine = null)
    {
        using var g = new TestGuest(1, engine ?? Engine);
        g.LongMode();
        g.Assemble(64, TestGuest.Code, a => Program(a, constant));
        before?.Invoke(g);
        g[Gpr.Rsi] = TestGuest.Data;
        g.S->Rip = TestGuest.Code;
        g.RunToHalt();
        var result = (g[Gpr.Rax], g[Gpr.Rdx], g.S->InstructionsRetired, g.Cpu.ReadStatistics().Engine!.StoredTranslations);
        if (keep)
            g.Partition.Finish();
        return result;
    }

    [Fact]
    public void A_second_run_takes_what_the_first_made_and_does_the_same()
    {
        var cold = RunProgram();
        var warm = RunProgram();
        Assert.Equal(0ul, cold.Stored);
        Assert.True(warm.Stored > 2);
        Assert.Equal((cold.Rax, cold.Rdx, cold.Instructions), (warm.Rax, warm.Rdx, warm.Instructions));
        var interpreted = RunProgram(engine: new EngineOptions());
        Assert.Equal((cold.Rax, cold.Rdx, cold.Instructions), (interpreted.Rax, interpreted.Rdx, interpreted.Instructions));
    }

    [Fact]
    public void In_lock_step_what_is_taken_does_what_the_interpreter_does()
    {
        var cold = RunProgram();
        var warm = RunProgram(engine: Engine with { LockStep = true });
        Assert.True(warm.Stored > 2);
        Assert.Equal((cold.Rax, cold.Rdx), (warm.Rax, warm.Rdx));
    }

    [Fact]
    public void Code_that_changed_between_runs_is_not_taken()
    {
        RunProgram(constant: 7);
        var changed = RunProgram(constant: 9);
        Directory.Delete(_folder, recursive: true);
        Assert.Equal(changed.Rax, RunProgram(constant: 9).Rax);
        Assert.True(changed.Stored > 0);
    }

    [Fact]
    public void Code_that_changes_after_it_was_taken_is_not_executed()
    {
        ulong Run()
        {
            using var g = new TestGuest(1, Engine);
            g.LongMode();
            g[Gpr.Rdi] = TestGuest.Code + 0x40;
            g.Assemble(64, TestGuest.Code + 0x40, a =>
            {
                a.mov(eax, 1);
                a.ret();
            });
            g.Run64(a =>
            {
                a.call(TestGuest.Code + 0x40);
                a.mov(ebx, eax);
                a.inc(__byte_ptr[rdi + 1]);
                a.call(TestGuest.Code + 0x40);
                a.shl(eax, 8);
                a.add(ebx, eax);
            });
            g.Partition.Finish();
            return g[Gpr.Rbx];
        }

        Assert.Equal(0x201ul, Run());
        Assert.Equal(0x201ul, Run());
        Assert.Equal(0x201ul, Run());
    }

    [Fact]
    public void A_damaged_file_is_ignored_in_whole_or_in_part_and_written_anew()
    {
        var good = RunProgram();
        byte[] file = File.ReadAllBytes(StoreFilePath);
        var random = new Random(5);
        for (int i = 0; i < 300; i++)
        {
            byte[] damaged = (byte[])file.Clone();
            // The index is mostly empty buckets: every second time in what comes before.
            int at = i < 128 ? i : random.Next(i % 2 == 0 ? damaged.Length : Math.Min(damaged.Length, 8192));
            damaged[at] ^= (byte)(1 << random.Next(8));
            File.WriteAllBytes(StoreFilePath, damaged);
            Assert.Equal((good.Rax, good.Rdx, good.Instructions), Results(RunProgram(keep: false)));
        }

        File.WriteAllBytes(StoreFilePath, [.. file.AsSpan(0, file.Length / 2)]);
        Assert.Equal(0ul, RunProgram().Stored);
        Assert.True(RunProgram(keep: false).Stored > 2);
        foreach (int length in new[] { 0, 1, 127, 128, file.Length - 1 })
        {
            File.WriteAllBytes(StoreFilePath, file[..length]);
            Assert.Equal(0ul, RunProgram(keep: false).Stored);
        }
    }

    private static (ulong, ulong, ulong) Results((ulong Rax, ulong Rdx, ulong Instructions, ulong?) r) => (r.Rax, r.Rdx, r.Instructions);

    [Fact]
    public void A_damaged_block_is_made_anew_and_kept()
    {
        var good = RunProgram();
        byte[] file = File.ReadAllBytes(StoreFilePath);
        // In the first record.
        file[sizeof(StoreFile.Header) + sizeof(StoredBlock) + 2] ^= 0x10;
        File.WriteAllBytes(StoreFilePath, file);
        var partly = RunProgram();
        Assert.Equal(good.Rax, partly.Rax);
        var whole = RunProgram(keep: false);
        Assert.Equal(partly.Stored + 1, whole.Stored);
    }

    [Fact]
    public void A_file_that_others_may_write_is_not_used()
    {
        RunProgram();
        if (OperatingSystem.IsWindows())
            return;
        File.SetUnixFileMode(StoreFilePath, (UnixFileMode)0b110_110_110);
        Assert.Equal(0ul, RunProgram(keep: false).Stored);
        File.SetUnixFileMode(StoreFilePath, (UnixFileMode)0b110_000_000);
        Assert.True(RunProgram(keep: false).Stored > 2);
        Assert.Equal((UnixFileMode)0b111_000_000, File.GetUnixFileMode(_folder));
    }

    [Fact]
    public void A_file_of_another_engine_or_host_is_not_used()
    {
        RunProgram();
        Assert.Equal(0ul, RunProgram(keep: false, engine: Engine with { AvoidPext = !Engine.AvoidPext }).Stored);
        string other = Path.Combine(_folder, "0123456789abcdef.blocks");
        File.Move(StoreFilePath, other);
        Assert.Equal(0ul, RunProgram().Stored);
        // Its name alone does not make it ours.
        string mine = Assert.Single(Directory.GetFiles(_folder, "*.blocks"), f => f != other);
        byte[] file = File.ReadAllBytes(mine);
        fixed (byte* p = file)
        {
            var h = (StoreFile.Header*)p;
            h->Key[0] ^= 1;
            h->Checksum = StoreFile.ChecksumOf(h);
        }

        File.WriteAllBytes(mine, file);
        Assert.Equal(0ul, RunProgram(keep: false).Stored);
    }

    [Fact]
    public void A_folder_that_cannot_be_made_costs_nothing_but_the_store()
    {
        File.WriteAllText(_folder, "not a folder");
        try
        {
            var first = RunProgram();
            Assert.Equal(first, RunProgram());
        }
        finally
        {
            File.Delete(_folder);
        }
    }

    [Fact]
    public void Two_machines_at_once_do_not_disturb_each_other()
    {
        using var a = new TestGuest(1, Engine);
        using var b = new TestGuest(1, Engine);
        foreach ((TestGuest g, int constant) in new[] { (a, 1), (b, 2) })
        {
            g.LongMode();
            g.Assemble(64, TestGuest.Code, x => Program(x, constant));
            g[Gpr.Rsi] = TestGuest.Data;
            g.S->Rip = TestGuest.Code;
            g.RunToHalt();
        }

        Parallel.Invoke(a.Partition.Finish, b.Partition.Finish);
        Assert.True(RunProgram(1, keep: false).Stored > 2);
        Assert.True(RunProgram(2, keep: false).Stored > 2);
        Assert.Empty(Directory.GetFiles(_folder, ".*"));
    }
}
