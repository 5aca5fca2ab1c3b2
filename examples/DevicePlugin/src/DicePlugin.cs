using Acme.Dice;
using VirtPS.Sdk.Devices;
using VirtPS.Sdk.Plugins;

[assembly: Plugin(typeof(DicePlugin))]

namespace Acme.Dice;

/// <summary>What the catalog finds: the factories in this assembly.</summary>
public sealed class DicePlugin : IPlugin
{
    public IEnumerable<IDeviceFactory> DeviceFactories => [new DiceFactory()];
}

/// <summary>The device's properties, as they stand in the VM's configuration; the same as in plugin.json.</summary>
public sealed class DiceSpec
{
    public int Port { get; set; } = 0x300;

    public int Irq { get; set; } = 5;

    public int Seed { get; set; } = 1;
}

internal sealed class DiceFactory : DeviceFactory<DiceSpec>
{
    public override string Model => "dice";

    protected override IDevice Create(DiceSpec spec, DeviceContext context)
    {
        SpecCheck.Range(context, "port", spec.Port, 0, 0xFFFE);
        SpecCheck.Range(context, "irq", spec.Irq, 0, 15);
        SpecCheck.Range(context, "seed", spec.Seed, 1, int.MaxValue);
        return new DiceDevice(spec, context);
    }
}
