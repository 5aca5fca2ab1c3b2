namespace VirtPS.Emulation.Tests;

public sealed unsafe class StringTests : IDisposable
{
    private readonly TestGuest _g = new();

    public StringTests() => _g.LongMode();

    public void Dispose() => _g.Dispose();

    [Theory]
    [InlineData(1, 10000, 0x103ul, 0x9F7ul)]
    [InlineData(8, 2000, 0x100ul, 0x9F1ul)]
    [InlineData(2, 5001, 0xFFFul, 0x3ul)]
    public void Rep_movs_copies_over_pages_at_any_alignment(int size, int count, ulong from, ulong to)
    {
        ulong source = TestGuest.Data + from, target = TestGuest.Data + 0x100000 + to;
        int bytes = size * count;
        for (int i = 0; i < bytes; i++)
            _g.Write(source + (ulong)i, (byte)(i * 7 + (i >> 8)));
        _g.Write(target + (ulong)bytes, (byte)0xEE);
        (_g[Gpr.Rsi], _g[Gpr.Rdi], _g[Gpr.Rcx]) = (source, target, (ulong)count);
        _g.Run64(a =>
        {
            switch (size)
            {
                case 1: a.rep.movsb(); break;
                case 2: a.rep.movsw(); break;
                default: a.rep.movsq(); break;
            }
        });
        Assert.True(new Span<byte>(_g.Ram.Address + source, bytes).SequenceEqual(new Span<byte>(_g.Ram.Address + target, bytes)));
        Assert.Equal(0xEE, _g.Read<byte>(target + (ulong)bytes));
        Assert.Equal((source + (ulong)bytes, target + (ulong)bytes, 0ul), (_g[Gpr.Rsi], _g[Gpr.Rdi], _g[Gpr.Rcx]));
    }

    [Fact]
    public void An_overlapping_copy_repeats_its_pattern()
    {
        _g.Write(TestGuest.Data, 0x0403_0201u);
        (_g[Gpr.Rsi], _g[Gpr.Rdi], _g[Gpr.Rcx]) = (TestGuest.Data, TestGuest.Data + 4, 6000);
        _g.Run64(a => a.rep.movsb());
        for (ulong i = 0; i < 6004; i++)
            Assert.Equal(i % 4 + 1, _g.Read<byte>(TestGuest.Data + i));
    }

    [Fact]
    public void Backward_copies_and_fills()
    {
        for (ulong i = 0; i < 100; i++)
            _g.Write(TestGuest.Data + i, (byte)i);
        (_g[Gpr.Rsi], _g[Gpr.Rdi], _g[Gpr.Rcx]) = (TestGuest.Data + 99, TestGuest.Data + 109, 100);
        _g.Run64(a =>
        {
            a.std();
            a.rep.movsb();
            a.cld();
        });
        for (ulong i = 0; i < 100; i++)
            Assert.Equal(i, _g.Read<byte>(TestGuest.Data + 10 + i));
        (_g[Gpr.Rdi], _g[Gpr.Rcx], _g[Gpr.Rax]) = (TestGuest.Data + 0xFFD, 3000, 0xA1B2C3D4);
        _g.Run64(a => a.rep.stosd());
        Assert.Equal(0xA1B2C3D4u, _g.Read<uint>(TestGuest.Data + 0xFFD));
        Assert.Equal(0xA1B2C3D4u, _g.Read<uint>(TestGuest.Data + 0xFFD + 2999 * 4));
        Assert.Equal(0u, _g.Read<uint>(TestGuest.Data + 0xFFD + 3000 * 4));
    }

    /// <summary>Copies and fills in both directions, over page ends, onto themselves at any distance: what they leave is what one element after the other would.</summary>
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public void Copies_and_fills_in_either_direction_go_element_by_element(int seed)
    {
        const int Room = 0x6000;
        var random = new Random(seed);
        byte[] expected = new byte[Room];
        for (int i = 0; i < 300; i++)
        {
            random.NextBytes(expected);
            expected.CopyTo(new Span<byte>(_g.Ram.Address + TestGuest.Data, Room));
            int size = 1 << random.Next(4), count = random.Next(random.Next(2) == 0 ? 20 : 900);
            bool backward = random.Next(3) != 0, copies = random.Next(3) != 0;
            int span = Math.Max(1, count) * size, from = random.Next(Room - span), to = random.Next(2) == 0 ? random.Next(Room - span) : Math.Clamp(from + random.Next(-40, 41), 0, Room - span);
            // Backward, the first element is the highest one.
            int first = backward ? (Math.Max(1, count) - 1) * size : 0, step = backward ? -size : size;
            ulong value = (ulong)random.NextInt64();
            for (int n = 0; n < count; n++)
            {
                int at = to + first + n * step;
                if (copies)
                    expected.AsSpan(from + first + n * step, size).ToArray().CopyTo(expected, at);
                else
                    BitConverter.GetBytes(value).AsSpan(0, size).CopyTo(expected.AsSpan(at));
            }

            ulong source = TestGuest.Data + (ulong)(from + first), target = TestGuest.Data + (ulong)(to + first);
            (_g[Gpr.Rsi], _g[Gpr.Rdi], _g[Gpr.Rcx], _g[Gpr.Rax]) = (source, target, (ulong)count, value);
            _g.Run64(a =>
            {
                if (backward)
                    a.std();
                Repeat(a, copies, size);
                a.cld();
            });
            Assert.True(expected.AsSpan().SequenceEqual(new Span<byte>(_g.Ram.Address + TestGuest.Data, Room)), $"{i}: {count} of {size} bytes {(backward ? "down" : "up")}, {from} to {to}");
            ulong moved = (ulong)(long)(count * step);
            Assert.Equal((copies ? source + moved : source, target + moved, 0ul), (_g[Gpr.Rsi], _g[Gpr.Rdi], _g[Gpr.Rcx]));
        }
    }

    private static void Repeat(Assembler a, bool copies, int size)
    {
        switch (copies, size)
        {
            case (true, 1): a.rep.movsb(); break;
            case (true, 2): a.rep.movsw(); break;
            case (true, 4): a.rep.movsd(); break;
            case (true, _): a.rep.movsq(); break;
            case (false, 1): a.rep.stosb(); break;
            case (false, 2): a.rep.stosw(); break;
            case (false, 4): a.rep.stosd(); break;
            default: a.rep.stosq(); break;
        }
    }

    [Fact]
    public void A_fault_on_the_way_down_leaves_what_is_done()
    {
        _g.UnmapLarge(0x40_0000);
        (_g[Gpr.Rdi], _g[Gpr.Rcx], _g[Gpr.Rax]) = (0x6000FE, 0x400, 0x77);
        _g.S->Rflags |= Rflags.DF;
        Assert.Equal(Vector.PF, _g.FaultOf(a => a.rep.stosb()));
        Assert.Equal((0x5FFFFFul, 0x301ul), (_g[Gpr.Rdi], _g[Gpr.Rcx]));
        Assert.Equal(0x5FFFFFul, _g.S->Cr2);
        Assert.Equal(0x77, _g.Read<byte>(0x600000));
    }

    [Fact]
    public void Scas_and_cmps_stop_where_they_should()
    {
        _g.Write(TestGuest.Data + 777, (byte)5);
        (_g[Gpr.Rdi], _g[Gpr.Rcx], _g[Gpr.Rax]) = (TestGuest.Data, 5000, 5);
        _g.Run64(a => a.repne.scasb());
        Assert.Equal(TestGuest.Data + 778, _g[Gpr.Rdi]);
        Assert.Equal(5000ul - 778, _g[Gpr.Rcx]);
        Assert.True((_g.S->Rflags & Rflags.ZF) != 0);
        (_g[Gpr.Rsi], _g[Gpr.Rdi], _g[Gpr.Rcx]) = (TestGuest.Data, TestGuest.Data + 0x4000, 2000);
        _g.Run64(a => a.repe.cmpsb());
        Assert.Equal(TestGuest.Data + 778, _g[Gpr.Rsi]);
        Assert.True((_g.S->Rflags & (Rflags.ZF | Rflags.CF)) == 0);
    }

    [Fact]
    public void A_fault_in_the_middle_leaves_what_is_done_and_can_be_resumed()
    {
        _g.UnmapLarge(0x40_0000);
        (_g[Gpr.Rdi], _g[Gpr.Rcx], _g[Gpr.Rax]) = (0x3FFF00, 0x400, 0x77);
        Assert.Equal(Vector.PF, _g.FaultOf(a => a.rep.stosb()));
        Assert.Equal((0x400000ul, 0x300ul), (_g[Gpr.Rdi], _g[Gpr.Rcx]));
        Assert.Equal(0x400000ul, _g.S->Cr2);
        Assert.Equal(0x77, _g.Read<byte>(0x3FFFFF));
    }

    [Fact]
    public void A_request_interrupts_a_long_copy_between_two_elements()
    {
        (_g[Gpr.Rsi], _g[Gpr.Rdi], _g[Gpr.Rcx]) = (TestGuest.Data, TestGuest.Data + 0x200000, 0x100000);
        _g.Assemble(64, TestGuest.Code, a =>
        {
            a.rep.movsb();
            a.hlt();
        });
        int rounds = 0;
        VcpuExit exit;
        _g.S->Rip = TestGuest.Code;
        using var kicker = new Timer(_ => Interlocked.Or(ref _g.S->Requests, (uint)VcpuRequests.Exit), null, 0, 1);
        do
        {
            exit = _g.Cpu.Run();
            rounds++;
            Assert.Equal(TestGuest.Data + (0x100000 - _g[Gpr.Rcx]), _g[Gpr.Rsi]);
        }
        while (exit == VcpuExit.Kicked);
        Assert.Equal(VcpuExit.Halt, exit);
        Assert.Equal(0ul, _g[Gpr.Rcx]);
    }

    [Fact]
    public void Rep_ins_and_outs_go_to_the_device_in_batches()
    {
        (_g[Gpr.Rdi], _g[Gpr.Rcx], _g[Gpr.Rdx]) = (TestGuest.Data + 0xFF0, 16, 0x1F0);
        _g.Host.NextRead = 0x10;
        _g.Run64(a =>
        {
            a.rep.insw();
            a.mov(rsi, TestGuest.Data + 0xFF0);
            a.mov(ecx, 2);
            a.rep.outsd();
        });
        Assert.Equal(["in 1f0 2x8", "in 1f0 2x8", "out 1f0 4x2 1716151413121110"], _g.Host.Log);
        Assert.Equal(0x1110, _g.Read<ushort>(TestGuest.Data + 0xFF0));
        Assert.Equal(0x1110, _g.Read<ushort>(TestGuest.Data + 0x1000));
    }
}
