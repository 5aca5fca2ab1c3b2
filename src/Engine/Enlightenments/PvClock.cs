using System.Runtime.InteropServices;
using VirtPS.Sdk.Memory;
using VirtPS.X86;

namespace VirtPS.Engine.Enlightenments;

/// <summary>
/// kvmclock of one vCPU: a record from which the guest computes VM time out of its TSC (msr.rst, MSR_KVM_SYSTEM_TIME_NEW). The machine's TSC is a fixed multiple of VM time, so every vCPU's
/// record pairs machine TSC 0 with VM time 0: all vCPUs agree to the tick, and the record is written anew only when the vCPU's own TSC offset changes.
/// </summary>
internal sealed class PvClock
{
    private readonly GuestMemory _memory;
    private readonly uint _multiplier;
    private readonly sbyte _shift;
    private ulong _written;
    private bool _isWritten;
    private bool _stopped;

    public PvClock(GuestMemory memory, ulong tscFrequency) => (_memory, (_multiplier, _shift)) = (memory, Scale(tscFrequency));

    /// <summary>MSR_KVM_SYSTEM_TIME_NEW.</summary>
    public ulong Msr { get; private set; }

    public void Set(ulong value) => (Msr, _isWritten, _stopped) = (value, false, false);

    /// <summary>The guest is told once that it stood still.</summary>
    public void SetStopped() => (_stopped, _isWritten) = (true, false);

    /// <param name="tscOffset">The vCPU's TSC minus the machine's.</param>
    public void Follow(ulong tscOffset)
    {
        if ((Msr & KvmInterface.Enabled) == 0 || (_isWritten && _written == tscOffset))
            return;
        (_written, _isWritten) = (tscOffset, true);
        if (!_memory.TryLease(Msr & ~KvmInterface.Enabled, KvmInterface.SystemTimeSize, writable: true, out MemoryLease lease))
            return;
        using (lease)
        {
            ref Record record = ref MemoryMarshal.AsRef<Record>(lease.Span);
            // Odd while it changes.
            uint version = record.Version | 1;
            Volatile.Write(ref record.Version, version);
            (record.TscTimestamp, record.SystemTime, record.Multiplier, record.Shift) = (tscOffset, 0, _multiplier, _shift);
            record.Flags = (byte)(KvmInterface.TscStable | (_stopped ? KvmInterface.GuestStopped : 0));
            Volatile.Write(ref record.Version, version + 1);
        }

        _stopped = false;
    }

    /// <summary>Multiplier and shift with which nanoseconds = (ticks shifted left by shift) × multiplier ÷ 2³²; the multiplier has its top bit set, and errs by less than 2⁻³¹.</summary>
    internal static (uint Multiplier, sbyte Shift) Scale(ulong frequency)
    {
        const ulong Billion = 1_000_000_000;
        sbyte shift = 0;
        UInt128 scaled = frequency;
        // Between one and two ticks per nanosecond.
        for (; scaled > 2 * (UInt128)Billion; shift--)
            scaled >>= 1;
        for (; scaled <= Billion; shift++)
            scaled <<= 1;
        // From the frequency itself: bits shifted out above would be lost.
        UInt128 ticks = shift >= 0 ? (UInt128)frequency << shift : frequency;
        UInt128 nanoseconds = shift >= 0 ? (UInt128)Billion << 32 : ((UInt128)Billion << 32) << -shift;
        return ((uint)(nanoseconds / ticks), shift);
    }

    /// <summary>struct pvclock_vcpu_time_info.</summary>
    [StructLayout(LayoutKind.Explicit, Size = KvmInterface.SystemTimeSize)]
    private struct Record
    {
        [FieldOffset(0)] public uint Version;
        [FieldOffset(8)] public ulong TscTimestamp;
        [FieldOffset(16)] public ulong SystemTime;
        [FieldOffset(24)] public uint Multiplier;
        [FieldOffset(28)] public sbyte Shift;
        [FieldOffset(29)] public byte Flags;
    }
}
