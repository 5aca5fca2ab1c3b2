using System.Text.Json.Nodes;
using VirtPS.Engine.Interrupts;
using VirtPS.Engine.Logging;
using VirtPS.Sdk;
using VirtPS.Sdk.Backends;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Devices;
using VirtPS.Sdk.Interrupts;
using VirtPS.Sdk.Memory;
using VirtPS.Sdk.Time;

namespace VirtPS.Engine;

/// <summary>What one device gets from its machine.</summary>
internal sealed class MachineDeviceContext : DeviceContext
{
    private readonly Board _board;
    private readonly BackendRegistry _backends;
    private readonly IMachineControl _control;
    private readonly int? _vcpu;

    public MachineDeviceContext(Board board, BackendRegistry backends, IMachineControl control, ILog log, string name, JsonObject spec)
    {
        (_board, _backends, _control, Name) = (board, backends, control, name);
        Log = new RateLimitedLog(log, name);
        _vcpu = spec["vcpu"] is JsonValue v && v.TryGetValue(out int index) ? index : null;
    }

    public override string Name { get; }

    public override ILog Log { get; }

    public override VirtualClock Clock => _board.Clock;

    public override GuestMemory Memory => _board.Memory;

    public override IMsiTarget Msi => _board.Msi;

    public override IMsiSignal CreateMsiSignal() => _board.PartitionInterrupts?.CreateMsiSignal() ?? new SoftwareMsiSignal(Msi);

    public override IDisposable? TryMapDoorbell(ulong address, int size, ulong? value, Action rung) =>
        _board.Doorbells is { } doorbells ? new Doorbell(_board, doorbells, address, size, value, rung) : null;

    public override IBusRegion MapPorts(ushort first, int count, IPortDevice device, int maxAccess = 1) => _board.Ports.Map(Name, first, count, device, maxAccess);

    public override IBusRegion MapMmio(ulong start, ulong length, IMmioDevice device, int maxAccess = 8) => _board.Mmio.Map(Name, start, length, device, maxAccess);

    public override InterruptLine IsaInterrupt(int irq)
    {
        if (irq is < 0 or > 15)
            throw new VirtException("DevicePropertyInvalid", $"Device '{Name}': there is no ISA interrupt {irq}; there are 0 to 15.", null, Name);
        return _board.Isa[irq].CreateDriver();
    }

    public override InterruptLine GlobalInterrupt(int gsi)
    {
        if (gsi < 0 || gsi >= Sdk.Machine.PcLayout.IoApicPinCount)
            throw new VirtException("DevicePropertyInvalid", $"Device '{Name}': there is no global system interrupt {gsi}; there are 0 to {Sdk.Machine.PcLayout.IoApicPinCount - 1}.", null, Name);
        return _board.Gsi(gsi).CreateDriver();
    }

    public override ICharBackend OpenChar(string? name)
    {
        if (string.IsNullOrEmpty(name))
            return new NullCharBackend();
        return _backends.FindChar(name, Name) is { } backend ? new LockedCharBackend(backend, _board.Timer) : new NullCharBackend();
    }

    public override IBlockBackend OpenBlock(JsonObject spec) =>
        _backends.OpenBlock?.Invoke(spec) ?? throw new VirtException("BackendUnavailable", $"Device '{Name}' needs a disk, and this machine's host offers none.", null, Name);

    public override INetBackend OpenNet(JsonObject spec) =>
        _backends.OpenNet?.Invoke(spec) ?? throw new VirtException("BackendUnavailable", $"Device '{Name}' needs a network, and this machine's host offers none.", null, Name);

    public override void Post(Action work) => _board.Timer.Post(work);

    public override T? GetService<T>() where T : class
    {
        if (typeof(T) == typeof(IMachineControl))
            return (T)_control;
        if (typeof(T) == typeof(IInterruptOutput))
            return (T)_board.IntrOutput;
        if (typeof(T) == typeof(ILocalApicHost))
            return _vcpu is { } v && v >= 0 && v < _board.Vcpus.Length ? (T)(object)new LocalApicHost(_board.Vcpus[v], _board) : null;
        return _board.Find<T>();
    }

    public override void Provide<T>(T service, string key = "") where T : class => _board.Provide(service, key, Name, _vcpu);
}

/// <summary>A byte stream that leads nowhere.</summary>
internal sealed class NullCharBackend : ICharBackend
{
    public Action? InputAvailable { get; set; }

    public int Write(ReadOnlySpan<byte> data) => data.Length;

    public int Read(Span<byte> buffer) => 0;

    public void Dispose()
    {
        // Nothing is held.
    }
}

/// <summary>A backend from outside: it raises <see cref="InputAvailable"/> on any thread, the device hears it under the device lock.</summary>
internal sealed class LockedCharBackend : ICharBackend
{
    private readonly ICharBackend _inner;

    public LockedCharBackend(ICharBackend inner, MachineTimer timer)
    {
        _inner = inner;
        inner.InputAvailable = () => timer.Post(() => InputAvailable?.Invoke());
    }

    public Action? InputAvailable { get; set; }

    public int Write(ReadOnlySpan<byte> data) => _inner.Write(data);

    public int Read(Span<byte> buffer) => _inner.Read(buffer);

    /// <summary>Lets go of the backend, which belongs to whoever gave it.</summary>
    public void Dispose() => _inner.InputAvailable = null;
}

/// <summary>A partition's doorbell as a device has it: it rings under the device lock, and never after it was given back.</summary>
internal sealed class Doorbell : IDisposable
{
    private readonly IDisposable _inner;
    private bool _gone;

    public Doorbell(Board board, IPartitionDoorbells doorbells, ulong address, int size, ulong? value, Action rung) =>
        _inner = doorbells.Add(address, size, value, () => board.Timer.Post(() =>
        {
            if (!_gone)
                rung();
        }));

    public void Dispose()
    {
        _gone = true;
        _inner.Dispose();
    }
}
