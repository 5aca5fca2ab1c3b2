namespace VirtPS.Emulation.Tests;

// The random loops.
public sealed unsafe partial class LoopTests
{
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
        EmitRoundAndBehind(a, top, done);
    }

    private static void EmitRoundAndBehind(Assembler a, Label top, Label done)
    {
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
        EmitRoundAndBehind(a, top, done);
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
