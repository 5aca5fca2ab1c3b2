using VirtPS.Device.LocalApic;
using VirtPS.Sdk;
using VirtPS.Sdk.Devices;
using VirtPS.Sdk.Interrupts;
using VirtPS.Sdk.Plugins;

[assembly: Plugin(typeof(LocalApicPlugin))]

namespace VirtPS.Device.LocalApic;

/// <summary>Entry of the plugin <c>virtps.localapic</c>.</summary>
public sealed class LocalApicPlugin : IPlugin
{
    public IEnumerable<IDeviceFactory> DeviceFactories => [new LocalApicFactory()];
}

/// <summary>Properties of a <c>lapic</c>. The two features must be what CPUID says.</summary>
public sealed class LocalApicSpec
{
    /// <summary>Index of its vCPU. The machine reads it, to give the device that vCPU's <see cref="ILocalApicHost"/>.</summary>
    public int Vcpu { get; set; }

    /// <summary>x2APIC mode can be entered (CPUID.1:ECX[21]).</summary>
    public bool X2Apic { get; set; } = true;

    /// <summary>The timer has TSC-deadline mode (CPUID.1:ECX[24]).</summary>
    public bool TscDeadline { get; set; } = true;
}

internal sealed class LocalApicFactory : DeviceFactory<LocalApicSpec>
{
    public override string Model => "lapic";

    protected override IDevice Create(LocalApicSpec spec, DeviceContext context) => new Apic(
        spec,
        context,
        context.GetService<ILocalApicHost>()
            ?? throw new VirtException("DeviceUnsupported", $"Device '{context.Name}' is a local APIC; the machine makes one for each vCPU itself.", "Remove it from the VM's device list.", context.Name));
}
