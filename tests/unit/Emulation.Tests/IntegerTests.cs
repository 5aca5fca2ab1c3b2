namespace VirtPS.Emulation.Tests;

public sealed unsafe class IntegerTests : IDisposable
{
    private readonly TestGuest _g = new();

    public IntegerTests() => _g.LongMode();

    public void Dispose() => _g.Dispose();

    [Fact]
    public void A_loop_sums_and_counts_its_instructions_exactly()
    {
        ulong before = _g.S->InstructionsRetired;
        _g.Run64(a =>
        {
            Label top = a.CreateLabel();
            a.xor(eax, eax);
            a.mov(ecx, 1000);
            a.Label(ref top);
            a.add(rax, rcx);
            a.dec(ecx);
            a.jne(top);
        });
        Assert.Equal(500500ul, _g[Gpr.Rax]);
        Assert.Equal(2ul + 3 * 1000 + 1, _g.S->InstructionsRetired - before);
        Assert.Equal(_g.S->InstructionsRetired, _g.Cpu.Counters->Instructions[0]);
    }

    [Theory]
    [InlineData(0x7FFFFFFFu, 1u, Rflags.OF | Rflags.SF | Rflags.AF | Rflags.PF)]
    [InlineData(0xFFFFFFFFu, 1u, Rflags.CF | Rflags.ZF | Rflags.AF | Rflags.PF)]
    [InlineData(0x80000000u, 0x80000000u, Rflags.CF | Rflags.ZF | Rflags.OF | Rflags.PF)]
    [InlineData(1u, 2u, Rflags.PF)]
    public void Add32_sets_all_status_flags(uint x, uint y, ulong expected)
    {
        _g[Gpr.Rax] = x;
        _g[Gpr.Rbx] = y | 0xFFFF_FFFF_0000_0000;
        _g.Run64(a => a.add(eax, ebx));
        Assert.Equal(x + y, _g[Gpr.Rax]);
        Assert.Equal(expected, _g.S->Rflags & Rflags.Status);
    }

    [Theory]
    [InlineData((byte)0x10, (byte)0x20, Rflags.CF | Rflags.SF)]
    [InlineData((byte)0x80, (byte)0x01, Rflags.OF | Rflags.AF)]
    [InlineData((byte)5, (byte)5, Rflags.ZF | Rflags.PF)]
    public void Cmp8_sets_all_status_flags(byte x, byte y, ulong expected)
    {
        _g[Gpr.Rax] = (ulong)x << 8;
        _g[Gpr.Rbx] = y;
        _g.Run64(a => a.cmp(ah, bl));
        // PF as the low byte of the difference has it.
        bool parity = System.Numerics.BitOperations.PopCount((byte)(x - y)) % 2 == 0;
        Assert.Equal(expected & ~Rflags.PF | (parity ? Rflags.PF : 0), _g.S->Rflags & Rflags.Status);
    }

    [Fact]
    public void Inc_and_dec_keep_carry()
    {
        _g[Gpr.Rax] = 0x7FFF_FFFF;
        _g.Run64(a =>
        {
            a.stc();
            a.inc(eax);
        });
        Assert.Equal(Rflags.CF | Rflags.OF | Rflags.SF | Rflags.AF | Rflags.PF, _g.S->Rflags & Rflags.Status);
        _g.Run64(a =>
        {
            a.clc();
            a.dec(eax);
        });
        Assert.Equal(Rflags.OF | Rflags.AF | Rflags.PF, _g.S->Rflags & Rflags.Status);
    }

    [Theory]
    [InlineData(0ul)]
    [InlineData(Rflags.Status)]
    [InlineData(Rflags.CF | Rflags.OF)]
    [InlineData(Rflags.ZF | Rflags.SF)]
    [InlineData(Rflags.PF)]
    [InlineData(Rflags.ZF)]
    [InlineData(Rflags.SF | Rflags.AF)]
    public void Any_combination_of_flags_survives_popf_and_pushf(ulong flags)
    {
        _g[Gpr.Rax] = flags;
        _g.Run64(a =>
        {
            a.push(rax);
            a.popfq();
            a.pushfq();
            a.pop(rbx);
        });
        Assert.Equal(flags | 2, _g[Gpr.Rbx]);
    }

    [Fact]
    public void Every_condition_agrees_with_its_flags_in_jcc_setcc_and_cmovcc()
    {
        for (ulong bits = 0; bits < 32; bits++)
        {
            ulong flags = ((bits & 1) != 0 ? Rflags.CF : 0) | ((bits & 2) != 0 ? Rflags.ZF : 0) | ((bits & 4) != 0 ? Rflags.SF : 0)
                | ((bits & 8) != 0 ? Rflags.OF : 0) | ((bits & 16) != 0 ? Rflags.PF : 0);
            bool c = (bits & 1) != 0, z = (bits & 2) != 0, s = (bits & 4) != 0, o = (bits & 8) != 0, p = (bits & 16) != 0;
            bool[] expected = [o, !o, c, !c, z, !z, c || z, !(c || z), s, !s, p, !p, s != o, s == o, z || s != o, !z && s == o];
            for (int cc = 0; cc < 16; cc++)
            {
                // setcc bl; cmovcc edx, ecx; jcc +3 (over "mov r8b, 1")
                byte[] code = [0x50, 0x9D, 0x0F, (byte)(0x90 + cc), 0xC3, 0x0F, (byte)(0x40 + cc), 0xD1, (byte)(0x70 + cc), 3, 0x41, 0xB0, 1, 0xF4];
                code.CopyTo(new Span<byte>(_g.Ram.Address + TestGuest.Code, code.Length));
                _g.Partition.InvalidateCode(_g.Ram, TestGuest.Code, 16);
                (_g[Gpr.Rax], _g[Gpr.Rbx], _g[Gpr.Rcx], _g[Gpr.Rdx], _g[Gpr.R8]) = (flags, 7, 1, 0, 0);
                _g.S->Rip = TestGuest.Code;
                _g.RunToHalt();
                ulong e = expected[cc] ? 1ul : 0;
                Assert.True(_g[Gpr.Rbx] == e && _g[Gpr.Rdx] == e && _g[Gpr.R8] == 1 - e, $"condition {cc}, flags 0x{flags:X}");
            }
        }
    }

    [Fact]
    public void Multiplication_and_division_of_all_widths()
    {
        _g[Gpr.Rax] = 0xFFFF_FFFF_FFFF_FFFF;
        _g[Gpr.Rbx] = 0x1_0000_0001;
        _g.Run64(a => a.mul(rbx));
        UInt128 product = (UInt128)ulong.MaxValue * 0x1_0000_0001;
        Assert.Equal((ulong)product, _g[Gpr.Rax]);
        Assert.Equal((ulong)(product >> 64), _g[Gpr.Rdx]);
        _g.Run64(a => a.div(rbx));
        Assert.Equal(ulong.MaxValue, _g[Gpr.Rax]);
        Assert.Equal(0ul, _g[Gpr.Rdx]);
        _g[Gpr.Rax] = unchecked((ulong)-100);
        _g[Gpr.Rcx] = 7;
        _g.Run64(a =>
        {
            a.cqo();
            a.idiv(rcx);
        });
        Assert.Equal(-14, (long)_g[Gpr.Rax]);
        Assert.Equal(-2, (long)_g[Gpr.Rdx]);
        _g[Gpr.Rax] = 0xFFF1;
        _g.Run64(a => a.imul(cl));
        Assert.Equal(unchecked((ushort)(-15 * 7)), (ushort)_g[Gpr.Rax]);
    }

    [Fact]
    public void Divide_errors_fault_before_anything_changes()
    {
        (_g[Gpr.Rax], _g[Gpr.Rdx], _g[Gpr.Rcx]) = (5, 1, 1);
        Assert.Equal(Vector.DE, _g.FaultOf(a => a.div(rcx)));
        (_g[Gpr.Rax], _g[Gpr.Rdx], _g[Gpr.Rcx]) = (0x8000_0000_0000_0000, ulong.MaxValue, ulong.MaxValue);
        Assert.Equal(Vector.DE, _g.FaultOf(a => a.idiv(rcx)));
        Assert.Equal(0x8000_0000_0000_0000ul, _g[Gpr.Rax]);
    }

    [Fact]
    public void Bmi_and_byte_order_instructions()
    {
        (_g[Gpr.Rax], _g[Gpr.Rbx], _g[Gpr.Rcx]) = (0x0123_4567_89AB_CDEF, 0xFF00_FF00, 0x0804);
        _g.Write(TestGuest.Data, 0x1122334455667788ul);
        _g.Run64(a =>
        {
            a.pdep(rdx, rax, rbx);
            a.pext(rsi, rax, rbx);
            a.bextr(rdi, rax, rcx);
            a.andn(r8, rbx, rax);
            a.rorx(r9, rax, 8);
            a.movbe(r10, __qword_ptr[TestGuest.Data]);
            a.bswap(rbx);
            a.crc32(r11, al);
        });
        Assert.Equal(0xCD00EF00ul, _g[Gpr.Rdx]);
        Assert.Equal(0x89CDul, _g[Gpr.Rsi]);
        Assert.Equal(0xDEul, _g[Gpr.Rdi]);
        Assert.Equal(0x0123_4567_89AB_CDEFul & ~0xFF00_FF00ul, _g[Gpr.R8]);
        Assert.Equal(0xEF01_2345_6789_ABCDul, _g[Gpr.R9]);
        Assert.Equal(0x8877665544332211ul, _g[Gpr.R10]);
        Assert.Equal(0x00FF_00FF_0000_0000ul, _g[Gpr.Rbx]);
        Assert.Equal(System.Numerics.BitOperations.Crc32C(0, (byte)0xEF), (uint)_g[Gpr.R11]);
    }

    [Fact]
    public void Rip_relative_and_scaled_addresses()
    {
        _g.Write(TestGuest.Data + 0x128, 0xCAFEul);
        (_g[Gpr.Rbx], _g[Gpr.Rcx]) = (TestGuest.Data, 0x20);
        ulong end = _g.Assemble(64, TestGuest.Code, a =>
        {
            a.mov(rax, __qword_ptr[rbx + rcx * 8 + 0x28]);
            Label value = a.CreateLabel();
            a.nop();
            a.mov(rdx, __[value]);
            a.lea(rsi, __[value]);
            a.hlt();
            a.Label(ref value);
            a.dq(0x1234_5678_9ABC_DEF0);
        });
        _g.RunToHalt();
        Assert.Equal(0xCAFEul, _g[Gpr.Rax]);
        Assert.Equal(0x1234_5678_9ABC_DEF0ul, _g[Gpr.Rdx]);
        Assert.Equal(end - 8, _g[Gpr.Rsi]);
    }

    [Fact]
    public void Calls_returns_and_stack_frames()
    {
        _g.Run64(a =>
        {
            Label f = a.CreateLabel(), over = a.CreateLabel();
            a.mov(edi, 20);
            a.call(f);
            a.jmp(over);
            a.Label(ref f);
            a.push(rbp);
            a.mov(rbp, rsp);
            a.push(rdi);
            a.cmp(edi, 1);
            Label baseCase = a.CreateLabel(), done = a.CreateLabel();
            a.jbe(baseCase);
            a.dec(edi);
            a.call(f);
            a.pop(rdi);
            a.push(rdi);
            a.push(rax);
            a.lea(edi, __[rdi - 2]);
            a.call(f);
            a.pop(rcx);
            a.add(rax, rcx);
            a.jmp(done);
            a.Label(ref baseCase);
            a.mov(eax, edi);
            a.Label(ref done);
            a.leave();
            a.ret();
            a.Label(ref over);
            a.nop();
        });
        Assert.Equal(6765ul, _g[Gpr.Rax]);
        Assert.Equal(TestGuest.Stack, _g[Gpr.Rsp]);
    }

    [Fact]
    public void Real_mode_wraps_addresses_and_adjusts_decimals()
    {
        using var g = new TestGuest();
        g.Assemble(16, 0x1000, a =>
        {
            a.mov(ax, 0x1234);
            a.mov(ds, ax);
            a.mov(__byte_ptr[0x10], 0x5A);
            a.mov(al, 0x79);
            a.add(al, 0x35);
            a.daa();
            a.mov(cx, 3);
            Label top = a.CreateLabel();
            a.Label(ref top);
            a.inc(bx);
            a.loop(top);
            a.hlt();
        });
        g.RealMode();
        g.RunToHalt();
        Assert.Equal(0x5A, g.Read<byte>(0x12350));
        Assert.Equal(0x14, (byte)g[Gpr.Rax]);
        Assert.True((g.S->Rflags & Rflags.CF) != 0);
        Assert.Equal(3ul, g[Gpr.Rbx]);
    }

    [Fact]
    public void Protected_mode_checks_limits_and_expand_down_segments()
    {
        using var g = new TestGuest();
        g.Protected32();
        g.S->ES = new SegmentRegister(0x20, 0x2000, 0xFFF, 0x93 | SegmentRegister.DB);
        g.S->FS = new SegmentRegister(0x28, 0, 0xFFFF, 0x97 | SegmentRegister.DB);
        g.Cpu.CommitState();
        Assert.Equal(-1, g.FaultOf(a => a.mov(__dword_ptr.es[0xFFC], 1), 32));
        Assert.Equal(1u, g.Read<uint>(0x2FFC));
        Assert.Equal(Vector.GP, g.FaultOf(a => a.mov(__dword_ptr.es[0xFFD], 1), 32));
        Assert.Equal(Vector.GP, g.FaultOf(a => a.mov(__byte_ptr.fs[0xFFFF], 1), 32));
        Assert.Equal(-1, g.FaultOf(a => a.mov(__byte_ptr.fs[0x10000], 1), 32));
    }
}
