using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Plugins;

namespace VirtPS.Strategy.Full;

/// <summary>The guest believes that it runs on a PC: no hypercalls, rings as the processor has them.</summary>
internal sealed class BarePcInterface : IGuestInterface
{
    public string Name => "Bare PC";

    public bool IsPc => true;

    public unsafe bool Hypercall(IVcpu vcpu, VcpuState* state) => false;

    public unsafe int GuestRing(VcpuState* state) => state->Cpl;

    public string ClassicalRing(int guestRing) => guestRing switch
    {
        0 => "Ring 1 (kernel, deprivileged under a VMM in ring 0)",
        _ => $"Ring {guestRing}",
    };
}
