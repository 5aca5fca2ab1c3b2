namespace VirtPS.Emulation.Tests;

/// <summary>32-bit code with flat segments on the translator, held against the interpreter; the oracle's 32-bit programs hold both against the host.</summary>
public sealed unsafe class Code32Tests
{
    private const uint Function = (uint)TestGuest.Code + 0x1800;

    private static TestGuest Guest(EngineOptions engine, int ring = 0)
    {
        Assert.SkipUnless(EngineOptions.CanTranslate, "this host cannot run generated code");
        var g = new TestGuest(1, engine);
        g.Protected32(ring);
        return g;
    }

    /// <summary>Upper halves that such code cannot see, and does not change but where it writes the lower one.</summary>
    private static void FillRegisters(TestGuest g)
    {
        for (int r = 0; r < 16; r++)
            g.S->Gpr[r] = r == (int)Gpr.Rsp ? TestGuest.Stack : 0xABCD_0000_0000_0000 | (ulong)r << 32 | TestGuest.Data + (ulong)r * 64;
    }

    private static void Same(Action<Assembler> code, Action<Assembler>? function = null)
    {
        Same(0, code, function);
        Same(3, code, function);
    }

    private static void Same(int ring, Action<Assembler> code, Action<Assembler>? function)
    {
        using TestGuest i = Guest(new EngineOptions(), ring), t = Guest(TestGuest.Translator, ring), both = Guest(TestGuest.Translator with { LockStep = true }, ring);
        foreach (TestGuest g in (TestGuest[])[i, t, both])
        {
            FillRegisters(g);
            // FS has 4 GiB and a base, GS a limit as well.
            g.S->FS.Base = 0x3000;
            g.S->GS = g.S->FS with { Limit = 0xFFF };
            g.Cpu.CommitState();
            g.Assemble(32, Function, function ?? (a => a.ret()));
            if (ring == 0)
                g.Run32(code);
            else
                RunToFault(g, code);
        }

        Assert.NotEqual(0, t.Cpu.TranslatedBlocks);
        foreach (TestGuest g in (TestGuest[])[t, both])
        {
            Assert.Equal(new ReadOnlySpan<ulong>(i.S->Gpr, 16).ToArray(), new ReadOnlySpan<ulong>(g.S->Gpr, 16).ToArray());
            Assert.Equal(i.S->InstructionsRetired, g.S->InstructionsRetired);
            Assert.Equal(i.Cpu.GetFlags(), g.Cpu.GetFlags());
            Assert.True(new ReadOnlySpan<byte>(i.Ram.Address, (int)TestGuest.RamSize).SequenceEqual(new ReadOnlySpan<byte>(g.Ram.Address, (int)TestGuest.RamSize)));
        }
    }

    /// <summary>HLT is #GP in ring 3, which nobody handles.</summary>
    private static void RunToFault(TestGuest g, Action<Assembler> code)
    {
        ulong end = g.Assemble(32, TestGuest.Code, a =>
        {
            code(a);
            a.hlt();
        });
        g.S->Rip = TestGuest.Code;
        RunToShutdown(g, end - 1);
    }

    private static void RunToShutdown(TestGuest g, ulong rip)
    {
        g.S->MpState = MpState.Runnable;
        Assert.Equal(VcpuExit.Shutdown, g.Cpu.Run());
        Assert.Equal(rip, g.S->Rip);
    }

    /// <summary>The same code finds FS as wide as memory, and then of one page: a check that the one does not need may not be missing for the other.</summary>
    [Fact]
    public void A_segment_that_is_as_wide_as_memory_and_then_is_not()
    {
        using TestGuest g = Guest(TestGuest.Translator, ring: 3);
        g.Assemble(32, Function, a =>
        {
            a.inc(__dword_ptr.fs[0x2000]);
            a.ret();
        });
        SegmentRegister wide = g.S->FS, narrow = wide with { Limit = 0xFFF };
        for (uint round = 1; round <= 4; round++)
        {
            g.S->FS = wide;
            g.Cpu.CommitState();
            RunToFault(g, a => { a.mov(ebx, Function); a.call(ebx); });
            Assert.Equal(round, g.Read<uint>(0x2000));
            g.S->FS = narrow;
            g.Cpu.CommitState();
            g.S->Rip = TestGuest.Code;
            RunToShutdown(g, Function);
            g.S->Gpr[(int)Gpr.Rsp] = TestGuest.Stack;
        }
    }

    [Fact]
    public void Stack_instructions() => Same(a =>
    {
        Label top = a.CreateLabel();
        a.mov(ecx, 3000);
        a.Label(ref top);
        a.push(esp);
        a.push(ebp);
        a.push(-5);
        a.push(0x12345678);
        a.push(__dword_ptr[esp + 4]);
        a.pushfd();
        a.push(ebp);
        a.mov(ebp, esp);
        a.sub(esp, 0x124);
        a.mov(__[ebp + 8], ecx);
        a.leave();
        a.popfd();
        a.pop(edx);
        a.pop(ebx);
        a.add(esi, ebx);
        a.pop(edi);
        a.pop(eax);
        a.sub(eax, 3);
        a.xchg(eax, esp);
        a.pusha();
        a.popa();
        a.xchg(eax, esp);
        a.pop(esp);
        a.dec(ecx);
        a.jnz(top);
    });

    [Fact]
    public void Calls_returns_and_branches() => Same(a =>
    {
        Label top = a.CreateLabel(), f = a.CreateLabel(), h = a.CreateLabel(), end = a.CreateLabel();
        a.mov(ebx, (uint)TestGuest.Data);
        a.mov(ecx, 2000);
        a.xor(eax, eax);
        a.Label(ref top);
        a.push(ecx);
        a.call(f);
        a.mov(edx, Function);
        a.mov(__[ebx], edx);
        a.push(9);
        a.call(edx);
        a.push(3);
        a.push(4);
        a.call(__dword_ptr[ebx]);
        a.mov(ecx, 3);
        a.Label(ref h);
        a.inc(eax);
        a.loop(h);
        a.jecxz(end);
        a.ud2();
        a.Label(ref f);
        a.adc(eax, ecx);
        a.ret();
        a.Label(ref end);
        a.pop(ecx);
        a.pop(ecx);
        a.dec(ecx);
        a.jnz(top);
    }, a =>
    {
        a.ror(eax, 3);
        a.ret(4);
    });

    [Fact]
    public void Operands_of_all_kinds() => Same(a =>
    {
        Label top = a.CreateLabel();
        a.mov(ecx, 500);
        a.Label(ref top);
        a.mov(__dword_ptr[(uint)TestGuest.Data + 4], eax);
        a.mov(al, __byte_ptr[(uint)TestGuest.Data + 5]);
        a.mov(__word_ptr[(uint)TestGuest.Data + 8], ax);
        a.inc(bx);
        a.dec(esi);
        a.add(ah, cl);
        a.mov(__[edi], ah);
        a.mov(edx, __dword_ptr.fs[(uint)TestGuest.Data + 4]);
        a.add(__dword_ptr.fs[edi + 4], edx);
        a.xor(edx, __dword_ptr.gs[0x10]);
        a.lea(ebp, __[edi - 0x3001]);
        a.mov(__dword_ptr.fs[ebp - 0x7FFFFFFF + 0x7FFFFF00], ecx);
        a.lea(ebp, __[edi + ecx * 8 - 0x7F000000]);
        a.lea(ebp, __[ebp + 0x7F000000]);
        a.xor(__[ebp], ecx);
        a.@lock.xadd(__[ebp + ecx], edx);
        a.bts(__dword_ptr[edi], edx);
        a.bt(__dword_ptr[edi], ecx);
        a.adc(eax, 0);
        a.xchg(__dword_ptr[edi + 8], ecx);
        a.mov(ecx, __dword_ptr[edi + 8]);
        a.mov(__dword_ptr[edi + 8], 77);
        a.mov(ecx, __dword_ptr[esp - 4]);
        a.mov(ecx, __dword_ptr[(uint)TestGuest.Data + 0x40]);
        a.inc(ecx);
        a.mov(__dword_ptr[(uint)TestGuest.Data + 0x40], ecx);
        a.cmp(ecx, 500);
        a.jb(top);
    });

    /// <summary>Effective addresses and return addresses have 32 bits.</summary>
    [Fact]
    public void Addresses_wrap_at_4_GiB() => Same(a =>
    {
        a.mov(ebx, 0xFFFF_FFF0);
        a.mov(esi, 0xFFF0_0000);
        a.mov(eax, 0x1122_3344);
        a.mov(__[ebx + (int)TestGuest.Data + 0x10], eax);
        a.cmp(eax, 1);
        a.mov(ecx, __[ebx + (int)TestGuest.Data + 0x12]);
        a.mov(edx, __[esi * 2 + 0x200000 + (int)TestGuest.Data]);
        a.sbb(edx, ecx);
        a.mov(esp, 2);
        a.add(esp, (int)TestGuest.Data);
        a.push(edx);
    });

    /// <summary>The same bytes at the same address mean other things in 64-bit and in compatibility mode; jump caches may not mix them up.</summary>
    [Fact]
    public void One_address_in_two_modes()
    {
        using TestGuest g = Guest(TestGuest.Translator);
        g.LongMode();
        SegmentRegister code64 = g.S->CS, code32 = code64;
        code32.Attributes = code64.Attributes & ~(uint)SegmentRegister.L | SegmentRegister.DB;
        // MOV EBX, address; CALL RBX or EBX; HLT
        ReadOnlySpan<byte> caller = [0xBB, 0, 0, 2, 0, 0xFF, 0xD3, 0xF4];
        // INC RAX, or DEC EAX and INC EAX; RET
        ReadOnlySpan<byte> called = [0x48, 0xFF, 0xC0, 0xC3];
        caller.CopyTo(new Span<byte>(g.Ram.Address + TestGuest.Code, caller.Length));
        called.CopyTo(new Span<byte>(g.Ram.Address + 0x20000, called.Length));
        g[Gpr.Rax] = 100;
        for (ulong round = 1; round <= 4; round++)
        {
            foreach (SegmentRegister cs in (SegmentRegister[])[code64, code32, code32, code64])
            {
                g.S->CS = cs;
                g.S->Rip = TestGuest.Code;
                g.Cpu.CommitState();
                g.RunToHalt();
            }

            Assert.Equal(100 + 2 * round, g[Gpr.Rax]);
            Assert.Equal(TestGuest.Stack, g[Gpr.Rsp]);
        }
    }
}
