using System.Text.Json.Nodes;
using VirtPS.Sdk;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Devices;
using VirtPS.Sdk.Machine;

namespace VirtPS.Engine.Tests;

internal static class Make
{
    public static VmConfiguration Configuration(int vcpus = 1, ulong memory = 1 << 20) => new()
    {
        Name = "test",
        Id = Guid.NewGuid(),
        CreationTime = DateTimeOffset.UnixEpoch,
        Strategy = "Scripted",
        Memory = memory,
        ProcessorCount = vcpus,
        Boot = new BootConfiguration(),
    };

    /// <summary>A builder without platform devices and without a guest to load.</summary>
    public static MachineBuilder Builder(ScriptedStrategy strategy, VmConfiguration? configuration = null, params (string Model, Func<DeviceContext, IDevice> Create)[] devices)
    {
        configuration ??= Configuration();
        configuration = configuration with { Devices = [.. configuration.Devices, .. devices.Select(d => new JsonObject { ["model"] = d.Model, ["name"] = d.Model })] };
        var factories = devices.Select(d => KeyValuePair.Create(d.Model, (IDeviceFactory)new Factory(d.Model, d.Create)));
        return new MachineBuilder(configuration, new ListedParts([strategy], factories)) { Starter = null };
    }

    public static Machine Machine(Func<ScriptedVcpu, VcpuExit> script, out ScriptedStrategy strategy, VmConfiguration? configuration = null, params (string Model, Func<DeviceContext, IDevice> Create)[] devices)
    {
        strategy = new ScriptedStrategy(script);
        return Builder(strategy, configuration, devices).Build();
    }

    public static bool Within(double seconds, Func<bool> condition) => SpinWait.SpinUntil(condition, TimeSpan.FromSeconds(seconds));

    private sealed class Factory(string model, Func<DeviceContext, IDevice> create) : IDeviceFactory
    {
        public string Model => model;

        public IDevice Create(JsonObject spec, DeviceContext context) => create(context);
    }
}

/// <summary>A device with a byte of state at a port, that records what its machine does to it.</summary>
internal class TestDevice : IDevice, IPortDevice, IMmioDevice
{
    public List<string> Calls { get; } = [];

    public uint Value { get; set; }

    public Func<int, int, uint>? OnRead { get; set; }

    public Action<int, int, uint>? OnWrite { get; set; }

    public virtual void Reset(ResetKind kind)
    {
        Calls.Add($"Reset {kind}");
        Value = 0;
    }

    public void Quiesce() => Calls.Add("Quiesce");

    public DeviceState Save() => DeviceState.From("test/device", 1, new Data { Value = Value });

    public void Restore(DeviceState state) => Value = state.Read<Data>("test/device", 1).Value;

    public void Resume() => Calls.Add("Resume");

    public void Dispose() => Calls.Add("Dispose");

    public uint ReadPort(int offset, int size) => OnRead?.Invoke(offset, size) ?? Value;

    public void WritePort(int offset, int size, uint value)
    {
        if (OnWrite is null)
            Value = value;
        else
            OnWrite(offset, size, value);
    }

    public ulong ReadMmio(ulong offset, int size) => OnRead?.Invoke((int)offset, size) ?? Value;

    public void WriteMmio(ulong offset, int size, ulong value) => WritePort((int)offset, size, (uint)value);

    private sealed class Data
    {
        public uint Value { get; set; }
    }
}

/// <summary>Host time at the test's command.</summary>
internal sealed class FakeSource : NondeterminismSource
{
    public ulong Host { get; set; } = 1_000_000;

    public List<(int Vcpu, byte Vector)> Interrupts { get; } = [];

    public override ulong HostNanoseconds => Host;

    public override DateTimeOffset UtcNow => new(2026, 1, 2, 3, 4, 5, TimeSpan.Zero);

    public override void InterruptDelivered(int vcpu, byte vector, ulong instructionsRetired) => Interrupts.Add((vcpu, vector));
}

internal sealed class ListLog : ILog
{
    public List<string> Lines { get; } = [];

    public LogLevel Lowest { get; set; } = LogLevel.Information;

    public bool IsEnabled(LogLevel level) => level >= Lowest;

    public void Write(LogLevel level, string message)
    {
        lock (Lines)
            Lines.Add(message);
    }
}
