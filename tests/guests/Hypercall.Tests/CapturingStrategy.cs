using VirtPS.Sdk;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Plugins;
using VirtPS.Strategy.Para;

namespace VirtPS.Hypercall.Tests;

/// <summary>The strategy Para, with the domain that it makes within reach: the test looks at what a guest has left behind in it.</summary>
internal sealed class CapturingStrategy : IStrategy, IGuestInterface
{
    private readonly ParaStrategy _para = new();

    public XenDomain? Domain { get; private set; }

    public StrategyInfo Info => _para.Info;

    public IGuestInterface GuestInterface => this;

    public string Name => _para.GuestInterface.Name;

    public bool IsPc => false;

    public HostSupport Probe() => _para.Probe();

    public ICpuBackend CreateBackend(IReadOnlyDictionary<string, string> options, ILog log) => _para.CreateBackend(options, log);

    public CpuidPolicy CreateCpuidPolicy(int vcpuCount, IReadOnlyDictionary<string, string> options) => _para.CreateCpuidPolicy(vcpuCount, options);

    public IGuestPlatform? CreatePlatform(GuestPlatformContext context) => Domain = (XenDomain?)_para.GuestInterface.CreatePlatform(context);

    public string? HypercallName(int number) => _para.GuestInterface.HypercallName(number);

    public unsafe bool Hypercall(IVcpu vcpu, VcpuState* state) => _para.GuestInterface.Hypercall(vcpu, state);

    public unsafe int GuestRing(VcpuState* state) => _para.GuestInterface.GuestRing(state);

    public string ClassicalRing(int guestRing) => _para.GuestInterface.ClassicalRing(guestRing);
}
