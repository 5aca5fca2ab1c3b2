using VirtPS.Sdk;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Plugins;
using VirtPS.Strategy.Full;

namespace VirtPS.Emulation.SystemTests;

/// <summary>Full on the engine that VIRTPS_TEST_ENGINE chooses: the translator, with every block translated at once, or the interpreter. The suite is run with each.</summary>
internal sealed class TestEngine : IStrategy
{
    private readonly FullStrategy _full = new();

    public StrategyInfo Info => _full.Info;

    public IGuestInterface GuestInterface => _full.GuestInterface;

    public HostSupport Probe() => _full.Probe();

    public ICpuBackend CreateBackend(IReadOnlyDictionary<string, string> options, ILog log) =>
        new SoftBackend(new EngineOptions { Translate = Environment.GetEnvironmentVariable("VIRTPS_TEST_ENGINE") == "translator", HotAfter = 0 });

    public CpuidPolicy CreateCpuidPolicy(int vcpuCount, IReadOnlyDictionary<string, string> options) => _full.CreateCpuidPolicy(vcpuCount, options);
}
