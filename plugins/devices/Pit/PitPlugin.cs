using VirtPS.Device.Pit;
using VirtPS.Sdk.Devices;
using VirtPS.Sdk.Plugins;

[assembly: Plugin(typeof(PitPlugin))]

namespace VirtPS.Device.Pit;

/// <summary>Entry of the plugin <c>virtps.pit</c>.</summary>
public sealed class PitPlugin : IPlugin
{
    public IEnumerable<IDeviceFactory> DeviceFactories => [new PitFactory()];
}

/// <summary>An <c>8254</c> has no properties: its ports and clock are the PC's.</summary>
public sealed class PitSpec
{
}

internal sealed class PitFactory : DeviceFactory<PitSpec>
{
    public override string Model => "8254";

    protected override IDevice Create(PitSpec spec, DeviceContext context) => new I8254(context);
}
