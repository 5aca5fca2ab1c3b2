using System.Runtime.InteropServices;
using VirtPS.Emulation;
using VirtPS.Emulation.Thunks;
using VirtPS.Sdk;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Machine;
using VirtPS.Sdk.Plugins;
using VirtPS.Sdk.Rings;

namespace VirtPS.Strategy.Full;

/// <summary>Full virtualization in software: an unmodified guest on a bare PC, its processor emulated.</summary>
public sealed class FullStrategy : IStrategy
{
    public StrategyInfo Info { get; } = new()
    {
        Name = "Full",
        Description = "Full virtualization: unmodified guests, executed in software by binary translation or interpretation. Runs on any host.",
        RingFidelity = RingFidelity.Exact,
        Preference = 50,
        RingModel =
        [
            new RingModelRow(3, "User programs", "Ring 3", "Emulated by the worker, in ring 3"),
            new RingModelRow(2, "(not used by today's kernels)", "Ring 2", "Emulated by the worker, in ring 3"),
            new RingModelRow(1, "(not used by today's kernels)", "Ring 1", "Emulated by the worker, in ring 3"),
            new RingModelRow(0, "Guest kernel", "Ring 1: deprivileged, with binary translation", "Emulated by the worker, in ring 3"),
            new RingModelRow(-1, "VMM", "Ring 0", "The worker process, in ring 3"),
        ],
    };

    public IGuestInterface GuestInterface { get; } = new BarePcInterface();

    public HostSupport Probe() => RuntimeInformation.ProcessArchitecture switch
    {
        Architecture.X64 when EngineOptions.CanTranslate => new HostSupport(true, $"The translator can run here: {EngineOptions.HostKind}."),
        Architecture.X64 => new HostSupport(true, "The interpreter alone: the translator needs an x64 Linux host."),
        Architecture.Arm64 => new HostSupport(true,
            "Interpreter only, one vCPU, unproven on Arm64; floating-point and vector instructions are missing, so that kernels which need SSE2 do not start.",
            "Use an x64 host for anything but experiments."),
        Architecture other => new HostSupport(false, $"The interpreter has not been written for {other} hosts.", "Use an x64 host."),
    };

    public ICpuBackend CreateBackend(IReadOnlyDictionary<string, string> options, ILog log)
    {
        return new SoftBackend(FullOptions.Parse(options).Software.ToEngine());
    }

    public CpuidPolicy CreateCpuidPolicy(int vcpuCount, IReadOnlyDictionary<string, string> options)
    {
        var parsed = FullOptions.Parse(options);
        CpuidPolicy policy = CpuidModel.Create(vcpuCount, HostFeatures.Current, parsed.Software.Cpu);
        return parsed.Enlightenment == Enlightenment.Kvm ? policy.WithKvm(CpuidPolicy.MachineKvmFeatures(vcpuCount)) : policy;
    }
}
