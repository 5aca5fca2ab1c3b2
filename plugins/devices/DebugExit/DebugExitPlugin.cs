using VirtPS.Device.DebugExit;
using VirtPS.Sdk.Devices;
using VirtPS.Sdk.Machine;
using VirtPS.Sdk.Plugins;

[assembly: Plugin(typeof(DebugExitPlugin))]

namespace VirtPS.Device.DebugExit;

/// <summary>Entry of the plugin <c>virtps.debugexit</c>.</summary>
public sealed class DebugExitPlugin : IPlugin
{
    public IEnumerable<IDeviceFactory> DeviceFactories => [new DebugExitFactory()];
}

/// <summary>Properties of a <c>debug-exit</c>.</summary>
public sealed class DebugExitSpec
{
    /// <summary>I/O port.</summary>
    public int Port { get; set; } = PcLayout.DebugExitPort;
}

internal sealed class DebugExitFactory : DeviceFactory<DebugExitSpec>
{
    public override string Model => "debug-exit";

    protected override IDevice Create(DebugExitSpec spec, DeviceContext context) =>
        new ExitPort((ushort)SpecCheck.Range(context, "port", spec.Port, 0, 0xFFFF), context);
}

/// <summary>
/// Switches the machine off when its port is written: byte v gives exit code (v &lt;&lt; 1) | 1, always odd, so that it is never mistaken for a normal end.
/// Reads as 0. It has no state.
/// </summary>
internal sealed class ExitPort : IDevice, IPortDevice
{
    private const string TypeId = "virtps.debugexit/debug-exit";
    private const int Schema = 1;

    private readonly IMachineControl? _machine;
    private readonly IBusRegion _region;

    public ExitPort(ushort port, DeviceContext context)
    {
        _machine = context.GetService<IMachineControl>();
        _region = context.MapPorts(port, 1, this);
    }

    public uint ReadPort(int offset, int size) => 0;

    public void WritePort(int offset, int size, uint value)
    {
        int code = ((byte)value << 1) | 1;
        _machine?.RequestPowerOff($"The guest wrote {(byte)value} to the debug-exit port: exit code {code}.", code);
    }

    public void Reset(ResetKind kind)
    {
    }

    public void Quiesce()
    {
    }

    public DeviceState Save() => DeviceState.From(TypeId, Schema, new ExitPortState());

    public void Restore(DeviceState state) => state.Read<ExitPortState>(TypeId, Schema);

    public void Resume()
    {
    }

    public void Dispose() => _region.Dispose();
}

/// <summary>Saved state, schema 1: nothing.</summary>
internal sealed record ExitPortState;
