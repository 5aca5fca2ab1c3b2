using System.Text.Json.Nodes;
using VirtPS.Sdk;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Devices;
using VirtPS.Sdk.Machine;
using VirtPS.Sdk.Memory;
using VirtPS.Sdk.Rings;

namespace VirtPS.Engine.Tests;

public unsafe class MachineTests
{
    internal static (string, Func<DeviceContext, IDevice>) Port(TestDevice device, ushort port, string name = "dev") => (name, c =>
    {
        c.MapPorts(port, 4, device, 4);
        return device;
    });

    [Fact]
    public void Port_accesses_reach_the_device_and_string_accesses_keep_their_order()
    {
        List<uint> written = [];
        int next = 0;
        var device = new TestDevice { OnWrite = (_, _, v) => written.Add(v), OnRead = (_, _) => (uint)next++ };
        byte[] read = new byte[4];
        bool done = false;
        using Machine machine = Make.Machine(v =>
        {
            byte* data = stackalloc byte[] { 1, 2, 3, 4 };
            v.Host.WritePort(0x500, 1, data, 4);
            fixed (byte* p = read)
                v.Host.ReadPort(0x500, 1, p, 4);
            Assert.Equal(0xFFu, v.In(0x504));
            Volatile.Write(ref done, true);
            return v.Spin();
        }, out _, null, Port(device, 0x500));
        machine.PowerOn();
        Assert.True(Make.Within(5, () => Volatile.Read(ref done)));
        Assert.Equal([1u, 2, 3, 4], written);
        Assert.Equal([0, 1, 2, 3], read);
    }

    [Fact]
    public void The_guest_switches_itself_off_with_a_code_and_executes_nothing_more()
    {
        IMachineControl control = null!;
        var device = new TestDevice { OnWrite = (_, _, v) => control.RequestPowerOff("debug exit", (int)v) };
        using Machine machine = Make.Machine(v =>
        {
            v.Out(0x501, 33);
            // The next boundary must stop it.
            Assert.Equal(VcpuExit.Kicked, v.Boundary());
            return VcpuExit.Kicked;
        }, out ScriptedStrategy s, null, ("exit", c =>
        {
            control = c.GetService<IMachineControl>()!;
            c.MapPorts(0x501, 1, device);
            return device;
        }));
        machine.PowerOn();
        MachineStateChange end = machine.WaitForEnd(TimeSpan.FromSeconds(5))!;
        Assert.Equal((VmState.Off, MachineCause.GuestPowerOff, 33, "debug exit"), (end.To, end.Cause, end.ExitCode!.Value, end.Reason));
        Assert.Equal(1, s.Vcpus[0].Runs);
        Assert.Throws<VirtException>(() => machine.PowerOn());
    }

    [Fact]
    public void A_guest_reset_resets_devices_vcpus_and_tsc_and_loads_the_guest_again()
    {
        IMachineControl control = null!;
        var device = new TestDevice { OnWrite = (_, _, _) => control.RequestReset("keyboard") };
        var starter = new CountingStarter();
        var strategy = new ScriptedStrategy(v =>
        {
            if (starter.Starts == 1)
            {
                Thread.Sleep(5);
                v.State->Gpr[3] = 99;
                v.Out(0x64, 0xFE);
            }

            return v.Spin();
        });
        MachineBuilder builder = Make.Builder(strategy, null, ("kbd", c =>
        {
            control = c.GetService<IMachineControl>()!;
            c.MapPorts(0x64, 1, device);
            return device;
        }));
        builder.Starter = starter;
        var observer = new Recorder();
        builder.Observers.Add(observer);
        using Machine machine = builder.Build();
        machine.PowerOn();
        // The observer hears of the reset from the machine's own thread.
        Assert.True(Make.Within(5, () => starter.Starts == 2 && strategy.Vcpus[0].Steps > 0 && observer.Seen.Count == 3));
        MachineRegisters registers = machine.CaptureRegisters(0);
        Assert.Equal(0x1234ul, registers.Rip);
        Assert.Equal(0ul, registers.Gpr[3]);
        Assert.True(registers.Tsc < machine.Clock.MachineTsc - 4_000_000);
        Assert.Equal(["Reset Cold", "Resume", "Reset Warm"], device.Calls);
        Assert.Equal(["Off>Starting", "Starting>Running", "reset GuestReset keyboard"], observer.Seen);
    }

    [Fact]
    public void With_OnReset_stop_a_guest_reset_ends_the_machine()
    {
        IMachineControl control = null!;
        var device = new TestDevice { OnWrite = (_, _, _) => control.RequestReset("0xCF9") };
        using Machine machine = Make.Machine(v =>
        {
            v.Out(0xCF9, 6);
            return v.Spin();
        }, out _, Make.Configuration() with { OnReset = GuestResetAction.Stop }, ("pm", c =>
        {
            control = c.GetService<IMachineControl>()!;
            c.MapPorts(0xCF9, 1, device);
            return device;
        }));
        machine.PowerOn();
        Assert.Equal(MachineCause.GuestReset, machine.WaitForEnd(TimeSpan.FromSeconds(5))!.Cause);
    }

    [Theory]
    [InlineData(GuestResetAction.Stop)]
    [InlineData(GuestResetAction.Restart)]
    public void A_triple_fault_does_what_was_configured(GuestResetAction action)
    {
        var starter = new CountingStarter();
        var strategy = new ScriptedStrategy(v =>
        {
            if (starter.Starts > 1)
                return v.Spin();
            v.State->MpState = MpState.Shutdown;
            return VcpuExit.Shutdown;
        });
        MachineBuilder builder = Make.Builder(strategy, Make.Configuration() with { OnTripleFault = action });
        builder.Starter = starter;
        using Machine machine = builder.Build();
        machine.PowerOn();
        if (action == GuestResetAction.Stop)
        {
            MachineStateChange end = machine.WaitForEnd(TimeSpan.FromSeconds(5))!;
            Assert.Equal((VmState.Crashed, MachineCause.TripleFault), (end.To, end.Cause));
            Assert.Contains("Triple fault on vCPU 0", end.Reason);
        }
        else
        {
            Assert.True(Make.Within(5, () => strategy.Vcpus[0].Steps > 0));
            Assert.Equal(VmState.Running, machine.State);
        }
    }

    [Fact]
    public void A_device_that_throws_ends_the_machine_with_its_name_and_nothing_else()
    {
        var device = new TestDevice { OnRead = (_, _) => throw new InvalidOperationException("bad model") };
        uint seen = 0;
        using Machine machine = Make.Machine(v =>
        {
            seen = v.In(0x500);
            return v.Spin();
        }, out _, null, Port(device, 0x500, "broken"));
        machine.PowerOn();
        MachineStateChange end = machine.WaitForEnd(TimeSpan.FromSeconds(5))!;
        Assert.Equal((VmState.Crashed, MachineCause.Failure), (end.To, end.Cause));
        Assert.Contains("broken", end.Reason);
        Assert.Contains("bad model", end.Reason);
        Assert.Equal(0xFFu, seen);
    }

    [Fact]
    public void A_backend_that_throws_or_fails_ends_the_machine()
    {
        using Machine a = Make.Machine(_ => throw new InvalidOperationException("interpreter bug"), out _);
        a.PowerOn();
        Assert.Contains("interpreter bug", a.WaitForEnd(TimeSpan.FromSeconds(5))!.Reason);
        using Machine b = Make.Machine(v =>
        {
            v.Host.ReportFailure("no such thing");
            return VcpuExit.Failed;
        }, out _);
        b.PowerOn();
        MachineStateChange end = b.WaitForEnd(TimeSpan.FromSeconds(5))!;
        Assert.Equal(VmState.Crashed, end.To);
        Assert.Contains("no such thing", end.Reason);
    }

    [Fact]
    public void A_posted_completion_waits_for_the_end_of_a_pause()
    {
        using Machine machine = Make.Machine(v => v.Spin(), out _);
        machine.PowerOn();
        machine.Pause();
        bool ran = false;
        machine.Post(() => Volatile.Write(ref ran, true));
        Thread.Sleep(20);
        Assert.False(Volatile.Read(ref ran));
        machine.Resume();
        Assert.True(Make.Within(5, () => Volatile.Read(ref ran)));
    }

    [Fact]
    public void What_quiesce_waited_for_is_delivered_before_the_state_is_saved()
    {
        QuiesceDevice device = null!;
        using Machine machine = Make.Machine(v => v.Spin(), out _, null, ("disk", c => device = new QuiesceDevice(c)));
        machine.PowerOn();
        machine.Pause();
        Assert.Equal(7u, device.Value);
    }

    private sealed class QuiesceDevice(DeviceContext context) : IDevice
    {
        public uint Value { get; private set; }

        public void Reset(ResetKind kind)
        {
        }

        public void Quiesce() => context.Post(() => Value = 7);

        public DeviceState Save() => DeviceState.From("q", 1, Value);

        public void Restore(DeviceState state)
        {
        }

        public void Resume()
        {
        }

        public void Dispose()
        {
        }
    }

    [Fact]
    public void Console_input_reaches_the_device_under_the_lock_and_output_comes_out()
    {
        var console = new LoopConsole();
        Sdk.Backends.ICharBackend backend = null!;
        List<byte> received = [];
        var strategy = new ScriptedStrategy(v => v.Spin());
        MachineBuilder builder = Make.Builder(strategy, null, ("uart", c =>
        {
            backend = c.OpenChar("console");
            backend.InputAvailable = () =>
            {
                Span<byte> b = stackalloc byte[16];
                received.AddRange(b[..backend.Read(b)]);
            };
            return new TestDevice();
        }));
        builder.Backends.Char[BackendRegistry.Console] = console;
        using Machine machine = builder.Build();
        machine.PowerOn();
        console.Type("hi"u8);
        Assert.True(Make.Within(5, () => received.Count == 2));
        Assert.Equal(2, backend.Write("ok"u8));
        Assert.Equal("ok"u8, console.Output.ToArray());
    }

    [Fact]
    public void Ring_events_are_traced_and_a_second_trace_is_refused()
    {
        using Machine machine = Make.Machine(v =>
        {
            v.Trace?.Write(new RingEvent { Cause = RingCause.Syscall, FromRing = 3, Vcpu = (byte)v.Index });
            Thread.Sleep(1);
            return VcpuExit.Kicked;
        }, out _, Make.Configuration(vcpus: 2));
        machine.PowerOn();
        using (RingTraceSession trace = machine.StartTrace(new RingTraceOptions(Capacity: 64)))
        {
            Assert.Equal("TraceInUse", Assert.Throws<VirtException>(() => machine.StartTrace(new RingTraceOptions())).ErrorId);
            var events = new RingEvent[16];
            int n = 0;
            Assert.True(Make.Within(5, () => (n += trace.Read(events)) > 3));
            Assert.Equal(RingCause.Syscall, events[0].Cause);
        }

        using RingTraceSession again = machine.StartTrace(new RingTraceOptions());
    }

    [Theory]
    [InlineData(0ul, 1, "MemoryInvalid")]
    [InlineData(1ul, 1, "MemoryInvalid")]
    [InlineData(1ul << 50, 1, "MemoryInvalid")]
    [InlineData(1ul << 20, 0, "ConfigurationInvalid")]
    [InlineData(1ul << 20, 65, "ConfigurationInvalid")]
    [InlineData(1ul << 20, 9, "ConfigurationInvalid")]
    public void Impossible_sizes_are_one_clear_error_and_leave_nothing(ulong memory, int vcpus, string errorId)
    {
        var strategy = new ScriptedStrategy(v => v.Spin());
        Assert.Equal(errorId, Assert.Throws<VirtException>(() => Make.Builder(strategy, Make.Configuration(vcpus, memory)).Build()).ErrorId);
        Assert.Empty(strategy.Vcpus);
    }

    [Fact]
    public void A_strategy_that_this_host_cannot_run_says_why()
    {
        var strategy = new ScriptedStrategy(v => v.Spin()) { Support = new(false, "No /dev/kvm.", "Load the module.") };
        VirtException e = Assert.Throws<VirtException>(() => Make.Builder(strategy).Build());
        Assert.Equal(("StrategyUnavailable", "Load the module."), (e.ErrorId, e.RecommendedAction));
    }

    [Fact]
    public void A_device_that_cannot_be_made_undoes_everything_before_it()
    {
        var first = new TestDevice();
        var strategy = new ScriptedStrategy(v => v.Spin());
        VirtException e = Assert.Throws<VirtException>(() => Make.Builder(strategy, null, ("good", _ => first), ("bad", _ => throw new InvalidOperationException("boom"))).Build());
        Assert.Equal("PluginLoadFailed", e.ErrorId);
        Assert.Contains("boom", e.Message);
        Assert.Equal(["Dispose"], first.Calls);
        Assert.True(strategy.Disposed);
    }

    [Fact]
    public void A_guest_that_cannot_be_loaded_ends_the_machine_and_tells_the_caller()
    {
        MachineBuilder builder = Make.Builder(new ScriptedStrategy(v => v.Spin()));
        builder.Starter = new CountingStarter { Error = new VirtException("ImageInvalid", "Truncated.") };
        using Machine machine = builder.Build();
        Assert.Equal("ImageInvalid", Assert.Throws<VirtException>(() => machine.PowerOn()).ErrorId);
        Assert.Equal(VmState.Off, machine.State);
        Assert.Equal("Truncated.", machine.StatusReason);
    }

    [Fact]
    public void A_users_device_takes_the_place_of_the_platforms_of_that_name()
    {
        JsonObject Spec(string name, string model) => new() { ["name"] = name, ["model"] = model };
        IReadOnlyList<JsonObject> merged = PlatformLayout.Merge([Spec("com1", "a"), Spec("rtc", "b")], [Spec("x", "c"), Spec("com1", "d")]);
        Assert.Equal(["com1 d", "rtc b", "x c"], merged.Select(s => $"{s["name"]} {s["model"]}"));
    }

    private sealed class CountingStarter : IGuestStarter
    {
        public int Starts { get; private set; }

        public VirtException? Error { get; init; }

        public void Start(GuestStart start)
        {
            if (Error is not null)
                throw Error;
            Starts++;
            start.Bootstrap->Rip = 0x1234;
        }
    }

    private sealed class Recorder : IMachineObserver
    {
        public List<string> Seen { get; } = [];

        public void StateChanged(Machine machine, MachineStateChange change) => Seen.Add($"{change.From}>{change.To}");

        public void WasReset(Machine machine, MachineCause cause, string reason) => Seen.Add($"reset {cause} {reason}");
    }

    private sealed class LoopConsole : Sdk.Backends.ICharBackend
    {
        private readonly Queue<byte> _input = new();

        public List<byte> Output { get; } = [];

        public Action? InputAvailable { get; set; }

        public void Type(ReadOnlySpan<byte> text)
        {
            lock (_input)
            {
                foreach (byte b in text)
                    _input.Enqueue(b);
            }

            InputAvailable?.Invoke();
        }

        public int Write(ReadOnlySpan<byte> data)
        {
            Output.AddRange(data);
            return data.Length;
        }

        public int Read(Span<byte> buffer)
        {
            lock (_input)
            {
                int n = 0;
                while (n < buffer.Length && _input.TryDequeue(out byte b))
                    buffer[n++] = b;
                return n;
            }
        }

        public void Dispose()
        {
        }
    }

    [Fact]
    public void A_guest_s_randomness_comes_from_the_machine_s_source()
    {
        byte[] asked = new byte[300], host = new byte[300];
        bool done = false;
        var strategy = new ScriptedStrategy(v =>
        {
            v.Host.FillRandom(asked);
            Volatile.Write(ref done, true);
            return v.Spin();
        });
        MachineBuilder builder = Make.Builder(strategy);
        builder.Nondeterminism = new CountedSource();
        using Machine machine = builder.Build();
        machine.PowerOn();
        Assert.True(Make.Within(5, () => Volatile.Read(ref done)));
        Assert.Equal(Enumerable.Range(0, 300).Select(i => (byte)i), asked);
        // The host's: more than its kernel gives at once, to the last byte.
        new NondeterminismSource().FillRandom(host);
        Assert.InRange(host.Distinct().Count(), 100, 256);
        Assert.Contains(host[^30..], b => b != 0);
    }

    private sealed class CountedSource : NondeterminismSource
    {
        public override void FillRandom(Span<byte> destination)
        {
            for (int i = 0; i < destination.Length; i++)
                destination[i] = (byte)i;
        }
    }
}
