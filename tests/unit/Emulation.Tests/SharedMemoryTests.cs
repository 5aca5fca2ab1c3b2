namespace VirtPS.Emulation.Tests;

/// <summary>Atomic instructions on two processors at once, and the marks that others rely on.</summary>
public sealed unsafe class SharedMemoryTests : IDisposable
{
    private const int Rounds = 20000;
    private readonly TestGuest _g = new(2);

    public SharedMemoryTests()
    {
        _g.LongMode(0);
        _g.LongMode(1);
    }

    public void Dispose() => _g.Dispose();

    private void RunBoth(Action<Assembler> body, int rounds = Rounds)
    {
        _g.Assemble(64, TestGuest.Code, a =>
        {
            Label top = a.CreateLabel();
            a.mov(r15d, rounds);
            a.Label(ref top);
            a.nop();
            body(a);
            a.dec(r15d);
            a.jne(top);
            a.hlt();
        });
        Exception? failure = null;
        var threads = new Thread[2];
        for (int i = 0; i < 2; i++)
        {
            int n = i;
            _g.Vcpus[n].State->Gpr[(int)Gpr.Rsp] = TestGuest.Stack + 0x1000 * (ulong)n;
            threads[i] = new Thread(() =>
            {
                try
                {
                    _g.RunToHalt(n);
                }
                catch (Exception e)
                {
                    failure = e;
                }
            });
        }

        foreach (Thread t in threads)
            t.Start();
        // Nothing may still run when the guest's memory goes.
        for (int i = 0; i < 2; i++)
        {
            for (bool ended = threads[i].Join(TimeSpan.FromSeconds(20)); !ended; ended = threads[i].Join(10))
                _g.Vcpus[i].Kick();
        }

        Assert.Null(failure);
    }

    [Theory]
    [InlineData(0ul)]
    [InlineData(0x3Dul)]    // over a cache line
    [InlineData(0xFFDul)]   // over a page
    public void Locked_increments_lose_nothing_at_any_alignment(ulong offset)
    {
        // Linux may trap each locked access over a cache line (bus lock detection), and takes up to half a millisecond for it.
        int rounds = offset == 0 ? Rounds : 2000;
        RunBoth(a => a.@lock.inc(__qword_ptr[TestGuest.Data + offset]), rounds);
        Assert.Equal(2ul * (ulong)rounds, _g.Read<ulong>(TestGuest.Data + offset));
    }

    [Fact]
    public void Mixed_locked_and_exchanging_instructions_agree()
    {
        RunBoth(a =>
        {
            a.mov(eax, 1);
            a.@lock.xadd(__dword_ptr[TestGuest.Data], eax);
            a.@lock.sub(__word_ptr[TestGuest.Data + 8], 1);
            a.@lock.adc(__qword_ptr[TestGuest.Data + 16], 0);
            a.stc();
            a.@lock.adc(__qword_ptr[TestGuest.Data + 24], 1);
        });
        Assert.Equal(2u * Rounds, _g.Read<uint>(TestGuest.Data));
        Assert.Equal(unchecked((ushort)(-2 * Rounds)), _g.Read<ushort>(TestGuest.Data + 8));
        Assert.Equal(4ul * Rounds, _g.Read<ulong>(TestGuest.Data + 24));
    }

    [Fact]
    public void A_spin_lock_of_xchg_protects_plain_code()
    {
        RunBoth(a =>
        {
            Label spin = a.CreateLabel(), got = a.CreateLabel();
            a.Label(ref spin);
            a.mov(eax, 1);
            a.xchg(__dword_ptr[TestGuest.Data], eax);
            a.test(eax, eax);
            a.je(got);
            a.pause();
            a.jmp(spin);
            a.Label(ref got);
            a.inc(__qword_ptr[TestGuest.Data + 64]);
            a.mov(__dword_ptr[TestGuest.Data], 0);
        });
        Assert.Equal(2ul * Rounds, _g.Read<ulong>(TestGuest.Data + 64));
    }

    [Fact]
    public void Cmpxchg16b_counts_in_both_halves_together()
    {
        RunBoth(a =>
        {
            Label again = a.CreateLabel();
            a.mov(rax, __qword_ptr[TestGuest.Data]);
            a.mov(rdx, __qword_ptr[TestGuest.Data + 8]);
            a.Label(ref again);
            a.lea(rbx, __[rax + 1]);
            a.lea(rcx, __[rdx + 2]);
            a.@lock.cmpxchg16b(__[TestGuest.Data]);
            a.jne(again);
        });
        Assert.Equal((2ul * Rounds, 4ul * Rounds), (_g.Read<ulong>(TestGuest.Data), _g.Read<ulong>(TestGuest.Data + 8)));
    }

    [Fact]
    public void Dirty_marks_come_back_after_each_harvest()
    {
        using DirtyTracker tracker = _g.Memory.CreateDirtyTracker("test");
        ulong[] bitmap = new ulong[(_g.Ram.PageCount + 63) / 64];
        _g[Gpr.Rbx] = TestGuest.Data;
        for (int round = 0; round < 3; round++)
        {
            tracker.Harvest(_g.Ram, bitmap);
            Array.Clear(bitmap);
            _g.Run64(a => a.mov(__byte_ptr[rbx + 0x3004], (sbyte)1));
            tracker.Harvest(_g.Ram, bitmap);
            Assert.Equal(1ul << (int)((TestGuest.Data + 0x3000 >> 12) & 63), bitmap[(TestGuest.Data + 0x3000 >> 12) / 64]);
            Array.Clear(bitmap);
            _g.Run64(a => a.mov(al, __byte_ptr[rbx + 0x3004]));
            tracker.Harvest(_g.Ram, bitmap);
            Assert.Equal(0ul, bitmap[(TestGuest.Data >> 12) / 64]);
        }
    }

    [Fact]
    public void Harvesting_while_the_guest_writes_misses_nothing()
    {
        using DirtyTracker tracker = _g.Memory.CreateDirtyTracker("live");
        ulong[] bitmap = new ulong[(_g.Ram.PageCount + 63) / 64];
        // The guest counts up in one page; after a harvest that shows the page clean, the value may not have moved since the last look.
        _g.Assemble(64, TestGuest.Code, a =>
        {
            Label top = a.CreateLabel();
            a.Label(ref top);
            a.inc(__qword_ptr[TestGuest.Data]);
            a.jmp(top);
        });
        var runner = new Thread(() => _g.Cpu.Run());
        runner.Start();
        ulong copy = 0;
        int page = (int)(TestGuest.Data >> 12);
        for (int i = 0; i < 300; i++)
        {
            Array.Clear(bitmap);
            tracker.Harvest(_g.Ram, bitmap);
            if ((bitmap[page / 64] >> (page & 63) & 1) != 0)
                copy = Volatile.Read(ref *(ulong*)(_g.Ram.Address + TestGuest.Data));
        }

        Interlocked.Or(ref _g.S->Requests, (uint)VcpuRequests.Exit);
        _g.Cpu.Kick();
        runner.Join();
        Array.Clear(bitmap);
        tracker.Harvest(_g.Ram, bitmap);
        if ((bitmap[page / 64] >> (page & 63) & 1) == 0)
            Assert.Equal(copy, _g.Read<ulong>(TestGuest.Data));
        else
            Assert.True(_g.Read<ulong>(TestGuest.Data) >= copy);
    }
}
