using VirtPS.Sdk;
using VirtPS.Sdk.Machine;

namespace VirtPS.Strategy.Para.Tests;

/// <summary>Start of day, and hypercalls beside the page tables': what they do and what they refuse.</summary>
public sealed class HypercallTests
{
    private const uint BindVirq = 1, Close = 3, Send = 4, AllocUnbound = 6, BindIpi = 7, Unmask = 9;
    private const ulong Pending = 2048, Mask = 2560;

    private static ulong Argument => TestDomain.Scratch;

    [Theory]
    [InlineData(1u)]
    [InlineData(3u)]
    public void A_kernel_without_the_notes_is_one_clear_error(uint note)
    {
        VirtException e = Assert.Throws<VirtException>(() => new TestDomain(notes: n => n[note] = null));
        Assert.Equal("ImageInvalid", e.ErrorId);
        Assert.Contains("Xen PV", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_kernel_for_another_interface_or_with_unknown_needs_is_refused()
    {
        Assert.Contains("xen-2.0", Assert.Throws<VirtException>(() => new TestDomain(notes: n => n[5] = PvImage.Text("xen-2.0"))).Message, StringComparison.Ordinal);
        Assert.Contains("dom0", Assert.Throws<VirtException>(() => new TestDomain(notes: n => n[10] = PvImage.Text("!dom0|pae"))).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Too_little_memory_is_said_with_how_much_is_needed() =>
        Assert.Contains("MB", Assert.Throws<VirtException>(() => new TestDomain(memory: 2)).Message, StringComparison.Ordinal);

    [Theory]
    [InlineData(4)]
    [InlineData(34)]
    [InlineData(63)]
    [InlineData(100_000)]
    public void Unknown_calls_are_not_implemented(int number)
    {
        using var d = new TestDomain();
        Assert.Equal(Errno.ENOSYS, d.Call(number));
    }

    [Fact]
    public void A_pointer_that_leads_nowhere_is_a_fault_of_the_call()
    {
        using var d = new TestDomain();
        foreach (ulong bad in (ulong[])[0x1000, 0x8000_0000_0000_0000, Mmu.XenArea.M2PAddress + (1ul << 40), ulong.MaxValue - 7])
        {
            Assert.Equal(Errno.EFAULT, d.Call(Hypercall.MmuUpdate, bad, 1, 0, XenAbi.Self));
            Assert.Equal(Errno.EFAULT, d.Call(Hypercall.Multicall, bad, 1));
            Assert.Equal(Errno.EFAULT, d.Call(Hypercall.EventChannelOp, BindVirq, bad));
            Assert.Equal(Errno.EFAULT, d.Call(Hypercall.SetTrapTable, bad));
        }

        // The machine-to-physical table can be read, and not written.
        Assert.Equal(Errno.EFAULT, d.Call(Hypercall.XenVersion, 1, Mmu.XenArea.M2PAddress));
        d.AssertSound();
    }

    [Fact]
    public void A_multicall_serves_its_entries_in_order_with_a_result_each()
    {
        using var d = new TestDomain();
        ReadOnlySpan<ulong> calls = [Hypercall.XenVersion, 61, Hypercall.Iret, Hypercall.Multicall];
        for (int i = 0; i < calls.Length; i++)
            d.Poke(Argument + (ulong)i * 64, calls[i]);
        Assert.Equal(0, d.Call(Hypercall.Multicall, TestDomain.ScratchLinear, 4));
        Assert.Equal(4 << 16 | 17, (long)d.Peek(Argument + 8));
        Assert.Equal(Errno.ENOSYS, (long)d.Peek(Argument + 64 + 8));
        Assert.Equal(Errno.EINVAL, (long)d.Peek(Argument + 128 + 8));
        Assert.Equal(Errno.EINVAL, (long)d.Peek(Argument + 192 + 8));
    }

    private static long Bind(TestDomain d, uint command, uint first, uint second, int portAt)
    {
        d.Poke(Argument, first | (ulong)second << 32);
        d.Poke(Argument + 8, 0);
        long result = d.Call(Hypercall.EventChannelOp, command, TestDomain.ScratchLinear);
        return result != 0 ? result : (uint)(portAt == 4 ? d.Peek(Argument) >> 32 : d.Peek(Argument + 8));
    }

    private static long OnPort(TestDomain d, uint command, long port)
    {
        d.Poke(Argument, (ulong)port);
        return d.Call(Hypercall.EventChannelOp, command, TestDomain.ScratchLinear);
    }

    private static unsafe ulong Shared(TestDomain d, ulong offset) => *(ulong*)(d.Domain.SharedInfo + offset);

    [Fact]
    public void An_IPI_becomes_pending_and_is_announced_once_it_is_not_masked()
    {
        using var d = new TestDomain();
        long port = Bind(d, BindIpi, 0, 0, portAt: 4);
        Assert.InRange(port, 1, 63);
        ulong bit = 1ul << (int)port;
        unsafe
        {
            *(ulong*)(d.Domain.SharedInfo + Mask) = bit;
        }

        Assert.Equal(0, OnPort(d, Send, port));
        Assert.Equal(bit, Shared(d, Pending) & bit);
        Assert.Equal(0ul, Shared(d, 0) & 0xFF);
        Assert.Equal(0, OnPort(d, Unmask, port));
        Assert.Equal(1ul, Shared(d, 0) & 0xFF);
        Assert.Equal(1ul, Shared(d, 8));
        Assert.Equal(0, OnPort(d, Close, port));
        Assert.Equal(0ul, Shared(d, Pending) & bit);
        Assert.Equal(Errno.EINVAL, OnPort(d, Send, port));
        Assert.Equal(Errno.EINVAL, OnPort(d, Close, port));
    }

    [Fact]
    public void A_VIRQ_is_bound_once_per_processor_and_to_those_that_there_are()
    {
        using var d = new TestDomain();
        Assert.True(Bind(d, BindVirq, 0, 0, portAt: 8) > 0);
        Assert.Equal(Errno.EEXIST, Bind(d, BindVirq, 0, 0, portAt: 8));
        Assert.Equal(Errno.ENOENT, Bind(d, BindVirq, 0, 1, portAt: 8));
        Assert.Equal(Errno.EINVAL, Bind(d, BindVirq, 24, 0, portAt: 8));
    }

    [Fact]
    public void Ports_run_out_without_harm()
    {
        using var d = new TestDomain();
        int made = 0;
        while (Bind(d, AllocUnbound, XenAbi.Self, 0, portAt: 4) > 0)
            made++;
        Assert.InRange(made, 4000, 4095);
        Assert.Equal(Errno.ENOSPC, Bind(d, AllocUnbound, XenAbi.Self, 0, portAt: 4));
    }

    [Fact]
    public void A_single_shot_timer_raises_its_VIRQ()
    {
        // The guest spins; time runs.
        using var d = new TestDomain(run: true);
        long port = Bind(d, BindVirq, 0, 0, portAt: 8);
        d.Poke(Argument, d.Domain.Clock.Now + 5_000_000);
        d.Poke(Argument + 8, 0);
        Assert.Equal(0, d.Call(Hypercall.VcpuOp, 8, 0, TestDomain.ScratchLinear));
        Assert.True(TestDomain.WaitFor(() => d.Domain.Ports.IsPending((uint)port)), d.ToString());
    }

    [Fact]
    public void Processors_that_are_not_there_are_no_entry()
    {
        using var d = new TestDomain(processors: 2);
        Assert.Equal(1, d.Call(Hypercall.VcpuOp, 3, 0, 0));
        Assert.Equal(0, d.Call(Hypercall.VcpuOp, 3, 1, 0));
        Assert.Equal(Errno.ENOENT, d.Call(Hypercall.VcpuOp, 3, 2, 0));
        Assert.Equal(Errno.EINVAL, d.Call(Hypercall.VcpuOp, 1, 1, 0));
        d.AssertSound();
    }

    [Fact]
    public void Vcpu_info_is_moved_once_to_the_guests_own_writable_memory()
    {
        using var d = new TestDomain();
        d.Poke(Argument, d.Root);
        d.Poke(Argument + 8, 0);
        Assert.Equal(Errno.EINVAL, d.Call(Hypercall.VcpuOp, 10, 0, TestDomain.ScratchLinear));
        d.Poke(Argument, TestDomain.Free);
        d.Poke(Argument + 8, 4096 - 56);
        Assert.Equal(Errno.EINVAL, d.Call(Hypercall.VcpuOp, 10, 0, TestDomain.ScratchLinear));
        d.Poke(Argument + 8, 128);
        Assert.Equal(0, d.Call(Hypercall.VcpuOp, 10, 0, TestDomain.ScratchLinear));
        Assert.Equal(1ul | 1ul << 8, d.Peek((TestDomain.Free << 12) + 128) & 0xFFFF);
        Assert.Equal(Errno.EINVAL, d.Call(Hypercall.VcpuOp, 10, 0, TestDomain.ScratchLinear));
        d.AssertSound();
    }

    [Fact]
    public void The_grant_table_has_frames_up_to_its_limit()
    {
        using var d = new TestDomain();
        d.Poke(Argument, XenAbi.Self | 2ul << 32);
        d.Poke(Argument + 16, TestDomain.ScratchLinear + 64);
        Assert.Equal(0, d.Call(Hypercall.GrantTableOp, 2, TestDomain.ScratchLinear, 1));
        Assert.Equal(0ul, d.Peek(Argument + 8) & 0xFFFF);
        Assert.Equal(d.Domain.Area.GrantFrame(1), d.Peek(Argument + 72));
        d.Poke(Argument, XenAbi.Self | 1000ul << 32);
        Assert.Equal(0, d.Call(Hypercall.GrantTableOp, 2, TestDomain.ScratchLinear, 1));
        Assert.NotEqual(0ul, d.Peek(Argument + 8) & 0xFFFF);
    }

    [Fact]
    public void Shutting_down_ends_the_machine()
    {
        // mov edi,2 ; mov rsi,imm64 ; mov eax,29 ; syscall ; ud2 — the reason behind it is 0.
        ulong reason = PvImage.Entry + 0x100;
        byte[] code = [0xBF, 2, 0, 0, 0, 0x48, 0xBE, .. BitConverter.GetBytes(reason), 0xB8, 29, 0, 0, 0, 0x0F, 0x05, 0x0F, 0x0B, .. new byte[0x100]];
        using var d = new TestDomain(code, run: true);
        Assert.True(d.Machine.WaitForEnd(TimeSpan.FromSeconds(10)) is not null, d.ToString());
        Assert.Equal(VmState.Off, d.Machine.State);
        Assert.Contains("switched itself off", d.Machine.StatusReason, StringComparison.Ordinal);
    }

    [Fact]
    public void An_exception_without_a_handler_ends_the_machine_with_its_registers_in_the_log()
    {
        using var d = new TestDomain([0x0F, 0x0B], run: true);
        Assert.True(d.Machine.WaitForEnd(TimeSpan.FromSeconds(10)) is not null, d.ToString());
        Assert.Contains("no handler for #UD", d.Log.ToString(), StringComparison.Ordinal);
    }
}
