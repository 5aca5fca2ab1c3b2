using System.Text.Json.Nodes;
using VirtPS.Sdk.Backends;
using VirtPS.Sdk.Devices;
using VirtPS.Sdk.Interrupts;

namespace VirtPS.Sdk.Testing;

/// <summary>The device's side of the test machine.</summary>
public sealed partial class TestMachine
{
    /// <summary>Makes a disk for the device's spec; the test sets it.</summary>
    public Func<JsonObject, IBlockBackend>? BlockSource { get; set; }

    /// <summary>Makes a network for the device's spec; the test sets it.</summary>
    public Func<JsonObject, INetBackend>? NetSource { get; set; }

    public override IBusRegion MapPorts(ushort first, int count, IPortDevice device, int maxAccess = 1) =>
        Claim(_ports, first, (ulong)count, device, maxAccess);

    public override IBusRegion MapMmio(ulong start, ulong length, IMmioDevice device, int maxAccess = 8) =>
        Claim(_mmio, start, length, device, maxAccess);

    public override InterruptLine IsaInterrupt(int irq) => Isa(irq).Wire.CreateDriver();

    public override InterruptLine GlobalInterrupt(int gsi) => Gsi(gsi).Wire.CreateDriver();

    public override ICharBackend OpenChar(string? name) => string.IsNullOrEmpty(name) ? new TestCharBackend() : Char(name);

    public override IBlockBackend OpenBlock(JsonObject spec) =>
        BlockSource?.Invoke(spec) ?? throw new InvalidOperationException("The test gave no BlockSource.");

    public override INetBackend OpenNet(JsonObject spec) =>
        NetSource?.Invoke(spec) ?? throw new InvalidOperationException("The test gave no NetSource.");

    public override void Post(Action work) => _posted.Enqueue(work);

    public override T? GetService<T>() where T : class =>
        _services.TryGetValue(typeof(T), out object? s) ? (T)s : _provided.TryGetValue((typeof(T), ""), out object? p) ? (T)p : null;

    public override void Provide<T>(T service, string key = "") where T : class
    {
        if (!_provided.TryAdd((typeof(T), key), service))
            throw new VirtException("DeviceConflict", $"A {typeof(T).Name} '{key}' is already provided.");
    }

    private Region Claim(List<Region> bus, ulong start, ulong length, object device, int maxAccess)
    {
        Region region = new(bus, length, device, maxAccess, Name);
        region.Move(start);
        return region;
    }

    private sealed class Region(List<Region> bus, ulong length, object device, int maxAccess, string owner) : IBusRegion
    {
        public ulong Start { get; private set; }

        public ulong Length { get; } = length;

        public object Device { get; } = device;

        public int MaxAccess { get; } = maxAccess;

        public bool Contains(ulong address) => address >= Start && address - Start < Length;

        public void Move(ulong? start)
        {
            bus.Remove(this);
            if (start is not { } first)
                return;
            Region? other = bus.Find(r => first < r.Start + r.Length && r.Start < first + Length);
            if (other is not null)
                throw new VirtException("DeviceConflict", $"'{owner}' at 0x{first:X} overlaps a region at 0x{other.Start:X}.");
            Start = first;
            bus.Add(this);
        }

        public void Dispose() => bus.Remove(this);
    }

    private sealed class MsiRecorder(TestMachine machine) : IMsiTarget
    {
        public void Send(MsiMessage message)
        {
            machine.SentMsis.Add(message);
            machine.Record($"msi {message.Address:X} {message.Data:X}");
        }
    }
}

/// <summary>An interrupt wire that remembers what happened on it.</summary>
public sealed class TestLine : IInterruptInput
{
    private readonly Action<string> _record;

    internal TestLine(string name, Action<string> record)
    {
        _record = record;
        Wire = new InterruptWire(name);
        Wire.Connect(this, 0);
    }

    public InterruptWire Wire { get; }

    public bool Level { get; private set; }

    /// <summary>Number of low-to-high changes so far.</summary>
    public int RisingEdges { get; private set; }

    public void SetPin(int pin, bool level)
    {
        if (level == Level)
            return;
        Level = level;
        if (level)
            RisingEdges++;
        _record($"{Wire.Name} {(level ? "high" : "low")}");
    }
}
