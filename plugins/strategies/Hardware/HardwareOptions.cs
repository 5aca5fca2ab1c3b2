using VirtPS.Sdk;

namespace VirtPS.Strategy.Hardware;

/// <summary>The strategy's options, checked.</summary>
/// <param name="Device">Path of the KVM device.</param>
/// <param name="KernelIrqchip">KVM's interrupt controllers (true), the machine's own (false); null: KVM's where it has all of them.</param>
/// <param name="Enlightened">CPUID shows KVM's leaves.</param>
internal sealed record HardwareOptions(string Device, bool? KernelIrqchip, bool Enlightened)
{
    public const string DefaultDevice = "/dev/kvm";

    public static HardwareOptions Read(IReadOnlyDictionary<string, string> options)
    {
        var result = new HardwareOptions(DefaultDevice, null, true);
        foreach ((string name, string value) in options)
        {
            result = name.ToUpperInvariant() switch
            {
                "DEVICE" => result with { Device = value },
                "IRQCHIP" => result with { KernelIrqchip = Choose<bool?>(name, value, ("auto", null), ("kernel", true), ("software", false)) },
                "ENLIGHTENMENT" => result with { Enlightened = Choose(name, value, ("Kvm", true), ("None", false)) },
                _ => throw new VirtException("StrategyOptionInvalid", $"The strategy Hardware has no option '{name}'.", "It has: device, irqchip, enlightenment.", name),
            };
        }

        return result;
    }

    /// <summary>Throws <see cref="VirtException"/> where it was asked for and this KVM lacks a part of it.</summary>
    public bool UsesKernelIrqchip(KvmDevice kvm)
    {
        bool offered = KvmInterruptController.IsOffered(kvm);
        if (KernelIrqchip == true && !offered)
            throw new VirtException("StrategyUnavailable", "This KVM lacks interrupt controllers of its own, or a part of what they need.", "Use the option irqchip=software.", "irqchip");
        return KernelIrqchip ?? offered;
    }

    private static T Choose<T>(string name, string value, params ReadOnlySpan<(string Name, T Value)> choices)
    {
        foreach ((string choice, T meaning) in choices)
        {
            if (string.Equals(choice, value, StringComparison.OrdinalIgnoreCase))
                return meaning;
        }

        throw new VirtException("StrategyOptionInvalid", $"The strategy Hardware's option '{name}' cannot be '{value}'.", $"It can be: {string.Join(", ", choices.ToArray().Select(c => c.Name))}.", name);
    }
}
