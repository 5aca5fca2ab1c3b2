using VirtPS.Sdk;

namespace VirtPS.Emulation.Tests;

/// <summary>Interpreter and translator in lock-step: that it runs whole programs, and that it can fail.</summary>
public sealed unsafe class LockStepTests
{
    private static TestGuest Guest(Action<SoftVcpu, nint>? afterTranslation = null)
    {
        Assert.SkipUnless(EngineOptions.CanTranslate, "this host cannot run generated code");
        var g = new TestGuest(1, TestGuest.Translator with { LockStep = true, AfterTranslation = afterTranslation ?? TestGuest.Translator.AfterTranslation });
        g.LongMode();
        return g;
    }

    /// <summary>Loops short and long, calls, stores beside each other, an access over a page end, a helper in the middle.</summary>
    private static void Program(Assembler a)
    {
        Label top = a.CreateLabel(), inner = a.CreateLabel(), function = a.CreateLabel(), end = a.CreateLabel();
        a.mov(ebx, (uint)TestGuest.Data);
        a.mov(ecx, 1000);
        a.xor(eax, eax);
        a.Label(ref top);
        a.add(rax, rcx);
        a.mov(__[rbx + rcx * 8], rax);
        a.mov(__qword_ptr[rbx + rcx * 8 + 0x2FFC], rax);
        a.call(function);
        a.cpuid();
        a.mov(ebx, (uint)TestGuest.Data);
        a.mov(ecx, __dword_ptr[rbx + 0x7000]);
        a.mov(edx, 70);
        a.Label(ref inner);
        a.imul(rsi, rdx);
        a.xor(rsi, rcx);
        a.dec(edx);
        a.jnz(inner);
        a.dec(ecx);
        a.jnz(top);
        a.jmp(end);
        a.Label(ref function);
        a.mov(__dword_ptr[rbx + 0x7000], ecx);
        a.pushfq();
        a.pop(rdi);
        a.shl(rdi, cl);
        a.movd(xmm1, ecx);
        a.paddd(xmm2, xmm1);
        a.ret();
        a.Label(ref end);
    }

    [Fact]
    public void A_program_agrees()
    {
        using TestGuest g = Guest();
        g.S->Cr4 |= Cr4.OSXSAVE;
        g.S->Xcr0 = 7;
        g.Cpu.CommitState();
        g.Run64(Program);
        LockStep l = g.Cpu.LockStep!;
        TestContext.Current.TestOutputHelper?.WriteLine(l.ToString());
        Assert.True(l.Instructions > 100_000, l.ToString());
        Assert.True(l.NotCompared < l.Instructions / 100, l.ToString());
    }

    /// <summary>Code that changes itself in each round: written by the interpreter alone, between two pieces.</summary>
    [Fact]
    public void Code_that_changes_itself_agrees()
    {
        using TestGuest g = Guest();
        g.Run64(a =>
        {
            Label top = a.CreateLabel(), patched = a.CreateLabel();
            a.xor(edx, edx);
            a.mov(ecx, 200);
            a.Label(ref top);
            a.lea(rbx, __[patched]);
            a.mov(__dword_ptr[rbx + 1], ecx);
            a.Label(ref patched);
            a.mov(eax, 0x11111111);
            a.add(rdx, rax);
            a.dec(ecx);
            a.jnz(top);
        });
        Assert.Equal(200ul * 201 / 2, g[Gpr.Rdx]);
        Assert.True(g.Cpu.LockStep!.Instructions > 0);
    }

    /// <summary>
    /// Repeated string instructions: whole ones, ones that the interpreter finishes since an element lies in two pages, and ones of more pages than are kept, which are not compared.
    /// </summary>
    [Fact]
    public void Repeated_string_instructions_agree()
    {
        using TestGuest g = Guest();
        g[Gpr.Rbp] = 20;
        g.Run64(a =>
        {
            Label top = a.CreateLabel();
            a.Label(ref top);
            a.mov(rsi, TestGuest.Data + 0x100);
            a.mov(rdi, TestGuest.Data + 0x20F03);
            a.mov(ecx, 0x300);
            a.rep.movsq();
            a.lea(rsi, __[rdi - 0x1800]);
            a.mov(rdi, TestGuest.Data + 0x100);
            a.mov(ecx, 0x1900);
            a.repe.cmpsb();
            a.mov(rdi, TestGuest.Data + 0x8000);
            a.mov(ecx, 0x18000 / 4);
            a.mov(eax, ebp);
            a.rep.stosd();
            a.mov(ecx, 7);
            a.rep.stosd();
            a.dec(ebp);
            a.jnz(top);
        });
        Assert.True(g.Cpu.LockStep!.Instructions > 200, g.Cpu.LockStep.ToString());
        // 24 pages and their neighbours are too many.
        Assert.True(g.Cpu.LockStep.NotCompared <= 40, g.Cpu.LockStep.ToString());
    }

    /// <summary>The second of two counts is wrong: generated code stores more than the interpreter.</summary>
    [Fact]
    public void A_wrong_repeated_store_is_found()
    {
        using TestGuest g = Guest((cpu, block) => Damage(cpu, (Block*)block, 0x45, 0x46));
        var e = Assert.Throws<LockStepException>(() => g.Run64(a =>
        {
            Label next = a.CreateLabel();
            a.mov(rdi, TestGuest.Data);
            a.stosq();
            a.jmp(next);
            a.nop();
            a.Label(ref next);
            a.mov(ecx, 0x45);
            a.rep.stosb();
            a.mov(ecx, 7);
        }));
        Assert.Contains("Lock-step", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void The_x87_agrees()
    {
        Assert.SkipUnless(TestGuest.Translator.Host.Xsave, "without XSAVE the interpreter executes x87 instructions");
        using TestGuest g = Guest();
        g[Gpr.Rbx] = TestGuest.Data;
        g.Write(TestGuest.Data, 1.5);
        g.Run64(a =>
        {
            Label top = a.CreateLabel();
            a.fninit();
            a.mov(ecx, 100);
            a.fld1();
            a.Label(ref top);
            a.fmul(__qword_ptr[rbx]);
            a.fld(st0);
            a.fsqrt();
            a.fstp(__tbyte_ptr[rbx + 16]);
            a.fcomi(st0, st1);
            a.fnstcw(__word_ptr[rbx + 32]);
            a.or(__byte_ptr[rbx + 33], 0xC);
            a.fldcw(__word_ptr[rbx + 32]);
            a.fist(__dword_ptr[rbx + 40]);
            a.dec(ecx);
            a.jnz(top);
            a.emms();
            a.movd(mm3, ecx);
            a.paddd(mm3, __qword_ptr[rbx]);
        });
        Assert.True(g.Cpu.LockStep!.Instructions > 800, g.Cpu.LockStep.ToString());
    }

    /// <summary>One bit of one immediate in generated code: found, at that instruction, with both values.</summary>
    [Fact]
    public void A_wrong_register_is_found_at_its_instruction()
    {
        using TestGuest g = Guest((cpu, block) => Damage(cpu, (Block*)block, 0x12345678, 0x12345679));
        var e = Assert.Throws<LockStepException>(() => g.Run64(a =>
        {
            a.mov(ebx, 1);
            a.add(rcx, rbx);
            a.mov(edx, 0x12345678);
            a.lea(rsi, __[rdx + rcx]);
            a.mov(edi, 3);
        }));
        Assert.Contains("mov edx,12345678h", e.Message, StringComparison.Ordinal);
        Assert.Contains($"0x{TestGuest.Code + 8:X}", e.Message, StringComparison.Ordinal);
        Assert.Contains("0000000012345678 0000000012345679", e.Report, StringComparison.Ordinal);
        Assert.Contains("Host code:", e.Report, StringComparison.Ordinal);
    }

    /// <summary>The general register that the wrong value came from is right again at the end.</summary>
    [Fact]
    public void Wrong_masks_and_upper_parts_are_found_and_named()
    {
        Assert.SkipUnless(TestGuest.Translator.Host.Avx512, "the host has no AVX-512");
        using TestGuest g = Guest((cpu, block) => Damage(cpu, (Block*)block, 0x12345678, 0x12345679));
        g.S->Cr4 |= Cr4.OSXSAVE | Cr4.OSFXSR;
        g.S->Xcr0 = Xcr0.X87 | Xcr0.Sse | Xcr0.Avx | Xcr0.Avx512;
        g.Cpu.CommitState();
        var e = Assert.Throws<LockStepException>(() => g.Run64(a =>
        {
            a.mov(eax, 0x12345678);
            a.vpbroadcastd(zmm17, eax);
            a.vpbroadcastd(zmm1, eax);
            a.kmovd(k3, eax);
            a.xor(eax, eax);
            a.mov(edi, 3);
        }));
        Assert.Contains("vpbroadcastd zmm17,eax", e.Message, StringComparison.Ordinal);
        Assert.All(["XMM1[1]", "YMM1[2]", "ZMM1[4]", "ZMM1[7]", "ZMM17[0]", "ZMM17[7]"],
            name => Assert.Contains($"  {name,-20} 1234567812345678 1234567912345679", e.Report, StringComparison.Ordinal));
        Assert.Contains($"  {"K3",-20} 0000000012345678 0000000012345679", e.Report, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(0x40, 0x48)]       // beside the right place, in the same page
    [InlineData(0x40, 0x4000)]     // in another page that was written before
    public void A_store_to_the_wrong_place_is_found(int right, int wrong)
    {
        using TestGuest g = Guest((cpu, block) => Damage(cpu, (Block*)block, 0x77770000 + right, 0x77770000 + wrong, last: true));
        g[Gpr.Rbx] = unchecked(TestGuest.Data - 0x77770000);
        var e = Assert.Throws<LockStepException>(() => g.Run64(a =>
        {
            // The first store to a page sets bits in the page tables and is the interpreter's.
            a.mov(eax, 5);
            Label next = a.CreateLabel();
            a.mov(__dword_ptr[rbx + 0x77770100], eax);
            a.mov(__dword_ptr[rbx + 0x77774000], eax);
            a.mov(__dword_ptr[rbx + 0x77774000], ecx);
            a.jmp(next);
            a.nop();
            a.Label(ref next);
            a.mov(ecx, 6);
            a.mov(__dword_ptr[rbx + 0x77770000 + right], eax);
            a.mov(ecx, 7);
        }));
        Assert.Contains("mov", e.Message, StringComparison.Ordinal);
    }

    /// <summary>A loop that goes round in generated code, damaged in its second copy alone.</summary>
    [Fact]
    public void A_wrong_round_of_a_loop_is_found()
    {
        using TestGuest g = Guest((cpu, block) => Damage(cpu, (Block*)block, 0x12345678, 0x12345679, last: true));
        var e = Assert.Throws<LockStepException>(() => g.Run64(a =>
        {
            Label top = a.CreateLabel();
            a.mov(ecx, 5);
            a.Label(ref top);
            a.add(rdx, 0x12345678);
            a.dec(ecx);
            a.jnz(top);
        }));
        Assert.Contains("add rdx,12345678h", e.Message, StringComparison.Ordinal);
    }

    /// <summary>
    /// A common check that misses in the round of a loop, where flags can be made again, goes on in code that takes them to be saved: a miss there must show them. Three times, since the first
    /// only makes that code.
    /// </summary>
    [Fact]
    public void A_common_check_that_misses_in_a_loop_keeps_flags()
    {
        using TestGuest g = Guest();
        g[Gpr.Rbx] = TestGuest.Data;
        g.Run64(TwoPinsOverAPageEnd);
        Assert.Equal(0ul, g[Gpr.R13]);
        Assert.True(g.Cpu.LockStep!.Instructions > 100);
        Assert.True(g.Cpu.ReadStatistics().Engine!.SlowPaths["UnpinnedExit"] > 0);
    }

    private static void TwoPinsOverAPageEnd(Assembler a)
    {
        Label outer = a.CreateLabel(), top = a.CreateLabel();
        a.mov(r13d, 3);
        a.Label(ref outer);
        a.lea(rsi, __[rbx + 0xFD8]);
        a.lea(r12, __[rbx + 0x1010]);
        a.xor(eax, eax);
        a.jmp(top);
        a.nop();
        a.Label(ref top);
        a.mov(rax, __[rbx]);
        a.mov(rdx, __[rbx + 8]);
        a.mov(rdi, __[rsi]);
        a.mov(rbp, __[rsi + 8]);
        a.add(rsi, 7);
        a.cmp(rsi, r12);
        a.jb(top);
        a.dec(r13);
        a.jnz(outer);
    }

    /// <summary>The second translation of a block, which checks each access, is part of the same piece; damaged there alone.</summary>
    [Fact]
    public void A_wrong_second_translation_is_found()
    {
        using TestGuest g = Guest((cpu, block) => DamageSecond(cpu, (Block*)block, 0x12345678, 0x12345679));
        g[Gpr.Rbx] = TestGuest.Data;
        var e = Assert.Throws<LockStepException>(() => g.Run64(a =>
        {
            Label top = a.CreateLabel();
            a.lea(rsi, __[rbx + 0xFFC]);
            a.mov(ecx, 3);
            a.jmp(top);
            a.nop();
            a.Label(ref top);
            a.mov(rax, __[rsi]);
            a.mov(edx, 0x12345678);
            a.mov(rdi, __[rsi + 8]);
            a.dec(ecx);
            a.jnz(top);
        }));
        Assert.Contains("mov edx,12345678h", e.Message, StringComparison.Ordinal);
        Assert.Contains("Host code with a check for each access:", e.Report, StringComparison.Ordinal);
    }

    [Fact]
    public void One_vCPU_only()
    {
        var e = Assert.Throws<VirtException>(() => new TestGuest(2, new EngineOptions { Translate = true, LockStep = true }));
        Assert.Equal("StrategyOptionInvalid", e.ErrorId);
    }

    /// <summary>Replaces a 32-bit value in a block's generated code, where it is found first or last.</summary>
    private static void Damage(SoftVcpu cpu, Block* block, int from, int to, bool last = false)
    {
        TranslationCache cache = cpu.Translations!;
        ref TranslatedBlock t = ref cache.At(block->Translation);
        Replace(new Span<byte>(cache.Executable(block->Translation) - cache.Shift, t.Size), from, to, last);
    }

    private static void DamageSecond(SoftVcpu cpu, Block* block, int from, int to)
    {
        TranslationCache cache = cpu.Translations!;
        ref TranslatedBlock t = ref cache.At(block->Translation);
        if (t.Unpinned != 0)
            Replace(new Span<byte>(cache.Start + t.Unpinned - cache.Shift, t.UnpinnedEnd - t.Unpinned), from, to, last: false);
    }

    private static void Replace(Span<byte> code, int from, int to, bool last)
    {
        int at = last ? code.LastIndexOf(BitConverter.GetBytes(from)) : code.IndexOf(BitConverter.GetBytes(from));
        if (at >= 0)
            BitConverter.TryWriteBytes(code[at..], to);
    }
}
