using VirtPS.Device.IoApic;
using VirtPS.Sdk.Devices;
using VirtPS.Sdk.Plugins;

[assembly: Plugin(typeof(IoApicPlugin))]

namespace VirtPS.Device.IoApic;

/// <summary>Entry of the plugin <c>virtps.ioapic</c>.</summary>
public sealed class IoApicPlugin : IPlugin
{
    public IEnumerable<IDeviceFactory> DeviceFactories => [new IoApicFactory()];
}

/// <summary>An <c>ioapic</c> has no properties: there is one, at the PC's address.</summary>
public sealed class IoApicSpec
{
}

internal sealed class IoApicFactory : DeviceFactory<IoApicSpec>
{
    public override string Model => "ioapic";

    protected override IDevice Create(IoApicSpec spec, DeviceContext context) => new I82093(context);
}
