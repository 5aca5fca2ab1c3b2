using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Plugins;

namespace VirtPS.Sdk.Testing.Conformance;

/// <summary>A strategy as VMs with certain options use it: what is given on top wins. For running the conformance suite under other options than the default ones.</summary>
public sealed class StrategyWithOptions(IStrategy inner, IReadOnlyDictionary<string, string> own) : IStrategy
{
    public StrategyInfo Info => inner.Info;

    public IGuestInterface GuestInterface => inner.GuestInterface;

    public HostSupport Probe() => inner.Probe();

    public ICpuBackend CreateBackend(IReadOnlyDictionary<string, string> options, ILog log) => inner.CreateBackend(Merge(options), log);

    public CpuidPolicy CreateCpuidPolicy(int vcpuCount, IReadOnlyDictionary<string, string> options) => inner.CreateCpuidPolicy(vcpuCount, Merge(options));

    private Dictionary<string, string> Merge(IReadOnlyDictionary<string, string> given)
    {
        var merged = new Dictionary<string, string>(own, StringComparer.OrdinalIgnoreCase);
        foreach ((string name, string value) in given)
            merged[name] = value;
        return merged;
    }
}
