using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Interrupts;
using VirtPS.Sdk.Memory;

namespace VirtPS.Emulation;

/// <summary>One guest's memory map and vCPUs, in software.</summary>
public sealed unsafe class SoftPartition : IPartition
{
    internal SoftPartition(PartitionOptions options) => Options = options;

    public PartitionOptions Options { get; }

    public IPartitionInterruptController? InterruptController => null;

    public void MapMemory(MemorySlot slot)
    {
    }

    public void UnmapMemory(MemorySlot slot)
    {
    }

    public void RestartDirtyTracking(MemorySlot slot)
    {
    }

    /// <summary>The interpreter marks as it writes; nothing to collect.</summary>
    public void CollectDirty(MemorySlot slot)
    {
    }

    public void InvalidateCode(MemorySlot slot, ulong offset, ulong length)
    {
    }

    public IVcpu CreateVcpu(int index, IVcpuHost host) => new SoftVcpu(this, index, host);

    internal void Remove(SoftVcpu vcpu)
    {
    }

    public void Dispose()
    {
    }
}
