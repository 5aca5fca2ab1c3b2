using System.Diagnostics;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Interrupts;
using VirtPS.Sdk.Machine;

namespace VirtPS.Engine.Tests;

public unsafe class RunnerTests
{
    [Fact]
    public void Pause_stops_a_spinning_guest_between_instructions_and_time_with_it()
    {
        using Machine machine = Make.Machine(v => v.Spin(), out ScriptedStrategy s);
        machine.PowerOn();
        Assert.True(Make.Within(5, () => s.Vcpus[0].Steps > 100));
        machine.Pause();
        Assert.Equal(VmState.Paused, machine.State);
        (long steps, ulong now) = (s.Vcpus[0].Steps, machine.Clock.Now);
        Thread.Sleep(30);
        Assert.Equal(steps, s.Vcpus[0].Steps);
        Assert.Equal(now, machine.Clock.Now);
        machine.Resume();
        Assert.True(Make.Within(5, () => s.Vcpus[0].Steps > steps && machine.Clock.Now > now));
    }

    [Fact]
    public void A_machine_started_paused_runs_nothing_until_resumed()
    {
        using Machine machine = Make.Machine(v => v.Spin(), out ScriptedStrategy s);
        machine.PowerOn(startPaused: true);
        Thread.Sleep(20);
        Assert.Equal(0, s.Vcpus[0].Runs);
        machine.Resume();
        Assert.True(Make.Within(5, () => s.Vcpus[0].Steps > 0));
    }

    [Fact]
    public void Pause_and_resume_many_times_on_several_vcpus()
    {
        using Machine machine = Make.Machine(v => v.Spin(), out ScriptedStrategy s, Make.Configuration(vcpus: 4));
        machine.PowerOn();
        // Application processors wait for SIPI: only the first runs.
        foreach (ScriptedVcpu v in s.Vcpus.Skip(1))
            machine.RunOnVcpu(v.Index, x => x.State->MpState = MpState.Runnable);
        for (int i = 0; i < 50; i++)
        {
            machine.Pause();
            machine.Resume();
        }

        long[] before = [.. s.Vcpus.Select(v => v.Steps)];
        Assert.True(Make.Within(5, () => s.Vcpus.Zip(before).All(p => p.First.Steps > p.Second)));
    }

    [Fact]
    public void A_halted_vcpu_sleeps_until_an_interrupt_that_it_takes()
    {
        // No local APIC: the PIC's INTR reaches the vCPU itself.
        var pic = new FakePic();
        using Machine machine = Make.Machine(v =>
        {
            v.InterruptsOn = true;
            return v.Injected.Count < 3 ? v.Halt() : v.Spin();
        }, out ScriptedStrategy s, null, ("pic", pic.Create));
        machine.PowerOn();
        ScriptedVcpu vcpu = s.Vcpus[0];
        for (int i = 1; i <= 3; i++)
        {
            Assert.True(Make.Within(5, () => vcpu.State->MpState == MpState.Halted));
            int runs = vcpu.Runs;
            Thread.Sleep(10);
            Assert.Equal(runs, vcpu.Runs);
            machine.Post(() => pic.Raise((byte)(0x20 + i)));
            Assert.True(Make.Within(5, () => vcpu.Injected.Count == i));
        }

        Assert.Equal([0x21, 0x22, 0x23], vcpu.Injected);
        Assert.True(Make.Within(5, () => vcpu.Counters->HaltedNanoseconds > 20_000_000));
    }

    [Fact]
    public void A_vcpu_halted_with_interrupts_off_sleeps_on_through_an_interrupt_request()
    {
        var pic = new FakePic();
        using Machine machine = Make.Machine(v =>
        {
            v.InterruptsOn = false;
            Interlocked.And(ref v.State->Requests, ~(uint)VcpuRequests.Nmi);
            return v.Halt();
        }, out ScriptedStrategy s, null, ("pic", pic.Create));
        machine.PowerOn();
        Assert.True(Make.Within(5, () => s.Vcpus[0].Runs == 1));
        machine.Post(() => pic.Raise(0x20));
        Thread.Sleep(30);
        Assert.Equal(1, s.Vcpus[0].Runs);
        Assert.Empty(s.Vcpus[0].Injected);
        // It can still be asked, and an NMI wakes it.
        Assert.Equal(MpState.Halted, machine.CaptureRings()[0].State.MpState);
        machine.RunOnVcpu(0, v => Interlocked.Or(ref v.State->Requests, (uint)VcpuRequests.Nmi));
        Assert.True(Make.Within(5, () => s.Vcpus[0].Runs == 2));
    }

    [Fact]
    public void Waking_up_is_quick()
    {
        var pic = new FakePic();
        using Machine machine = Make.Machine(v =>
        {
            v.InterruptsOn = true;
            return v.Halt();
        }, out ScriptedStrategy s, null, ("pic", pic.Create));
        machine.PowerOn();
        List<double> microseconds = [];
        for (int i = 1; i <= 50; i++)
        {
            Assert.True(Make.Within(5, () => s.Vcpus[0].State->MpState == MpState.Halted));
            Thread.Sleep(1);
            int injected = s.Vcpus[0].Injected.Count;
            long start = Stopwatch.GetTimestamp();
            machine.Post(() => pic.Raise(0x30));
            while (s.Vcpus[0].Injected.Count == injected && Stopwatch.GetElapsedTime(start).TotalSeconds < 5)
                Thread.SpinWait(5);
            microseconds.Add(Stopwatch.GetElapsedTime(start).TotalMicroseconds);
        }

        // Two thread switches, some tens of microseconds. The best of them counts: the rest measures how busy the host is.
        Assert.InRange(microseconds.Min(), 0, 1_000);
    }

    [Fact]
    public void A_vcpu_can_be_asked_while_it_spins_while_it_sleeps_and_while_it_is_paused()
    {
        using Machine machine = Make.Machine(v => v.Index == 0 ? v.Spin() : v.Halt(), out _, Make.Configuration(vcpus: 2));
        Assert.Equal(2, machine.CaptureRings().Count);
        machine.PowerOn();
        machine.RunOnVcpu(1, v => v.State->MpState = MpState.Halted);
        for (int i = 0; i < 100; i++)
            Assert.Equal([MpState.Runnable, MpState.Halted], machine.CaptureRings().Select(r => r.State.MpState!.Value));
        machine.Pause();
        Assert.Equal(MpState.Halted, machine.CaptureRings()[1].State.MpState);
        machine.PowerOff();
        Assert.Equal(MpState.Halted, machine.CaptureRings()[1].State.MpState);
    }

    [Fact]
    public void A_task_that_throws_reaches_the_caller_and_leaves_the_vcpu_running()
    {
        using Machine machine = Make.Machine(v => v.Spin(), out ScriptedStrategy s);
        machine.PowerOn();
        Assert.Throws<InvalidOperationException>(() => machine.RunOnVcpu<int>(0, _ => throw new InvalidOperationException("x")));
        long steps = s.Vcpus[0].Steps;
        Assert.True(Make.Within(5, () => s.Vcpus[0].Steps > steps));
        Assert.Equal(VmState.Running, machine.State);
    }

    [Fact]
    public void An_idle_machine_costs_almost_nothing()
    {
        using Machine machine = Make.Machine(v =>
        {
            v.InterruptsOn = true;
            return v.Halt();
        }, out ScriptedStrategy s);
        machine.PowerOn();
        Assert.True(Make.Within(5, () => s.Vcpus[0].State->MpState == MpState.Halted));
        Thread.Sleep(100);
        int runs = s.Vcpus[0].Runs;
        Thread.Sleep(500);
        Assert.Equal(runs, s.Vcpus[0].Runs);
    }

    [Fact]
    public void Alarms_reach_a_sleeping_vcpu_at_their_time()
    {
        var device = new AlarmDevice();
        using Machine machine = Make.Machine(v => v.Halt(), out _, null, ("timer", device.Create));
        machine.PowerOn();
        Assert.True(Make.Within(5, () => device.FiredAt.Count >= 20));
        foreach ((ulong due, ulong at) in device.FiredAt.ToArray())
            Assert.True(at >= due);
    }

    /// <summary>Fires every 2 ms.</summary>
    private sealed class AlarmDevice : TestDevice
    {
        private Sdk.Time.Alarm _alarm = null!;
        private Sdk.Time.VirtualClock _clock = null!;

        public List<(ulong Due, ulong At)> FiredAt { get; } = [];

        public TestDevice Create(Sdk.Devices.DeviceContext context)
        {
            _clock = context.Clock;
            ulong due = 2_000_000;
            _alarm = _clock.CreateAlarm("test", () =>
            {
                FiredAt.Add((due, _clock.Now));
                due += 2_000_000;
                _alarm.Deadline = due;
            });
            _alarm.Deadline = due;
            return this;
        }
    }
}

/// <summary>The processor's side of a PIC, without one.</summary>
internal sealed class FakePic : TestDevice, IExternalInterruptSource
{
    private IInterruptOutput _output = null!;
    private byte _vector;

    public bool IsAsserted { get; private set; }

    public TestDevice Create(Sdk.Devices.DeviceContext context)
    {
        _output = context.GetService<IInterruptOutput>()!;
        context.Provide<IExternalInterruptSource>(this);
        return this;
    }

    public void Raise(byte vector)
    {
        _vector = vector;
        IsAsserted = true;
        _output.SetIntr(true);
    }

    public byte Acknowledge()
    {
        IsAsserted = false;
        _output.SetIntr(false);
        return _vector;
    }
}
