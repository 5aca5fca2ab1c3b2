using VirtPS.Sdk;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Devices;
using VirtPS.Sdk.Machine;
using VirtPS.Sdk.Plugins;

namespace VirtPS.Engine;

/// <summary>The parts that <see cref="MachineBuilder"/> hands to its machine.</summary>
internal sealed record MachineAssembly
{
    public required Board Board { get; init; }
    public required ICpuBackend Backend { get; init; }
    public required IPartition Partition { get; init; }
    public required NondeterminismSource Nondeterminism { get; init; }
    public required IGuestStarter? Starter { get; init; }
    public required ILog Log { get; init; }
    public required List<(string Name, IDevice Device)> Devices { get; init; }
    public required VmConfiguration Configuration { get; init; }
    public required IStrategy Strategy { get; init; }
    public required MachineControl Control { get; init; }
    public required IReadOnlyList<IMachineObserver> Observers { get; init; }
}
