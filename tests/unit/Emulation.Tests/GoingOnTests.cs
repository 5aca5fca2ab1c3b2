using VirtPS.Sdk.Rings;

namespace VirtPS.Emulation.Tests;

/// <summary>
/// What leaves a block but goes on in generated code (SoftVcpu.GoingOn): system calls and returns by the thousand. Each program runs in the interpreter and in the translator, and must end in the same place
/// with the same registers, flags and counts; what has to stop it must stop it at the same instruction.
/// </summary>
public sealed unsafe class GoingOnTests
{
    private const ulong Kernel = 0x2_0000, User = 0x40_0000, UserFrame = 0x20_0000;
    private const int Calls = 1000;

    public GoingOnTests() => Assert.SkipUnless(EngineOptions.CanTranslate, "this host cannot run generated code");

    /// <summary>How a run ended.</summary>
    private sealed record End(VcpuExit Exit, string State, ulong Ring0, ulong Ring3, ulong Syscalls, ulong Sysrets, int Kicks)
    {
        /// <summary>How often generated code was entered from outside.</summary>
        public ulong? Entries { get; init; }
    }

    /// <summary>Ring 3 calls the kernel in a loop, RBX counting down, and at last with RAX = 0, for which the kernel halts.</summary>
    private static void Caller(Assembler a)
    {
        Label loop = a.CreateLabel();
        a.mov(ebx, Calls);
        a.Label(ref loop);
        a.mov(eax, ebx);
        a.syscall();
        a.lea(r8, __[r8 + rax]);
        a.dec(ebx);
        a.jne(loop);
        a.xor(eax, eax);
        a.syscall();
        a.ud2();
    }

    private static End Run(bool translate, Action<Assembler> kernel, Action<TestGuest>? prepare = null, int ring = 3)
    {
        using var g = new TestGuest(engine: translate ? TestGuest.Translator : new EngineOptions());
        g.LongMode(ring: ring);
        g.WriteFaultTables(64);
        g.S->Efer |= Efer.SCE;
        // SYSCALL: CS 8, SS 16. SYSRET: CS 24 | 3 + 16, SS 24 | 3 + 8.
        g.S->Star = 24ul << 48 | 8ul << 32;
        g.S->Lstar = Kernel;
        g.S->Sfmask = Rflags.IF | Rflags.TF | Rflags.DF | Rflags.CF;
        g.S->Rflags = Rflags.IF | Rflags.Fixed1 | Rflags.PF | Rflags.CF;
        g.Assemble(64, Kernel, kernel);
        g.Assemble(64, TestGuest.Code, Caller);
        prepare?.Invoke(g);
        g.Cpu.CommitState();
        VcpuExit exit;
        int kicks = -1;
        do
        {
            exit = g.Cpu.Run();
            kicks++;
        }
        while (exit == VcpuExit.Kicked && kicks < 10);
        VcpuState* s = g.S;
        string registers = string.Join(' ', Enumerable.Range(0, 16).Select(r => $"{(Gpr)r}={s->Gpr[r]:x}"));
        string frame = string.Join(' ', Enumerable.Range(1, 6).Select(i => g.Read<ulong>(TestGuest.Stack - (ulong)i * 8).ToString("x", null)));
        return new End(exit, $"rip {s->Rip:x} cpl {s->Cpl} cs {s->CS.Selector:x} ss {s->SS.Selector:x} flags {s->Rflags:x} cr2 {s->Cr2:x} retired {s->InstructionsRetired} {registers} frame {frame} {string.Join(';', g.Host.Log)}",
            g.Cpu.Counters->Instructions[0], g.Cpu.Counters->Instructions[3], g.Cpu.Counters->Transitions[(int)RingCause.Syscall], g.Cpu.Counters->Transitions[(int)RingCause.Sysret],
            kicks)
        {
            Entries = g.Cpu.ReadStatistics().Engine!.CodeEntries,
        };
    }

    /// <summary>Both ways; what came out. At most so many entries of generated code, where the program runs to its end there.</summary>
    private static End Compare(Action<Assembler> kernel, Action<TestGuest>? prepare = null, int ring = 3, ulong entries = 60)
    {
        End expected = Run(false, kernel, prepare, ring), actual = Run(true, kernel, prepare, ring);
        Assert.Equal(expected with { Entries = null }, actual with { Entries = null });
        Assert.InRange(actual.Entries!.Value, 1ul, entries);
        return expected;
    }

    /// <summary>A kernel that counts its calls in R15, does something at call number <paramref name="at"/>, and halts for call 0.</summary>
    private static Action<Assembler> KernelThat(Action<Assembler>? does = null, int at = Calls / 2) => a =>
    {
        Label end = a.CreateLabel(), ordinary = a.CreateLabel();
        a.inc(r15);
        a.test(eax, eax);
        a.je(end);
        if (does is not null)
        {
            a.cmp(r15, at);
            a.jne(ordinary);
            does(a);
        }

        a.Label(ref ordinary);
        a.add(rax, 3);
        a.sysretq();
        a.Label(ref end);
        a.hlt();
    };

    [Fact]
    public void Calls_and_returns_stay_in_generated_code_and_are_counted_by_ring()
    {
        End end = Compare(KernelThat());
        Assert.Equal(VcpuExit.Halt, end.Exit);
        Assert.Equal((1001ul, 1000ul), (end.Syscalls, end.Sysrets));
        // Before the loop 1, in it 5, behind it 2; in the kernel 5, for the last call 4.
        Assert.Equal((1ul + 5 * Calls + 2, 5ul * Calls + 4), (end.Ring3, end.Ring0));
    }

    [Fact]
    public void An_interrupt_that_waited_in_the_kernel_is_taken_behind_the_return()
    {
        End end = Compare(KernelThat(a => a.@out(0x80, al)), g => g.Host.OnPort = () => Interlocked.Or(ref g.S->Requests, (uint)VcpuRequests.Interrupt));
        Assert.Equal(VcpuExit.InterruptWindow, end.Exit);
        Assert.Equal((500ul, 500ul), (end.Syscalls, end.Sysrets));
        Assert.Contains("cpl 3", end.State, StringComparison.Ordinal);
    }

    [Fact]
    public void A_kick_ends_a_run_once_and_loses_nothing()
    {
        End end = Compare(KernelThat(a => a.@out(0x80, al)), g => g.Host.OnPort = () =>
        {
            Interlocked.Or(ref g.S->Requests, (uint)VcpuRequests.Exit);
            g.Cpu.Kick();
        });
        Assert.Equal((VcpuExit.Halt, 1), (end.Exit, end.Kicks));
        Assert.Equal((1001ul, 1000ul), (end.Syscalls, end.Sysrets));
    }

    [Fact]
    public void A_return_with_the_trap_flag_traps_behind_one_instruction()
    {
        End end = Compare(KernelThat(a => a.or(r11, (int)Rflags.TF)));
        Assert.Contains($"rip {TestGuest.Handlers + (ulong)Vector.DB + 1:x} ", end.State, StringComparison.Ordinal);
        Assert.Equal((500ul, 500ul), (end.Syscalls, end.Sysrets));
    }

    [Fact]
    public void A_return_to_an_address_that_is_not_canonical_faults_there()
    {
        End end = Compare(KernelThat(a => a.mov(rcx, 0x8000_0000_0000_0000)));
        Assert.Contains($"rip {TestGuest.Handlers + (ulong)Vector.GP + 1:x} ", end.State, StringComparison.Ordinal);
    }

    [Fact]
    public void A_return_to_a_page_that_is_not_there_faults_there()
    {
        End end = Compare(KernelThat(a => a.mov(ecx, (int)User)), g => g.UnmapLarge(User));
        Assert.Contains($"rip {TestGuest.Handlers + (ulong)Vector.PF + 1:x} ", end.State, StringComparison.Ordinal);
        Assert.Contains($"cr2 {User:x} ", end.State, StringComparison.Ordinal);
    }

    /// <summary>The kernel maps other code at the place that it returns to, each time: what was found there before must not be.</summary>
    [Fact]
    public void What_is_mapped_anew_is_what_is_returned_to()
    {
        ulong entry = 0;
        End end = Compare(a =>
        {
            Label end = a.CreateLabel();
            a.inc(r15);
            a.test(eax, eax);
            a.je(end);
            a.xor(__qword_ptr[r14], 0x60_0000);
            a.mov(rdx, cr3);
            a.mov(cr3, rdx);
            a.sysretq();
            a.Label(ref end);
            a.hlt();
        }, g =>
        {
            ulong pd = g.Read<ulong>(g.Read<ulong>(g.S->Cr3) & PageBits.AddressMask) & PageBits.AddressMask;
            entry = pd + (User >> 21) * 8;
            // Linear User is frame 2 MiB or 4 MiB in turn.
            g.Write(entry, UserFrame | 0x87ul);
            foreach ((ulong frame, int weight) in ((ulong, int)[])[(UserFrame, 1), (UserFrame * 2, 0x1000)])
            {
                g.Assemble(64, frame, a =>
                {
                    Label loop = a.CreateLabel(), last = a.CreateLabel();
                    a.mov(ebx, Calls);
                    a.Label(ref loop);
                    a.mov(eax, ebx);
                    a.syscall();
                    a.add(r8, weight);
                    a.dec(ebx);
                    a.jne(loop);
                    a.xor(eax, eax);
                    a.syscall();
                }, User);
            }

            g[Gpr.R14] = entry;
            g.S->Rip = User;
        }, entries: 8 * Calls);
        Assert.Equal(VcpuExit.Halt, end.Exit);
        Assert.Contains($" R8={Calls / 2 * 0x1001:x} ", end.State, StringComparison.Ordinal);
    }

    /// <summary>Under SMAP a supervisor reads a user page while RFLAGS.AC is set, by the thousand, and at last without.</summary>
    [Fact]
    public void Without_AC_a_user_page_is_out_of_reach_again()
    {
        End end = Compare(a => a.hlt(), g =>
        {
            ulong pd = g.Read<ulong>(g.Read<ulong>(g.S->Cr3) & PageBits.AddressMask) & PageBits.AddressMask;
            for (ulong i = 0; i < TestGuest.RamSize >> 21; i++)
                g.Write(pd + i * 8, i << 21 | (i == User >> 21 ? 0x87ul : 0x83ul));
            g.S->Cr4 |= Cr4.SMAP;
            g.Write(User, 5ul);
            g.Assemble(64, TestGuest.Code, a =>
            {
                Label loop = a.CreateLabel();
                a.mov(ebx, Calls);
                a.Label(ref loop);
                a.push((int)(Rflags.AC | Rflags.Fixed1));
                a.popfq();
                a.add(rax, __[(long)User]);
                a.push((int)Rflags.Fixed1);
                a.popfq();
                a.dec(ebx);
                a.jne(loop);
                a.mov(rdx, __[(long)User]);
                a.ud2();
            });
        }, ring: 0, entries: 3 * Calls);
        Assert.Contains($"rip {TestGuest.Handlers + (ulong)Vector.PF + 1:x} ", end.State, StringComparison.Ordinal);
        Assert.Contains($"Rax={5 * Calls:x} ", end.State, StringComparison.Ordinal);
    }
}
