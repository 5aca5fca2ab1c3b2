using VirtPS.Emulation;
using VirtPS.Emulation.Thunks;
using VirtPS.Sdk;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Plugins;
using VirtPS.Sdk.Rings;

namespace VirtPS.Strategy.Para;

/// <summary>Para-virtualization: a guest made for Xen PV over the software CPU backend.</summary>
public sealed class ParaStrategy : IStrategy
{
    public StrategyInfo Info { get; } = new()
    {
        Name = "Para",
        Description = "Para-virtualization: a kernel made for Xen PV asks the VMM by hypercall; its kernel runs in ring 3. Runs on any host.",
        RingFidelity = RingFidelity.Exact,
        Preference = 20,
        RingModel =
        [
            new RingModelRow(3, "User programs", "Ring 3", "Emulated by the worker, in ring 3"),
            new RingModelRow(0, "Guest kernel, which knows that it is a guest", "Ring 1: calls down by hypercall (64-bit: ring 3)", "Emulated by the worker, in ring 3"),
            new RingModelRow(-1, "VMM: hypercalls, page types, event channels", "Ring 0", "The worker process, in ring 3"),
        ],
    };

    public IGuestInterface GuestInterface { get; } = new XenPvInterface();

    public HostSupport Probe() => new(true, "The software backend runs Xen PV guests on every host that it runs on.");

    public ICpuBackend CreateBackend(IReadOnlyDictionary<string, string> options, ILog log) => new SoftBackend(ParaOptions.Parse(options).Software.ToEngine());

    public CpuidPolicy CreateCpuidPolicy(int vcpuCount, IReadOnlyDictionary<string, string> options) =>
        XenCpuid.Restrict(CpuidModel.Create(vcpuCount, HostFeatures.Current, ParaOptions.Parse(options).Software.Cpu));
}
