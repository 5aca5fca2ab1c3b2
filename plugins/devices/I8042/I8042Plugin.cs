using VirtPS.Device.I8042;
using VirtPS.Sdk.Devices;
using VirtPS.Sdk.Plugins;

[assembly: Plugin(typeof(I8042Plugin))]

namespace VirtPS.Device.I8042;

/// <summary>Entry of the plugin <c>virtps.i8042</c>.</summary>
public sealed class I8042Plugin : IPlugin
{
    public IEnumerable<IDeviceFactory> DeviceFactories => [new I8042Factory()];
}

/// <summary>An <c>i8042</c> has no properties: its ports are the PC's.</summary>
public sealed class I8042Spec
{
}

internal sealed class I8042Factory : DeviceFactory<I8042Spec>
{
    public override string Model => "i8042";

    protected override IDevice Create(I8042Spec spec, DeviceContext context) => new Controller(context);
}
