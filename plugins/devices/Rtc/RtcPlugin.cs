using VirtPS.Device.Rtc;
using VirtPS.Sdk.Devices;
using VirtPS.Sdk.Plugins;

[assembly: Plugin(typeof(RtcPlugin))]

namespace VirtPS.Device.Rtc;

/// <summary>Entry of the plugin <c>virtps.rtc</c>.</summary>
public sealed class RtcPlugin : IPlugin
{
    public IEnumerable<IDeviceFactory> DeviceFactories => [new RtcFactory()];
}

/// <summary>An <c>mc146818</c> has no properties: its ports are the PC's and its time is UTC.</summary>
public sealed class RtcSpec
{
}

internal sealed class RtcFactory : DeviceFactory<RtcSpec>
{
    public override string Model => "mc146818";

    protected override IDevice Create(RtcSpec spec, DeviceContext context) => new Mc146818(context);
}
