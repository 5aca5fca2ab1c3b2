using VirtPS.Emulation;
using VirtPS.Sdk;
using VirtPS.Sdk.Machine;

namespace VirtPS.Strategy.Full;

/// <summary>The strategy's options, checked.</summary>
internal sealed record FullOptions(SoftwareOptions Software, Enlightenment Enlightenment)
{
    /// <summary>Throws <see cref="VirtException"/> <c>StrategyOptionInvalid</c> that names the option and lists what there is.</summary>
    public static FullOptions Parse(IReadOnlyDictionary<string, string> options)
    {
        var enlightenment = Enlightenment.None;
        SoftwareOptions software = SoftwareOptions.Parse("Full", options, "tier, cpu, enlightenment, lockstep, cache", (name, value) =>
        {
            if (name == "enlightenment" && (!Enum.TryParse(value, ignoreCase: true, out enlightenment) || !Enum.IsDefined(enlightenment)))
                throw SoftwareOptions.Invalid($"The strategy Full has no enlightenment '{value}'.", "Use one of: None, Kvm.", value);
            return name == "enlightenment";
        });
        return new FullOptions(software, enlightenment);
    }
}
