using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Rings;

namespace VirtPS.Emulation;

/// <summary>The x86-64 interpreter as a CPU backend.</summary>
public sealed class SoftBackend : ICpuBackend
{
    public string Tier => "Interpreter";

    public BackendCapabilities Capabilities { get; } = new()
    {
        MaxVcpus = 32,
        RingFidelity = RingFidelity.Exact,
        Execution = ExecutionKind.Interpreted,
        HostRing = 3,
        CountsInstructions = true,
    };

    public IPartition CreatePartition(PartitionOptions options) => new SoftPartition(options);

    public void Dispose()
    {
    }
}
