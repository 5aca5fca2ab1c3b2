using VirtPS.Emulation;
using VirtPS.Sdk;
using VirtPS.Sdk.Machine;

namespace VirtPS.Strategy.Full;

/// <summary>The strategy's options, checked. Names and values are compared without regard to case.</summary>
internal sealed record FullOptions(CpuLevel Cpu, bool Translate, Enlightenment Enlightenment)
{
    private static readonly string[] s_tiers = ["auto", "interpreter", "translator"];

    private static readonly Dictionary<string, CpuLevel> s_levels = new(StringComparer.OrdinalIgnoreCase)
    {
        ["x86-64"] = CpuLevel.Baseline,
        ["x86-64-v2"] = CpuLevel.V2,
        ["x86-64-v3"] = CpuLevel.V3,
    };

    /// <summary>Throws <see cref="VirtException"/> <c>StrategyOptionInvalid</c> that names the option and lists what there is.</summary>
    public static FullOptions Parse(IReadOnlyDictionary<string, string> options)
    {
        CpuLevel level = CpuLevel.V3;
        var enlightenment = Enlightenment.None;
        string tier = "auto";
        foreach ((string name, string value) in options)
        {
            switch (name.ToLowerInvariant())
            {
                case "tier":
                    tier = value.ToLowerInvariant();
                    if (!s_tiers.Contains(tier))
                        throw Invalid($"The strategy Full has no tier '{value}'.", $"Use one of: {string.Join(", ", s_tiers)}.", value);
                    break;
                case "cpu":
                    if (!s_levels.TryGetValue(value, out level))
                        throw Invalid($"The strategy Full has no cpu '{value}'.", $"Use one of: {string.Join(", ", s_levels.Keys)}.", value);
                    break;
                case "enlightenment":
                    if (!Enum.TryParse(value, ignoreCase: true, out enlightenment) || !Enum.IsDefined(enlightenment))
                        throw Invalid($"The strategy Full has no enlightenment '{value}'.", "Use one of: None, Kvm.", value);
                    break;
                default:
                    throw Invalid($"The strategy Full has no option '{name}'.", "It has: tier, cpu, enlightenment.", name);
            }
        }

        if (tier == "translator" && !EngineOptions.CanTranslate)
            throw Invalid("The translator needs an x64 Linux host with BMI2.", "Use tier=auto, which takes the interpreter here.", tier);
        return new FullOptions(level, tier != "interpreter" && EngineOptions.CanTranslate, enlightenment);
    }

    private static VirtException Invalid(string message, string action, string target) => new("StrategyOptionInvalid", message, action, target);
}
