namespace VirtPS.Emulation.Tests;

/// <summary>Code that changes: by itself, through an alias, by a device, by another processor.</summary>
public sealed unsafe class CodeTests : IDisposable
{
    private readonly TestGuest _g = new(2);

    public CodeTests() => _g.LongMode();

    public void Dispose() => _g.Dispose();

    [Fact]
    public void The_very_next_instruction_can_be_rewritten()
    {
        _g.Run64(a =>
        {
            Label target = a.CreateLabel();
            // The immediate of the mov behind is overwritten just before it is executed.
            a.mov(__byte_ptr[target], 0xB0);
            a.Label(ref target);
            a.db(0x90, 0x42);
            a.nop();
        });
        Assert.Equal(0x42ul, _g[Gpr.Rax] & 0xFF);
    }

    [Fact]
    public void A_loop_that_patches_itself_sees_every_patch()
    {
        _g.Run64(a =>
        {
            Label top = a.CreateLabel(), patch = a.CreateLabel();
            a.xor(eax, eax);
            a.xor(ecx, ecx);
            a.Label(ref top);
            a.mov(__byte_ptr[patch], cl);
            a.nop();
            // add eax, imm8
            a.db(0x83, 0xC0);
            a.Label(ref patch);
            a.db(0x7F);
            a.inc(ecx);
            a.cmp(ecx, 20);
            a.jb(top);
        });
        Assert.Equal(190ul, _g[Gpr.Rax]);
    }

    [Fact]
    public void A_write_through_an_alias_mapping_is_seen()
    {
        ulong pdpt = _g.Read<ulong>(_g.S->Cr3) & PageBits.AddressMask;
        ulong pd = _g.AllocateTable();
        _g.Write(pdpt + 8, pd | 7);
        _g.Write(pd, 0x87ul);
        ulong function = TestGuest.Code + 0x800;
        _g.Assemble(64, function, a =>
        {
            a.mov(eax, 1);
            a.ret();
        });
        _g.Run64(a =>
        {
            a.mov(rbx, function);
            a.call(rbx);
            a.mov(r8d, eax);
            a.mov(__dword_ptr[rbx + 0x4000_0001], 2);
            a.call(rbx);
            a.mov(r9d, eax);
        });
        Assert.Equal(1ul, _g[Gpr.R8]);
        Assert.Equal(2ul, _g[Gpr.R9]);
    }

    [Fact]
    public void Data_beside_code_can_be_written_and_read_back()
    {
        _g.Run64(a =>
        {
            Label top = a.CreateLabel();
            a.mov(rbx, TestGuest.Code + 0xE00);
            a.mov(ecx, 1000);
            a.Label(ref top);
            a.add(__qword_ptr[rbx], 3);
            a.dec(ecx);
            a.jne(top);
            a.mov(rax, __qword_ptr[rbx]);
        });
        Assert.Equal(3000ul, _g[Gpr.Rax]);
        Assert.True(_g.Cpu.Counters->CodeInvalidations < 10, "data writes beside code must not drop the code");
    }

    [Fact]
    public void An_instruction_over_a_page_end_is_decoded_from_both_pages()
    {
        ulong at = TestGuest.Code + 0xFFE;
        _g.Assemble(64, at, a =>
        {
            a.mov(eax, 0x11223344);
            a.ret();
        });
        _g.Run64(a =>
        {
            a.mov(rbx, at);
            a.call(rbx);
            a.mov(r8, rax);
            // The last byte of the immediate lies in the second page.
            a.mov(__byte_ptr[rbx + 4], 0x55);
            a.call(rbx);
            a.mov(r9, rax);
        });
        Assert.Equal(0x11223344ul, _g[Gpr.R8]);
        Assert.Equal(0x55223344ul, _g[Gpr.R9]);
    }

    [Fact]
    public void A_device_write_is_seen_at_the_next_entry()
    {
        _g.Host.OnPort = () => Assert.True(_g.Memory.TryWrite(TestGuest.Code + 0x801, stackalloc byte[] { 7 }));
        _g.Assemble(64, TestGuest.Code + 0x800, a =>
        {
            a.mov(eax, 1);
            a.ret();
        });
        _g.Run64(a =>
        {
            a.mov(rbx, TestGuest.Code + 0x800);
            a.call(rbx);
            a.@out(0x80, al);
            a.call(rbx);
        });
        Assert.Equal(7ul, _g[Gpr.Rax]);
    }

    [Fact]
    public void A_device_write_to_the_next_instruction_is_seen_by_it()
    {
        _g.Assemble(64, TestGuest.Code, a =>
        {
            a.@out(0x80, al);
            a.mov(eax, 1);
            a.hlt();
        });
        _g.Host.OnPort = () => Assert.True(_g.Memory.TryWrite(TestGuest.Code + 3, stackalloc byte[] { 7 }));
        _g.RunToHalt();
        Assert.Equal(7ul, _g[Gpr.Rax]);
    }

    [Fact]
    public void Another_processor_patches_code_under_a_running_loop()
    {
        _g.LongMode(vcpu: 1);
        ulong function = TestGuest.Code + 0x3000, flag = TestGuest.Data;
        _g.Assemble(64, function, a =>
        {
            a.mov(eax, 1);
            a.ret();
        });
        _g.Assemble(64, TestGuest.Code, a =>
        {
            // Calls the function until it answers 2.
            Label top = a.CreateLabel();
            a.mov(rbx, function);
            a.Label(ref top);
            a.inc(__qword_ptr[flag]);
            a.call(rbx);
            a.cmp(eax, 2);
            a.jne(top);
            a.hlt();
        });
        _g.Assemble(64, TestGuest.Code + 0x1000, a =>
        {
            Label wait = a.CreateLabel();
            a.Label(ref wait);
            a.pause();
            a.cmp(__qword_ptr[flag], 1000);
            a.jb(wait);
            a.mov(rbx, function);
            a.mov(__dword_ptr[rbx + 1], 2);
            a.hlt();
        });
        _g.Vcpus[1].State->Rip = TestGuest.Code + 0x1000;
        var other = new Thread(() => _g.RunToHalt(1));
        other.Start();
        using var watchdog = new Timer(_ => Interlocked.Or(ref _g.S->Requests, (uint)VcpuRequests.Exit), null, 8000, Timeout.Infinite);
        VcpuExit exit = _g.Cpu.Run();
        other.Join();
        Assert.Equal(VcpuExit.Halt, exit);
    }

    /// <summary>Cross-modifying code (SDM Vol. 3A §9.1.3): what is behind SERIALIZE in its own block is what the other processor wrote before it said so.</summary>
    [Fact]
    public void Behind_SERIALIZE_code_is_what_another_processor_has_made_of_it()
    {
        const int Times = 500;
        _g.LongMode(vcpu: 1);
        // In the page of its caller, so that the call is a direct jump.
        ulong function = TestGuest.Code + 0x800, turn = TestGuest.Data, done = TestGuest.Data + 64;
        _g.Assemble(64, function, a =>
        {
            a.serialize();
            // Its constant, at an aligned address, is what is written.
            a.mov(eax, 0);
            a.ret();
        });
        _g.Assemble(64, TestGuest.Code, a =>
        {
            Label top = a.CreateLabel(), right = a.CreateLabel();
            a.mov(r12d, 1);
            a.xor(r13d, r13d);
            a.Label(ref top);
            a.pause();
            a.cmp(__qword_ptr[turn], r12);
            a.jne(top);
            a.call(function);
            a.cmp(eax, r12d);
            a.je(right);
            a.inc(r13d);
            a.Label(ref right);
            a.mov(__qword_ptr[done], r12);
            a.inc(r12d);
            a.cmp(r12d, Times + 1);
            a.jne(top);
            a.hlt();
        });
        _g.Assemble(64, TestGuest.Code + 0x1000, a =>
        {
            Label top = a.CreateLabel(), wait = a.CreateLabel();
            a.mov(ecx, 1);
            a.Label(ref top);
            a.mov(__dword_ptr[function + 4], ecx);
            a.mov(__qword_ptr[turn], rcx);
            a.Label(ref wait);
            a.pause();
            a.cmp(__qword_ptr[done], rcx);
            a.jne(wait);
            a.inc(ecx);
            a.cmp(ecx, Times + 1);
            a.jne(top);
            a.hlt();
        });
        _g.Vcpus[1].State->Rip = TestGuest.Code + 0x1000;
        var other = new Thread(() => _g.RunToHalt(1));
        other.Start();
        _g.RunToHalt();
        other.Join();
        Assert.Equal((Times + 1ul, 0ul), (_g[Gpr.R12], _g[Gpr.R13]));
    }

    /// <summary>SERIALIZE changes nothing (SDM Vol. 2B).</summary>
    [Fact]
    public void SERIALIZE_leaves_flags_and_registers()
    {
        _g.Run64(a =>
        {
            Label top = a.CreateLabel();
            a.mov(ecx, 100);
            a.Label(ref top);
            a.mov(eax, 0x7FFFFFFF);
            a.add(eax, 1);
            a.serialize();
            a.seto(bl);
            a.dec(ecx);
            a.jne(top);
        });
        Assert.Equal((0x80000000ul, 1ul, 0ul), (_g[Gpr.Rax], _g[Gpr.Rbx] & 0xFF, _g[Gpr.Rcx]));
    }
}
