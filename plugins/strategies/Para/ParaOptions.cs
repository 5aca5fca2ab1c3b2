using VirtPS.Emulation;
using VirtPS.Sdk;

namespace VirtPS.Strategy.Para;

/// <summary>The strategy's options, checked. Names and values are compared without regard to case.</summary>
internal sealed record ParaOptions(CpuLevel Cpu, bool Translate)
{
    private static readonly string[] s_tiers = ["auto", "interpreter", "translator"];

    private static readonly Dictionary<string, CpuLevel> s_levels = new(StringComparer.OrdinalIgnoreCase)
    {
        ["x86-64"] = CpuLevel.Baseline,
        ["x86-64-v2"] = CpuLevel.V2,
        ["x86-64-v3"] = CpuLevel.V3,
    };

    /// <summary>Throws <see cref="VirtException"/> <c>StrategyOptionInvalid</c> that names the option and lists what there is.</summary>
    public static ParaOptions Parse(IReadOnlyDictionary<string, string> options)
    {
        CpuLevel level = CpuLevel.V3;
        string tier = "auto";
        foreach ((string name, string value) in options)
        {
            switch (name.ToLowerInvariant())
            {
                case "tier":
                    tier = value.ToLowerInvariant();
                    if (!s_tiers.Contains(tier))
                        throw Invalid($"The strategy Para has no tier '{value}'.", $"Use one of: {string.Join(", ", s_tiers)}.", value);
                    break;
                case "cpu":
                    if (!s_levels.TryGetValue(value, out level))
                        throw Invalid($"The strategy Para has no cpu '{value}'.", $"Use one of: {string.Join(", ", s_levels.Keys)}.", value);
                    break;
                // A kernel that sees two hypervisors takes one of them: the guest must see Xen alone.
                case "enlightenment":
                    if (!string.Equals(value, "None", StringComparison.OrdinalIgnoreCase))
                        throw Invalid($"A Xen PV guest can't have the enlightenment '{value}': it talks to Xen.", "Use -Enlightenment None, or the strategy Full or Hardware.", value);
                    break;
                default:
                    throw Invalid($"The strategy Para has no option '{name}'.", "It has: tier, cpu.", name);
            }
        }

        if (tier == "translator" && !EngineOptions.CanTranslate)
            throw Invalid("The translator needs an x64 Linux host with BMI2.", "Use tier=auto, which takes the interpreter here.", tier);
        return new ParaOptions(level, tier != "interpreter" && EngineOptions.CanTranslate);
    }

    private static VirtException Invalid(string message, string action, string target) => new("StrategyOptionInvalid", message, action, target);
}
