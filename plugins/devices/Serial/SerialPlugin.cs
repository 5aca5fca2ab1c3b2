using VirtPS.Device.Serial;
using VirtPS.Sdk.Devices;
using VirtPS.Sdk.Machine;
using VirtPS.Sdk.Plugins;

[assembly: Plugin(typeof(SerialPlugin))]

namespace VirtPS.Device.Serial;

/// <summary>Entry of the plugin <c>virtps.serial</c>.</summary>
public sealed class SerialPlugin : IPlugin
{
    public IEnumerable<IDeviceFactory> DeviceFactories => [new Uart16550AFactory()];
}

/// <summary>Properties of a <c>16550a</c>.</summary>
public sealed class SerialSpec
{
    /// <summary>First of eight ports; a multiple of 8.</summary>
    public int Port { get; set; } = PcLayout.Com1Port;

    public int Irq { get; set; } = PcLayout.Com1Irq;

    /// <summary>Byte stream on the host's side; null: <c>console</c> on COM1, nothing elsewhere; empty: nothing.</summary>
    public string? Console { get; set; }
}

internal sealed class Uart16550AFactory : DeviceFactory<SerialSpec>
{
    public override string Model => "16550a";

    protected override IDevice Create(SerialSpec spec, DeviceContext context)
    {
        SpecCheck.Range(context, "port", spec.Port, 8, 0xFFF8);
        if (spec.Port % 8 != 0)
            throw SpecCheck.Invalid(context, "port", spec.Port, "It must be a multiple of 8.");
        SpecCheck.Range(context, "irq", spec.Irq, 0, 15);
        if (spec.Irq == 2)
            throw SpecCheck.Invalid(context, "irq", spec.Irq, "Interrupt 2 is the cascade of the second 8259.");
        return new Uart16550A(spec, context);
    }
}
