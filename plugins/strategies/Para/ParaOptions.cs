using VirtPS.Emulation;
using VirtPS.Sdk;

namespace VirtPS.Strategy.Para;

/// <summary>The strategy's options, checked.</summary>
internal sealed record ParaOptions(SoftwareOptions Software)
{
    /// <summary>Throws <see cref="VirtException"/> <c>StrategyOptionInvalid</c> that names the option and lists what there is.</summary>
    public static ParaOptions Parse(IReadOnlyDictionary<string, string> options)
    {
        SoftwareOptions software = SoftwareOptions.Parse("Para", options, "tier, cpu, cache", (name, value) =>
        {
            // A kernel that sees two hypervisors takes one of them: the guest must see Xen alone.
            if (name == "enlightenment" && !string.Equals(value, "None", StringComparison.OrdinalIgnoreCase))
                throw SoftwareOptions.Invalid($"A Xen PV guest can't have the enlightenment '{value}': it talks to Xen.", "Use -Enlightenment None, or the strategy Full or Hardware.", value);
            return name == "enlightenment";
        });
        // Event channels and rings are written by other threads while the guest runs: the two executions would not see the same memory.
        if (software.LockStep)
            throw SoftwareOptions.Invalid("The strategy Para has no lockstep: its backends write the guest's memory while it runs.", "Use the strategy Full, whose generated code is the same.", "lockstep");
        return new ParaOptions(software);
    }
}
