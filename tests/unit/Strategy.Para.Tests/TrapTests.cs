using VirtPS.Sdk.Machine;
using VirtPS.Strategy.Para.Boot;
using static Iced.Intel.AssemblerRegisters;

namespace VirtPS.Strategy.Para.Tests;

/// <summary>Ways into the kernel that Linux seldom takes: the failsafe callback and NMIs.</summary>
public sealed class TrapTests
{
    private const uint RegisterCallback = 0, UnregisterCallback = 1, Failsafe = 1, Nmi = 4, SendNmi = 11;
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(20);

    /// <summary>Where handlers stand: their distance from the entry.</summary>
    private const int HandlerAt = 0x200;
    private const ulong Handler = PvImage.Entry + HandlerAt;

    private static ulong Result => TestDomain.Scratch + 0x100;

    private static ulong ResultLinear => TestDomain.ScratchLinear + 0x100;

    private static byte[] Image(Action<Iced.Intel.Assembler> code, Action<Iced.Intel.Assembler> handler)
    {
        byte[] first = PvCode.Assemble(code), second = PvCode.Assemble(handler);
        Assert.InRange(first.Length, 0, HandlerAt);
        return [.. first, .. new byte[HandlerAt - first.Length], .. second];
    }

    private static void Callback(TestDomain d, uint type, ulong address)
    {
        d.Poke(TestDomain.Scratch, type);
        d.Poke(TestDomain.Scratch + 8, address);
        Assert.Equal(0, d.Call(Hypercall.CallbackOp, RegisterCallback, TestDomain.ScratchLinear));
    }

    /// <summary>A return that cannot be made arrives at the failsafe callback, on the stack that the frame names, with what could not be entered.</summary>
    [Theory]
    [InlineData(0x5000ul, 0x0ul)] // no such code segment
    [InlineData(0xE030ul, 0x5000ul)] // no such stack segment
    [InlineData(0xE028ul, 0x0ul)] // a data segment as code
    public void An_IRET_that_is_not_possible_calls_the_failsafe_handler(ulong code, ulong stack)
    {
        byte[] image = Image(a =>
        {
            // The frame of the hypercall IRET: rax, r11, rcx, flags, rip, cs, rflags, rsp, ss.
            a.mov(rsp, TestDomain.ScratchLinear + 0x400);
            foreach (ulong value in (ulong[])[0xAA, 0x11, 0xCC, 0, PvImage.Entry, code, 0x202, TestDomain.ScratchLinear + 0x808, stack])
            {
                a.mov(rax, value);
                a.mov(__qword_ptr[rsp], rax);
                a.add(rsp, 8);
            }

            a.sub(rsp, 72);
            a.Hypercall(Hypercall.Iret);
            a.ud2();
        }, a =>
        {
            a.mov(rbx, ResultLinear);
            a.mov(__qword_ptr[rbx], rsp);
            a.mov(__qword_ptr[rbx + 8], rax);
            for (int i = 0; i < 11; i++)
            {
                a.mov(rax, __qword_ptr[rsp + i * 8]);
                a.mov(__qword_ptr[rbx + 16 + i * 8], rax);
            }

            a.PowerOff(TestDomain.ScratchLinear);
        });
        using var d = new TestDomain(image);
        Callback(d, Failsafe, Handler);
        d.Machine.Resume();
        Assert.True(d.Machine.WaitForEnd(Limit) is not null, d.ToString());
        Assert.True(d.Machine.State == VmState.Off, d.ToString());
        ulong frame = TestDomain.ScratchLinear + 0x800 - 88;
        Assert.Equal(frame, d.Peek(Result));
        Assert.Equal(0xAAul, d.Peek(Result + 8));
        ulong[] seen = [.. Enumerable.Range(0, 11).Select(i => d.Peek(Result + 16 + (ulong)i * 8))];
        // rcx, r11, four selectors, rip, cs, rflags, rsp, ss (public/arch-x86/xen.h).
        Assert.Equal([0xCC, 0x11, 0, 0, 0, 0, PvImage.Entry, code & 0xFFFC, 0x202, TestDomain.ScratchLinear + 0x808, stack], seen);
    }

    [Fact]
    public void Without_a_failsafe_handler_the_domain_ends_and_says_why()
    {
        byte[] code = PvCode.Assemble(a =>
        {
            a.mov(rsp, TestDomain.ScratchLinear + 0x400);
            a.Hypercall(Hypercall.Iret);
        });
        using var d = new TestDomain(code, run: true);
        Assert.True(d.Machine.WaitForEnd(Limit) is not null, d.ToString());
        Assert.Contains("IRET to CS 0x0", d.Log.ToString(), StringComparison.Ordinal);
    }

    /// <summary>Counts NMIs at Result and returns by the hypercall; the kernel counts its own rounds beside it, with events masked.</summary>
    private static byte[] NmiCounter() => Image(a =>
    {
        Iced.Intel.Label loop = a.CreateLabel();
        a.mov(rbx, ResultLinear);
        a.Label(ref loop);
        a.inc(__qword_ptr[rbx + 8]);
        a.jmp(loop);
    }, a =>
    {
        a.pop(rcx);
        a.pop(r11);
        a.mov(r12, ResultLinear);
        a.inc(__qword_ptr[r12]);
        // It is held back while its handler runs: the count stays until the test lets go.
        Iced.Intel.Label wait = a.CreateLabel();
        a.Label(ref wait);
        a.cmp(__qword_ptr[r12 + 16], 0);
        a.jne(wait);
        a.push(0);
        a.push(rcx);
        a.push(r11);
        a.push(rax);
        a.Hypercall(Hypercall.Iret);
    });

    [Theory]
    [InlineData("interpreter")]
    [InlineData("translator")]
    public void An_NMI_interrupts_a_kernel_with_events_masked_once_until_it_returns(string tier)
    {
        using var d = new TestDomain(NmiCounter(), processors: 2, tier: tier);
        Callback(d, Nmi, Handler);
        ulong count() => d.Peek(Result);
        // From the other processor, which never runs itself.
        long send(ulong vcpu = 0, ulong argument = 0) => d.CallOn(1, Hypercall.VcpuOp, SendNmi, vcpu, argument);
        d.Machine.Resume();
        d.Poke(Result + 16, 1);
        Assert.Equal(0, send());
        Assert.True(TestDomain.WaitFor(() => count() == 1), d.ToString());
        // In its handler: two more are one, and that waits.
        Assert.Equal(0, send());
        Assert.Equal(0, send());
        Thread.Sleep(50);
        Assert.Equal(1ul, count());
        ulong rounds = d.Peek(Result + 8);
        d.Poke(Result + 16, 0);
        Assert.True(TestDomain.WaitFor(() => count() == 2 && d.Peek(Result + 8) != rounds), d.ToString());
        Thread.Sleep(50);
        Assert.Equal(2ul, count());
        Assert.Equal(Errno.EINVAL, send(argument: 1));
        Assert.Equal(Errno.ENOENT, send(vcpu: 2));
        // Without a handler it is lost.
        d.Poke(TestDomain.Scratch, Nmi);
        Assert.Equal(0, d.Call(Hypercall.CallbackOp, UnregisterCallback, TestDomain.ScratchLinear));
        Assert.Equal(0, send());
        rounds = d.Peek(Result + 8);
        Assert.True(TestDomain.WaitFor(() => d.Peek(Result + 8) != rounds), d.ToString());
        Assert.Equal(2ul, count());
        Assert.Equal(VmState.Running, d.Machine.State);
    }
}
