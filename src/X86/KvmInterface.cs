namespace VirtPS.X86;

/// <summary>
/// What a guest finds that runs on KVM and knows it: CPUID leaves, model-specific registers, hypercalls, and the records that they share with the guest
/// (Linux, Documentation/virt/kvm/x86/cpuid.rst, msr.rst, hypercalls.rst).
/// </summary>
public static class KvmInterface
{
    /// <summary>EAX the highest leaf, EBX, ECX, EDX "KVMKVMKVM" and three zero bytes.</summary>
    public const uint SignatureLeaf = 0x4000_0000;

    /// <summary>EAX <see cref="KvmFeatures"/>, EDX hints.</summary>
    public const uint FeaturesLeaf = 0x4000_0001;

    public const uint SignatureEbx = 0x4B4D_564B, SignatureEcx = 0x564B_4D56, SignatureEdx = 0x4D;

    /// <summary>Model-specific registers: wall clock, system time, asynchronous page faults, steal time, end of interrupt, polling, asynchronous page fault vector and acknowledgement.</summary>
    public const uint WallClock = 0x4B56_4D00, SystemTime = 0x4B56_4D01, AsyncPageFault = 0x4B56_4D02, StealTime = 0x4B56_4D03, PvEoi = 0x4B56_4D04, PollControl = 0x4B56_4D05,
        AsyncPageFaultVector = 0x4B56_4D06, AsyncPageFaultAcknowledge = 0x4B56_4D07;

    /// <summary>First and last register number of the range.</summary>
    public const uint FirstMsr = WallClock, LastMsr = 0x4B56_4DFF;

    /// <summary>Bit 0 of the registers that hold an address.</summary>
    public const ulong Enabled = 1;

    /// <summary>Hypercall numbers: RAX; arguments RBX, RCX, RDX, RSI; result RAX.</summary>
    public const uint VapicPollIrq = 1, KickCpu = 5, ClockPairing = 9, SendIpi = 10, SchedYield = 11;

    /// <summary>Results of hypercalls, negated.</summary>
    public const int NotPermitted = 1, InvalidArgument = 22, NotSupported = 95, NoSuchCall = 1000;

    /// <summary>Bytes of the system time record, of the wall clock record, of the steal time record (and its alignment), of the end-of-interrupt word.</summary>
    public const int SystemTimeSize = 32, WallClockSize = 12, StealTimeSize = 64, PvEoiSize = 4;

    /// <summary>Flags of the system time record: all processors' TSCs agree; the guest was stopped.</summary>
    public const byte TscStable = 1, GuestStopped = 2;

    /// <summary>Bits of the steal time record's byte <c>preempted</c>: does not run; is to flush its TLB before it does.</summary>
    public const byte Preempted = 1, FlushTlb = 2;
}

/// <summary>EAX of leaf <see cref="KvmInterface.FeaturesLeaf"/>.</summary>
[Flags]
public enum KvmFeatures : uint
{
    None = 0,
    OldClock = 1 << 0,
    NoIoDelay = 1 << 1,
    Clock = 1 << 3,
    AsyncPageFault = 1 << 4,
    StealTime = 1 << 5,
    PvEoi = 1 << 6,
    PvUnhalt = 1 << 7,
    PvTlbFlush = 1 << 9,
    AsyncPageFaultVmExit = 1 << 10,
    PvSendIpi = 1 << 11,
    PollControl = 1 << 12,
    PvSchedYield = 1 << 13,
    AsyncPageFaultInterrupt = 1 << 14,
    ExtendedDestination = 1 << 15,
    MapGpaRange = 1 << 16,
    MigrationControl = 1 << 17,
    ClockStable = 1 << 24,
}
