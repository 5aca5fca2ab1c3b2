using VirtPS.Device.Acpi;
using VirtPS.Sdk.Devices;
using VirtPS.Sdk.Plugins;

[assembly: Plugin(typeof(AcpiPlugin))]

namespace VirtPS.Device.Acpi;

/// <summary>Entry of the plugin <c>virtps.acpi</c>.</summary>
public sealed class AcpiPlugin : IPlugin
{
    public IEnumerable<IDeviceFactory> DeviceFactories => [new PowerManagementFactory()];
}

/// <summary>Properties of a <c>pm</c>.</summary>
public sealed class PowerManagementSpec
{
    /// <summary>24 or 32; must agree with the FADT's TMR_VAL_EXT.</summary>
    public int TimerBits { get; set; } = 32;
}

internal sealed class PowerManagementFactory : DeviceFactory<PowerManagementSpec>
{
    public override string Model => "pm";

    protected override IDevice Create(PowerManagementSpec spec, DeviceContext context) => spec.TimerBits is 24 or 32
        ? new PowerManagement(spec, context)
        : throw SpecCheck.Invalid(context, "timerBits", spec.TimerBits, "It must be 24 or 32.");
}
