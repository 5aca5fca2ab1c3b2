using VirtPS.Sdk;

namespace VirtPS.Emulation;

/// <summary>The options that every strategy over the software backend has: <c>tier</c>, <c>cpu</c>, <c>lockstep</c> and <c>cache</c>. Names and values are compared without regard to case.</summary>
/// <param name="Cpu">The modelled processor's level; x86-64-v4 when not given.</param>
/// <param name="Translate">Whether guest code is translated; false where the host can't or <c>tier=interpreter</c> was asked for.</param>
/// <param name="LockStep">Interpreter and translator check each other; see <see cref="EngineOptions.LockStep"/>.</param>
/// <param name="Cache">Translations are kept for the next run where the process says so (<see cref="StoreFolderData"/>).</param>
public sealed record SoftwareOptions(CpuLevel Cpu, bool Translate, bool LockStep, bool Cache = true)
{
    /// <summary>The <see cref="AppContext"/> data in which a process that runs machines says where translations are kept (<see cref="EngineOptions.StoreFolder"/>): a path. Without it none are.</summary>
    public const string StoreFolderData = "VirtPS.TranslationFolder";

    private static readonly string[] s_tiers = ["auto", "interpreter", "translator"];

    private static readonly Dictionary<string, CpuLevel> s_levels = new(StringComparer.OrdinalIgnoreCase)
    {
        ["x86-64"] = CpuLevel.Baseline,
        ["x86-64-v2"] = CpuLevel.V2,
        ["x86-64-v3"] = CpuLevel.V3,
        ["x86-64-v4"] = CpuLevel.V4,
    };

    /// <summary>
    /// Reads them; what else there is goes to <paramref name="other"/>, which returns false for an option that the strategy does not have. Throws <see cref="VirtException"/>
    /// <c>StrategyOptionInvalid</c> that names the option and lists what there is.
    /// </summary>
    /// <param name="strategy">The strategy's name, for errors.</param>
    /// <param name="options">Names and values.</param>
    /// <param name="names">All options that the strategy shows, for errors.</param>
    /// <param name="other">Takes an option by its name in lower case and its value.</param>
    public static SoftwareOptions Parse(string strategy, IReadOnlyDictionary<string, string> options, string names, Func<string, string, bool> other)
    {
        CpuLevel level = CpuLevel.V4;
        string tier = "auto";
        bool lockStep = false, cache = true;
        foreach ((string name, string value) in options)
        {
            switch (name.ToLowerInvariant())
            {
                case "tier":
                    tier = value.ToLowerInvariant();
                    if (!s_tiers.Contains(tier))
                        throw Invalid($"The strategy {strategy} has no tier '{value}'.", $"Use one of: {string.Join(", ", s_tiers)}.", value);
                    break;
                case "cpu":
                    if (!s_levels.TryGetValue(value, out level))
                        throw Invalid($"The strategy {strategy} has no cpu '{value}'.", $"Use one of: {string.Join(", ", s_levels.Keys)}.", value);
                    break;
                case "lockstep":
                    if (!bool.TryParse(value, out lockStep))
                        throw Invalid($"The option lockstep of the strategy {strategy} is true or false, not '{value}'.", "Use lockstep=true to have each piece of generated code checked by the interpreter.", value);
                    break;
                case "cache":
                    cache = value.ToLowerInvariant() switch
                    {
                        "on" => true,
                        "off" => false,
                        _ => throw Invalid($"The option cache of the strategy {strategy} is on or off, not '{value}'.", "Use cache=off to keep no translations for the next run, and use none.", value),
                    };
                    break;
                case string rest when !other(rest, value):
                    throw Invalid($"The strategy {strategy} has no option '{name}'.", $"It has: {names}.", name);
            }
        }

        if (tier == "translator" && !EngineOptions.CanTranslate)
            throw Invalid("The translator needs an x64 Linux host.", "Use tier=auto, which takes the interpreter here.", tier);
        bool translate = tier != "interpreter" && EngineOptions.CanTranslate;
        if (lockStep && !translate)
            throw Invalid("lockstep=true checks the translator, which is not used here.", "Leave lockstep out, or use tier=translator on an x64 Linux host.", "lockstep");
        return new SoftwareOptions(level, translate, lockStep, cache);
    }

    /// <summary>How the backend executes by these options. In lock-step everything is translated at once.</summary>
    public EngineOptions ToEngine()
    {
        var engine = new EngineOptions { Translate = Translate, StoreFolder = Cache && Translate ? AppContext.GetData(StoreFolderData) as string : null };
        return LockStep ? engine with { LockStep = true, HotAfter = 0 } : engine;
    }

    /// <summary>The error of an option that can't be used.</summary>
    public static VirtException Invalid(string message, string action, string target) => new("StrategyOptionInvalid", message, action, target);
}
