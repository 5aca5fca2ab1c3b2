using System.Diagnostics;
using Iced.Intel;
using VirtPS.Sdk;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Interrupts;
using VirtPS.Strategy.Hardware;
using VirtPS.X86;
using static Iced.Intel.AssemblerRegisters;

namespace VirtPS.Hardware.Tests;

/// <summary>KVM's PIC, PIT, IOAPIC and local APICs as a partition's, by small 16-bit guests; a paravirtual KVM is right about them too (docs/KVM.md).</summary>
[Collection("/dev/kvm")]
public sealed class OwnControllersTests
{
    private const uint Ticks = 0x500, Messages = 0x504, Started = 0x508;
    private const byte MessageVector = 0x40;
    private const uint ApicBase = 0x1B, X2Eoi = 0x80B, X2Spurious = 0x80F, X2Command = 0x830;

    public OwnControllersTests()
    {
        using KvmDevice? kvm = KvmDevice.TryOpen(HardwareOptions.DefaultDevice, out Sdk.Plugins.HostSupport support);
        Assert.SkipWhen(kvm is null, support.Reason);
        Assert.SkipUnless(KvmInterruptController.IsOffered(kvm!), "This KVM has no interrupt controllers of its own.");
    }

    /// <summary>While the machine is paused no tick comes, and none is made up for afterwards.</summary>
    [Fact]
    public void The_timer_ticks_and_stands_still_in_a_pause()
    {
        using var machine = new OwnControllersMachine(TimerGuest);
        machine.Go();
        machine.WaitFor(Ticks, n => n >= 20);
        machine.Stop();
        uint before = machine.Read32(Ticks);
        Thread.Sleep(200);
        var watch = Stopwatch.StartNew();
        machine.Go();
        machine.WaitFor(Ticks, n => n >= before + 20);
        // 1 kHz: 200 ticks would be waiting if the timer had run on.
        uint after = machine.Read32(Ticks);
        Assert.True(after - before < 60 + watch.ElapsedMilliseconds, $"{after - before} ticks in {watch.ElapsedMilliseconds} ms");
    }

    [Fact]
    public void Saved_and_restored_into_another_partition_the_timer_goes_on()
    {
        using var machine = new OwnControllersMachine(TimerGuest);
        machine.Go();
        machine.WaitFor(Ticks, n => n >= 20);
        machine.Stop();
        using var other = new OwnControllersMachine();
        Copy(machine, other);
        uint before = other.Read32(Ticks);
        Assert.True(before >= 20);
        other.Go();
        other.WaitFor(Ticks, n => n >= before + 20);
    }

    [Fact]
    public void A_reset_silences_everything()
    {
        using var machine = new OwnControllersMachine(TimerGuest);
        machine.Go();
        machine.WaitFor(Ticks, n => n >= 5);
        machine.Stop();
        machine.Partition.InterruptController!.Reset();
        uint before = machine.Read32(Ticks);
        machine.Go();
        Thread.Sleep(50);
        machine.Stop();
        // One may have been on its way into the processor.
        Assert.InRange(machine.Read32(Ticks), before, before + 1);
    }

    [Fact]
    public void A_message_comes_by_call_and_by_file_descriptor()
    {
        using var machine = new OwnControllersMachine(MessageGuest);
        IPartitionInterruptController controller = machine.Partition.InterruptController!;
        using IMsiSignal signal = controller.CreateMsiSignal()!;
        Assert.NotNull(signal.EventDescriptor);
        machine.Go();
        machine.WaitFor(Started, n => n == 1);
        var message = new MsiMessage(0xFEE0_0000, MessageVector);
        controller.Send(message);
        machine.WaitFor(Messages, n => n == 1);
        signal.Raise();
        Thread.Sleep(50);
        Assert.Equal(1u, machine.Read32(Messages));
        signal.Message = message;
        signal.Raise();
        machine.WaitFor(Messages, n => n == 2);
        signal.Message = null;
        signal.Raise();
        Thread.Sleep(50);
        Assert.Equal(2u, machine.Read32(Messages));
    }

    /// <summary>The pin of a device's wire: through the PIC, at its vector.</summary>
    [Fact]
    public void A_pin_interrupts_through_the_pic()
    {
        using var machine = new OwnControllersMachine(TimerGuest);
        machine.Load(0x6000, a =>
        {
            Count(a, Messages);
            a.mov(al, 0x20);
            a.@out(0x20, al);
            a.iret();
        });
        Vector(machine, 8 + 4, 0x6000);
        machine.Go();
        machine.WaitFor(Ticks, n => n >= 1);
        IPartitionInterruptController controller = machine.Partition.InterruptController!;
        controller.SetPin(4, true);
        controller.SetPin(4, false);
        machine.WaitFor(Messages, n => n == 1);
    }

    /// <summary>INIT and SIPI are KVM's; the state says what a processor does.</summary>
    [Fact]
    public unsafe void A_second_processor_waits_and_is_started()
    {
        using var machine = new OwnControllersMachine(
            a =>
            {
                EnableX2Apic(a);
                var again = a.CreateLabel();
                a.Label(ref again);
                a.cmp(__byte_ptr[0x50C], 0);
                a.je(again);
                WriteMsr(a, X2Command, 0x4500, 1);
                WriteMsr(a, X2Command, 0x4608, 1);
                Halt(a);
            },
            vcpus: 2);
        machine.Load(0x8000, a =>
        {
            a.xor(ax, ax);
            a.mov(ds, ax);
            a.mov(__dword_ptr[(ushort)Started], 1);
            Halt(a);
        });
        machine.Go();
        Thread.Sleep(20);
        machine.Stop();
        Assert.Equal(MpState.WaitForSipi, StateOf(machine, 1));
        Assert.Equal(0u, machine.Read32(Started));
        Assert.True(machine.Memory.TryWrite(0x50C, [1]));
        machine.Go();
        machine.WaitFor(Started, n => n == 1);
        Thread.Sleep(20);
        machine.Stop();
        Assert.Equal(MpState.Halted, StateOf(machine, 1));
    }

    /// <summary>A halted processor sleeps inside KVM: the thread's clock, not the stay in KVM_RUN, says how busy it was.</summary>
    [Fact]
    public void A_halted_processor_takes_no_time()
    {
        using var machine = new OwnControllersMachine(Halt);
        machine.Go();
        Thread.Sleep(20);
        ulong before = machine.Vcpus[0].ProcessorNanoseconds!.Value;
        Thread.Sleep(200);
        Assert.InRange(machine.Vcpus[0].ProcessorNanoseconds!.Value - before, 0ul, 50_000_000ul);
    }

    /// <summary>What matches rings and never reaches the machine; another value or width does.</summary>
    [Fact]
    public void A_doorbell_takes_the_writes_that_it_is_for()
    {
        using var machine = new OwnControllersMachine(a =>
        {
            a.mov(ax, 0xA000);
            a.mov(es, ax);
            a.xor(di, di);
            a.mov(__word_ptr.es[di], 8);
            a.mov(__word_ptr.es[di], 7);
            a.mov(__byte_ptr.es[di], 7);
            a.mov(__word_ptr.es[di], 7);
            Count(a, Started);
            Halt(a);
        });
        int rung = 0;
        using IDisposable bell = machine.Partition.Doorbells!.Add(0xA0000, 2, 7, () => Interlocked.Increment(ref rung));
        using IDisposable other = machine.Partition.Doorbells!.Add(0xA0000, 2, 9, () => throw new InvalidOperationException("the wrong value rang"));
        machine.Go();
        machine.WaitFor(Started, n => n == 1);
        machine.Stop();
        // Pause has handed on what rang; two rings may have become one.
        Assert.InRange(rung, 1, 2);
        Assert.Equal([(2, 8ul), (1, 7ul)], machine.Host.Accesses.Select(a => (a.Size, a.Value)));
        bell.Dispose();
        Assert.Throws<VirtException>(() => machine.Partition.Doorbells!.Add(0xA0000, 3, null, () => { }));
    }

    /// <summary>An NMI that the processor holds off is inside KVM; a saved state must have it all the same.</summary>
    [Fact]
    public unsafe void An_NMI_that_waits_belongs_to_the_state()
    {
        using var machine = new OwnControllersMachine(Halt);
        VcpuState* state = machine.Vcpus[0].State;
        state->NmiBlocked = true;
        machine.Vcpus[0].CommitState();
        Interlocked.Or(ref state->Requests, (uint)VcpuRequests.Nmi);
        machine.Go();
        Assert.True(SpinWait.SpinUntil(() => (Volatile.Read(ref state->Requests) & (uint)VcpuRequests.Nmi) == 0, 5000));
        Thread.Sleep(20);
        machine.Stop();
        machine.Vcpus[0].SynchronizeState();
        Assert.True(state->NmiBlocked);
        Assert.NotEqual(0u, state->Requests & (uint)VcpuRequests.Nmi);
    }

    [Fact]
    public void A_damaged_state_is_refused()
    {
        using var machine = new OwnControllersMachine(Halt);
        IPartitionInterruptController controller = machine.Partition.InterruptController!;
        byte[] state = controller.Save();
        foreach (byte[] damaged in (byte[][])[[], state[..^1], [2, .. state[1..]], [.. state[..4], 9, .. state[5..]], [.. state[..8], 7, .. state[9..]]])
            Assert.Equal("MachineStateInvalid", Assert.Throws<VirtException>(() => controller.Restore(damaged)).ErrorId);
        controller.Restore(state);
        Assert.Equal(0, controller.GetTaskPriority(0));
    }

    /// <summary>
    /// Each entry into the handler ends a step at its first instruction, here one of one byte, so that the next step begins inside the place of the trap; and no trap stays behind. In DX is the
    /// port of a one-byte trap; at 20h is KVM's PIC, so that another one is needed.
    /// </summary>
    [Theory]
    [InlineData(0x1234)]
    [InlineData(0x20)]
    public unsafe void Interrupts_of_kvms_own_controllers_are_stepped_exactly(int dx)
    {
        using var machine = new OwnControllersMachine(a => TimerGuest(a, pushFirst: true));
        machine.Go();
        machine.WaitFor(Ticks, n => n >= 2);
        machine.Stop();
        IVcpu vcpu = machine.Vcpus[0];
        vcpu.SynchronizeState();
        vcpu.State->Gpr[(int)Gpr.Rdx] = (ulong)dx;
        vcpu.CommitState();
        machine.Partition.Resume();
        uint before = machine.Read32(Ticks), code = machine.Read32(0x7C10), entries = vcpu.State->Rip == 0x7C10 ? 1u : 0;
        for (int step = 0; step < 2000; step++)
        {
            ulong from = vcpu.State->Rip;
            Assert.Equal(VcpuExit.SingleStep, vcpu.SingleStep());
            vcpu.SynchronizeState();
            entries += vcpu.State->Rip == 0x7C10 ? 1u : 0;
            if (from is >= 0x7C10 and < 0x7C20)
                Assert.True(vcpu.State->Rip != from && vcpu.State->Rip < 0x7D00, $"0x{from:X} to 0x{vcpu.State->Rip:X}");
        }

        machine.Partition.Pause();
        // A handler may have been under way at either end.
        Assert.InRange(entries, machine.Read32(Ticks) - before - 1, machine.Read32(Ticks) - before + 1);
        Assert.True(entries >= 3, $"{entries} interrupts");
        Assert.Equal(code, machine.Read32(0x7C10));
    }

    private static unsafe MpState StateOf(OwnControllersMachine machine, int vcpu)
    {
        machine.Vcpus[vcpu].SynchronizeState();
        return machine.Vcpus[vcpu].State->MpState;
    }

    private static unsafe void Copy(OwnControllersMachine from, OwnControllersMachine to)
    {
        byte[] memory = new byte[OwnControllersMachine.RamSize];
        Assert.True(from.Memory.TryRead(0, memory));
        Assert.True(to.Memory.TryWrite(0, memory));
        from.Vcpus[0].SynchronizeState();
        *to.Vcpus[0].State = *from.Vcpus[0].State;
        to.Vcpus[0].CommitState();
        to.Partition.InterruptController!.Restore(from.Partition.InterruptController!.Save());
        to.Partition.RestoreState(from.Partition.SaveState());
    }

    /// <summary>Counts IRQ 0 at 1 kHz, all other pins of the first PIC open.</summary>
    private static void TimerGuest(Assembler a) => TimerGuest(a, pushFirst: false);

    private static void TimerGuest(Assembler a, bool pushFirst)
    {
        var main = a.CreateLabel();
        a.jmp(main);
        while (Length(a) < 0x10)
            a.nop();
        // 0000:7C10, the handler.
        if (pushFirst)
            a.push(ax);
        Count(a, Ticks);
        if (!pushFirst)
            a.push(ax);
        a.mov(al, 0x20);
        a.@out(0x20, al);
        a.pop(ax);
        a.iret();
        a.Label(ref main);
        a.xor(ax, ax);
        a.mov(ds, ax);
        a.mov(__dword_ptr[8 * 4], 0x7C10);
        foreach ((byte port, byte value) in (ReadOnlySpan<(byte, byte)>)[(0x20, 0x11), (0x21, 8), (0x21, 4), (0x21, 1), (0x21, 0), (0x43, 0x34), (0x40, 0xA9), (0x40, 4)])
        {
            a.mov(al, (sbyte)value);
            a.@out((sbyte)port, al);
        }

        Halt(a);
    }

    private static void MessageGuest(Assembler a)
    {
        var main = a.CreateLabel();
        a.jmp(main);
        while (Length(a) < 0x10)
            a.nop();
        Count(a, Messages);
        WriteMsr(a, X2Eoi, 0, 0);
        a.iret();
        a.Label(ref main);
        a.xor(ax, ax);
        a.mov(ds, ax);
        a.mov(__dword_ptr[MessageVector * 4], 0x7C10);
        EnableX2Apic(a);
        Count(a, Started);
        Halt(a);
    }

    private static int Length(Assembler a)
    {
        using var stream = new MemoryStream();
        var copy = new Assembler(16);
        foreach (Instruction i in a.Instructions.Skip(1))
            copy.AddInstruction(i);
        copy.Assemble(new StreamCodeWriter(stream), 0x7C00);
        return (int)stream.Length + 2;
    }

    private static void EnableX2Apic(Assembler a)
    {
        a.mov(ecx, ApicBase);
        a.rdmsr();
        a.or(eax, 0xC00);
        a.wrmsr();
        WriteMsr(a, X2Spurious, 0x1FF, 0);
    }

    private static void WriteMsr(Assembler a, uint msr, uint low, uint high)
    {
        a.mov(ecx, msr);
        a.mov(eax, low);
        a.mov(edx, high);
        a.wrmsr();
    }

    private static void Count(Assembler a, uint place) => a.inc(__dword_ptr[(ushort)place]);

    private static void Halt(Assembler a)
    {
        var again = a.CreateLabel();
        a.Label(ref again);
        a.sti();
        a.hlt();
        a.jmp(again);
    }

    private static void Vector(OwnControllersMachine machine, int vector, ushort address) => Assert.True(machine.Memory.TryWrite((ulong)vector * 4, BitConverter.GetBytes((uint)address)));
}
