using VirtPS.Sdk.Rings;

namespace VirtPS.Sdk.Cpu;

/// <summary>What a <see cref="IGuestSupervisor"/> has changed besides general registers.</summary>
[Flags]
public enum SupervisorEffect
{
    None = 0,

    /// <summary><see cref="VcpuState.Rip"/>: not the one that the supervisor was called with.</summary>
    Rip = 1,

    /// <summary>Status flags in <see cref="VcpuState.Rflags"/>.</summary>
    Flags = 2,

    /// <summary>CS, SS, a segment's base, CR3, RFLAGS outside the status flags, <see cref="VcpuState.GuestKernel"/>, CR4, a debug register or <see cref="VcpuState.MpState"/>.</summary>
    Mode = 4,

    All = Rip | Flags | Mode,
}

/// <summary>An exception or software interrupt of a deprivileged guest. RIP is at the instruction, or behind it for software interrupts and traps; CR2 is set.</summary>
public readonly record struct GuestTrap(byte Vector, EventKind Kind, bool HasErrorCode, uint ErrorCode)
{
    /// <summary>INT n, INT3, INTO: the gate's privilege is checked.</summary>
    public bool IsSoftware => Kind is EventKind.SoftwareInterrupt or EventKind.SoftwareException;

    /// <summary>For software interrupts: RIP of the instruction itself, which faults have to show.</summary>
    public ulong InstructionRip { get; init; }
}

/// <summary>
/// The VMM's side of one vCPU whose guest kernel runs in ring 3 (Xen PV): it gets what would enter ring 0. Called on the vCPU's thread, in guest context: it must not block
/// outside <see cref="IDeprivilegedVcpu.BeginWait"/>. An exception is a defect of its own and ends the machine. The state is up to date, status flags included; it changes the state and says what it has changed.
/// </summary>
public unsafe interface IGuestSupervisor
{
    /// <summary>SYSCALL in any mode; <see cref="VcpuState.Rip"/> is behind it. The fast path of every hypercall: a direct call, no allocation.</summary>
    SupervisorEffect SystemCall(VcpuState* state);

    /// <summary>Any exception or INT n. What cannot be delivered sets <see cref="VcpuState.MpState"/> to <see cref="MpState.Shutdown"/>.</summary>
    SupervisorEffect Trap(VcpuState* state, in GuestTrap trap);

    /// <summary><see cref="VcpuRequests.Interrupt"/> was seen (and cleared) between two instructions.</summary>
    SupervisorEffect Event(VcpuState* state);
}

/// <summary>A vCPU that can run a guest kernel in ring 3 under a <see cref="IGuestSupervisor"/>.</summary>
public unsafe interface IDeprivilegedVcpu : IVcpu
{
    /// <summary>Set before the vCPU runs; null: the processor's own rules.</summary>
    IGuestSupervisor? Supervisor { get; set; }

    /// <summary>
    /// Host address of guest memory at a linear address of the guest kernel's address space (CR3 now, kernel view), within one page; null where the tables do not allow it or there is no
    /// memory. A write marks the page dirty and drops code made from it. Valid until the supervisor returns or begins to wait. For the supervisor only.
    /// </summary>
    byte* GuestPointer(ulong linear, int size, bool write);

    /// <summary>Drops all translations of this vCPU, of the kernel's and the user's address space.</summary>
    void FlushTranslations();

    /// <summary>
    /// The same where no executable page of the kernel's upper half is mapped otherwise than at the last <see cref="FlushTranslations"/>: what leads from code to code there may be kept. A backend
    /// that has nothing of the kind drops everything.
    /// </summary>
    void FlushTranslationsKeepingCode() => FlushTranslations();

    /// <summary>
    /// Drops this vCPU's translations but those of the kernel's upper half (addresses with bit 63 set): for a change of page tables that share it, where nothing of it has changed since all was
    /// dropped last. Code that is linked across pages there stays linked.
    /// </summary>
    void FlushLowerHalf();

    /// <summary>Drops the translations of one page in both address spaces.</summary>
    void FlushTranslation(ulong linear);

    /// <summary>Drops all translations of the vCPUs in <paramref name="vcpus"/> (bit = index); on return none of them uses an old one.</summary>
    void FlushOthers(ulong vcpus);

    /// <summary>On return no vCPU writes the page of guest-physical memory through a translation made before.</summary>
    void RevokeWrites(ulong gpa);

    /// <summary>The supervisor may block now (a lock, a device): others do not wait for this vCPU. Returns what <see cref="EndWait"/> needs.</summary>
    int BeginWait();

    void EndWait(int token);

    /// <summary>CPUID as this vCPU answers it.</summary>
    CpuidResult Cpuid(uint leaf, uint subLeaf);

    /// <summary>The guest's time-stamp counter.</summary>
    ulong GuestTsc { get; }

    /// <summary>
    /// Counts and, while somebody traces, records a transfer that the supervisor has carried out. Rings are the guest's (<see cref="VcpuState.GuestKernel"/>: 0, else 3); a hypercall is a
    /// transfer to ring -1: <see cref="RecordHypercall"/>.
    /// </summary>
    void RecordTransfer(ulong fromRip, int fromRing, RingCause cause, int vector, ulong detail);

    /// <summary>Counts and, while somebody traces, records a hypercall with its first two arguments.</summary>
    void RecordHypercall(ulong fromRip, int number, ulong first, ulong second);
}
