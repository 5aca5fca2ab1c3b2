using VirtPS.Device.Pic;
using VirtPS.Sdk.Devices;
using VirtPS.Sdk.Plugins;

[assembly: Plugin(typeof(PicPlugin))]

namespace VirtPS.Device.Pic;

/// <summary>Entry of the plugin <c>virtps.pic</c>.</summary>
public sealed class PicPlugin : IPlugin
{
    public IEnumerable<IDeviceFactory> DeviceFactories => [new PicPairFactory()];
}

/// <summary>A <c>8259a</c> has no properties: its ports are the PC's.</summary>
public sealed class PicSpec
{
}

internal sealed class PicPairFactory : DeviceFactory<PicSpec>
{
    public override string Model => "8259a";

    protected override IDevice Create(PicSpec spec, DeviceContext context) => new PicPair(context);
}
