using VirtPS.Device.PciHost;
using VirtPS.Sdk.Devices;
using VirtPS.Sdk.Plugins;

[assembly: Plugin(typeof(PciHostPlugin))]

namespace VirtPS.Device.PciHost;

/// <summary>Entry of the plugin <c>virtps.pcihost</c>.</summary>
public sealed class PciHostPlugin : IPlugin
{
    public IEnumerable<IDeviceFactory> DeviceFactories => [new HostBridgeFactory()];
}

/// <summary>A <c>host-bridge</c> has no properties: its ports are the PC's.</summary>
public sealed class HostBridgeSpec
{
}

internal sealed class HostBridgeFactory : DeviceFactory<HostBridgeSpec>
{
    public override string Model => "host-bridge";

    protected override IDevice Create(HostBridgeSpec spec, DeviceContext context) => new HostBridge(context);
}
