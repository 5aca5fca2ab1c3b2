using System.Runtime.InteropServices;
using VirtPS.Engine.Host;
using VirtPS.Sdk.Memory;
using VirtPS.X86;

namespace VirtPS.Engine.Enlightenments;

/// <summary>
/// Time in which the vCPU could have run and its thread had no processor, as the host's scheduler counts it, and whether it runs at all (msr.rst, MSR_KVM_STEAL_TIME). That the host took the
/// processor away in mid-run can't be seen from here; a halted vCPU is told as preempted.
/// </summary>
internal sealed unsafe class StealTime(GuestMemory memory)
{
    /// <summary>How often the guest's record is brought up to date, at most.</summary>
    private const ulong Interval = 2_000_000;

    private const int PreemptedOffset = 16;

    private HostRunDelay? _delay;
    private ulong _last;
    private ulong _updated;
    private bool _isFresh;

    public ulong Msr { get; private set; }

    private bool IsEnabled => (Msr & KvmInterface.Enabled) != 0;

    private ulong Address => Msr & ~KvmInterface.Enabled;

    public void Begin(HostRunDelay? delay) => _delay = delay;

    public void End() => _delay?.Dispose();

    /// <summary>Counting begins at the next entry: what was stolen before is not the guest's loss.</summary>
    public void Set(ulong value) => (Msr, _isFresh) = (value, true);

    public void Resumed() => _isFresh = true;

    /// <param name="now">Host nanoseconds.</param>
    public void Update(ulong now)
    {
        if (!IsEnabled || _delay is null || (!_isFresh && now - _updated < Interval))
            return;
        ulong total = _delay.Read();
        ulong stolen = _isFresh ? 0 : total - _last;
        (_last, _updated, _isFresh) = (total, now, false);
        if (stolen == 0 || !memory.TryLease(Address, KvmInterface.StealTimeSize, writable: true, out MemoryLease lease))
            return;
        using (lease)
        {
            ref Record record = ref MemoryMarshal.AsRef<Record>(lease.Span);
            // Odd while it changes.
            uint version = record.Version | 1;
            Volatile.Write(ref record.Version, version);
            record.Steal += stolen;
            Volatile.Write(ref record.Version, version + 1);
        }
    }

    public void SetPreempted() => Exchange(KvmInterface.Preempted);

    /// <summary>True when a TLB flush was left to it.</summary>
    public bool ClearPreempted() => (Exchange(0) & KvmInterface.FlushTlb) != 0;

    /// <summary>Other vCPUs change the byte at the same time, with a compare-exchange.</summary>
    private byte Exchange(byte value)
    {
        if (!IsEnabled || !memory.TryLease(Address, KvmInterface.StealTimeSize, writable: true, out MemoryLease lease))
            return 0;
        using (lease)
            return Interlocked.Exchange(ref lease.Span[PreemptedOffset], value);
    }

    /// <summary>struct kvm_steal_time, as far as it is used.</summary>
    [StructLayout(LayoutKind.Explicit, Size = KvmInterface.StealTimeSize)]
    private struct Record
    {
        [FieldOffset(0)] public ulong Steal;
        [FieldOffset(8)] public uint Version;
    }
}
