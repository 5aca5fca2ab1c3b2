using System.Runtime.InteropServices;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Rings;

namespace VirtPS.Emulation;

/// <summary>The x86-64 interpreter as a CPU backend.</summary>
public sealed class SoftBackend : ICpuBackend
{
    public string Tier => "Interpreter";

    public BackendCapabilities Capabilities { get; } = new()
    {
        // Other memory models than x86's have not been taken into account: one vCPU there.
        MaxVcpus = RuntimeInformation.ProcessArchitecture == Architecture.X64 ? 32 : 1,
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
