using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Plugins;

namespace VirtPS.Strategy.Para;

/// <summary>What the VMM keeps for one virtual processor of the domain. Its own thread changes it, except where said.</summary>
internal sealed unsafe partial class XenVcpu(XenDomain domain, IVcpuControl control)
{
    public XenDomain Domain { get; } = domain;

    public IVcpuControl Control { get; } = control;

    public IDeprivilegedVcpu Cpu { get; } = (IDeprivilegedVcpu)control.Vcpu;

    public int Index => Control.Vcpu.Index;

    /// <summary>Port by virtual interrupt; 0 where none is bound. Changed under the port table's lock.</summary>
    public uint[] VirqPorts { get; } = new uint[XenAbi.VirqCount];

    /// <summary>Host address of its vcpu_info: in the shared page, later where the guest wants it. Any thread reads it.</summary>
    public VcpuInfo* Info
    {
        get => (VcpuInfo*)Volatile.Read(ref _info);
        set => Volatile.Write(ref _info, (nint)value);
    }

    /// <summary>It sleeps in SCHEDOP_poll.</summary>
    public bool IsPolling
    {
        get => Volatile.Read(ref _polling);
        set => Volatile.Write(ref _polling, value);
    }

    private nint _info;
    private bool _polling;
}
