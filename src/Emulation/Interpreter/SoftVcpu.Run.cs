using VirtPS.Sdk.Cpu;

namespace VirtPS.Emulation;

public sealed unsafe partial class SoftVcpu
{
    public VcpuExit Run() => VcpuExit.Failed;

    public VcpuExit SingleStep() => VcpuExit.Failed;

    public void InjectInterrupt(byte vector) => DeliverInterrupt(vector, EventKind.ExternalInterrupt, false, 0);

    public void CommitState()
    {
        N->SetStatusFlags(S->Rflags);
        ModeChanged();
    }
}
