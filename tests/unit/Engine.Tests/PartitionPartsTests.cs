using VirtPS.Sdk;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Devices;
using VirtPS.Sdk.Interrupts;
using VirtPS.Sdk.Machine;

namespace VirtPS.Engine.Tests;

/// <summary>A partition that brings interrupt controllers and doorbells, and one that does not.</summary>
public sealed unsafe class PartitionPartsTests
{
    private static readonly MsiMessage s_message = new(0xFEE0_0000, 0x41);

    [Fact]
    public void Pins_and_messages_go_to_the_partitions_controllers()
    {
        var own = new OwnParts();
        DeviceContext? context = null;
        using Machine machine = Make.Builder(new ScriptedStrategy(v => v.Spin()) { Own = own }, null, ("device", c => Device(c, out context))).Build();
        InterruptLine serial = context!.IsaInterrupt(4), timer = context.GlobalInterrupt(2), pci = context.GlobalInterrupt(17);
        own.Calls.Clear();
        serial.Set(true);
        timer.Pulse();
        pci.Set(true);
        context.Msi.Send(s_message);
        Assert.Equal(["4 True", "0 True", "0 False", "17 True", "MSI 41"], own.Calls);
        Assert.Same(own.Signal, context.CreateMsiSignal());
    }

    /// <summary>Reset before the devices', time before the vCPUs; a move takes both states along.</summary>
    [Fact]
    public void The_partition_hears_of_pause_reset_and_restore()
    {
        var own = new OwnParts();
        using Machine machine = Make.Builder(new ScriptedStrategy(v => v.Spin()) { Own = own }).Build();
        own.Calls.Clear();
        machine.PowerOn();
        machine.Pause();
        machine.Resume();
        machine.Reset();
        machine.Pause();
        Assert.Equal(["Reset", "Resume", "Pause", "Resume", "Reset", "Pause"], own.Calls);
        MachineState state = MachineState.FromJson(machine.Save().ToJson());

        var other = new OwnParts();
        using Machine target = Make.Builder(new ScriptedStrategy(v => v.Spin()) { Own = other }).Build();
        other.Calls.Clear();
        target.Restore(state);
        target.Resume();
        Assert.Equal(["Reset", "Restore 5", "RestoreState 7", "Resume"], other.Calls);
    }

    /// <summary>The partition alone knows what wakes a halted processor: it is entered, whatever the state said when last looked at.</summary>
    [Fact]
    public void A_halted_vcpu_of_such_a_partition_is_entered()
    {
        var strategy = new ScriptedStrategy(v =>
        {
            v.State->MpState = MpState.Halted;
            return v.Spin();
        }) { Own = new OwnParts() };
        using Machine machine = Make.Builder(strategy).Build();
        machine.PowerOn();
        Assert.True(Make.Within(5, () => strategy.Vcpus[0].Steps > 0));
        machine.Pause();
        machine.Resume();
        Assert.True(Make.Within(5, () => strategy.Vcpus[0].Runs >= 2));
    }

    [Fact]
    public void A_partition_that_fails_to_pause_costs_the_machine()
    {
        var own = new OwnParts { Fault = new VirtException("StrategyUnavailable", "gone") };
        using Machine machine = Make.Builder(new ScriptedStrategy(v => v.Spin()) { Own = own }).Build();
        machine.PowerOn();
        Assert.Throws<VirtException>(machine.Pause);
        Assert.Equal(VmState.Crashed, machine.State);
        Assert.Equal("gone", machine.StatusReason);
    }

    [Fact]
    public void A_doorbell_rings_on_the_machines_thread_until_it_is_given_back()
    {
        var own = new OwnParts();
        int rung = 0;
        DeviceContext? context = null;
        using Machine machine = Make.Builder(new ScriptedStrategy(v => v.Spin()) { Own = own }, null, ("device", c => Device(c, out context))).Build();
        IDisposable bell = context!.TryMapDoorbell(0xF000_0000, 2, null, () => rung++)!;
        machine.PowerOn();
        own.Ring!();
        Assert.True(Make.Within(5, () => Volatile.Read(ref rung) == 1));
        machine.Pause();
        own.Ring();
        bell.Dispose();
        machine.Resume();
        Thread.Sleep(20);
        Assert.Equal(1, rung);
        Assert.Null(own.Ring);
    }

    /// <summary>Without any of it a device gets an MSI by call, and no doorbell.</summary>
    [Fact]
    public void Elsewhere_there_is_the_plain_way()
    {
        var target = new OwnParts();
        using var signal = new SoftwareMsiSignal(target);
        signal.Raise();
        signal.Message = s_message;
        signal.Raise();
        signal.Message = null;
        signal.Raise();
        Assert.Equal(["MSI 41"], target.Calls);
        Assert.Null(signal.EventDescriptor);
        DeviceContext? context = null;
        using Machine machine = Make.Machine(v => v.Spin(), out _, null, ("device", c => Device(c, out context)));
        Assert.Null(context!.TryMapDoorbell(0xF000_0000, 2, null, () => { }));
        Assert.IsType<SoftwareMsiSignal>(context.CreateMsiSignal());
    }

    private static TestDevice Device(DeviceContext given, out DeviceContext context)
    {
        context = given;
        return new TestDevice();
    }
}

/// <summary>Controllers and doorbells that only take notes.</summary>
internal sealed class OwnParts : IPartitionInterruptController, IPartitionDoorbells
{
    public List<string> Calls { get; } = [];

    public VirtException? Fault { get; init; }

    public Action? Ring { get; private set; }

    public IMsiSignal Signal { get; } = new SoftwareMsiSignal(null!);

    public int PinCount => 24;

    public void Pause()
    {
        Calls.Add("Pause");
        if (Fault is not null)
            throw Fault;
    }

    public void Reset() => Calls.Add("Reset");

    public byte GetTaskPriority(int vcpu) => 0;

    public IMsiSignal CreateMsiSignal() => Signal;

    public byte[] Save() => [5];

    public void Restore(ReadOnlySpan<byte> state) => Calls.Add($"Restore {state[0]}");

    public void Send(MsiMessage message) => Calls.Add($"MSI {message.Data:X}");

    public void SetPin(int pin, bool level) => Calls.Add($"{pin} {level}");

    public IDisposable Add(ulong address, int size, ulong? value, Action rung)
    {
        Ring = rung;
        return new Handle(this);
    }

    private sealed class Handle(OwnParts owner) : IDisposable
    {
        public void Dispose() => owner.Ring = null;
    }
}
