using VirtPS.Sdk.Interrupts;
using VirtPS.Sdk.Memory;
using VirtPS.Sdk.Rings;

namespace VirtPS.Sdk.Cpu;

/// <summary>What executes guest instructions: an interpreter, a translator, KVM. Thread-safe; one per machine.</summary>
public interface ICpuBackend : IDisposable
{
    /// <summary>Short name for people: <c>Interpreter</c>, <c>Translator</c>, <c>KVM</c>.</summary>
    string Tier { get; }

    BackendCapabilities Capabilities { get; }

    /// <summary>Makes an empty partition (no memory, no vCPUs). Throws <see cref="VirtException"/> with what the host refused.</summary>
    IPartition CreatePartition(PartitionOptions options);
}

/// <summary>What a backend can do, so that nobody has to know it by name.</summary>
public sealed record BackendCapabilities
{
    public required int MaxVcpus { get; init; }

    /// <summary>The partition offers its own PIC, IOAPIC, local APICs and 8254 timer (<see cref="IPartition.InterruptController"/>).</summary>
    public bool HasInterruptController { get; init; }

    /// <summary>The partition answers itself what CPUID offers of KVM's interface; else the machine does.</summary>
    public bool AnswersKvmInterface { get; init; }

    /// <summary>What ring transitions it can report.</summary>
    public required RingFidelity RingFidelity { get; init; }

    /// <summary>What guest code runs as: interpreted, translated, in non-root mode.</summary>
    public required ExecutionKind Execution { get; init; }

    /// <summary>The ring of the real processor in which guest code runs; null where it has none of its own (non-root mode).</summary>
    public int? HostRing { get; init; }

    /// <summary>The only guest TSC frequency in Hz that there can be on this host; null: any, as <see cref="PartitionOptions.TscFrequency"/> says.</summary>
    public ulong? TscFrequency { get; init; }

    /// <summary>Counts instructions exactly.</summary>
    public bool CountsInstructions { get; init; }
}

/// <summary>Everything a partition must know before its first vCPU.</summary>
public sealed record PartitionOptions
{
    public required int VcpuCount { get; init; }

    /// <summary>CPUID as the guest shall see it, before per-vCPU fields (APIC id, OSXSAVE …) are filled in.</summary>
    public required CpuidPolicy Cpuid { get; init; }

    /// <summary>Guest TSC frequency in Hz.</summary>
    public required ulong TscFrequency { get; init; }

    /// <summary>Guest-physical address width in bits, 36–52.</summary>
    public int PhysicalAddressBits { get; init; } = 40;

    /// <summary>Use the partition's own interrupt controller where it has one.</summary>
    public bool UsePartitionInterruptController { get; init; } = true;

    /// <summary>Where rate-limited remarks on odd guest behaviour go.</summary>
    public required ILog Log { get; init; }
}

/// <summary>One guest's memory map and vCPUs. Mapping calls are allowed while vCPUs run.</summary>
public interface IPartition : IDisposable
{
    PartitionOptions Options { get; }

    /// <summary>Makes <paramref name="slot"/> visible to the guest. Slots never overlap.</summary>
    void MapMemory(MemorySlot slot);

    /// <summary>Takes a slot away; on return no vCPU can reach it any more.</summary>
    void UnmapMemory(MemorySlot slot);

    /// <summary>
    /// Makes every later guest write set the dirty marks of <see cref="MemorySlot"/> again: after the marks were cleared. On return no vCPU writes
    /// through an older translation without marking.
    /// </summary>
    void RestartDirtyTracking(MemorySlot slot);

    /// <summary>Copies what the backend alone knows to be dirty (KVM's log) into the slot's marks; software backends mark as they go.</summary>
    void CollectDirty(MemorySlot slot);

    /// <summary>A device or loader wrote guest memory that holds code (called by <see cref="GuestMemory"/> before the write is observed).</summary>
    void InvalidateCode(MemorySlot slot, ulong offset, ulong length);

    /// <summary>Makes vCPU <paramref name="index"/> (0 … VcpuCount-1), in RESET state. <paramref name="host"/> is called on the vCPU's thread only.</summary>
    IVcpu CreateVcpu(int index, IVcpuHost host);

    /// <summary>The backend's own interrupt controller when it has one and <see cref="PartitionOptions.UsePartitionInterruptController"/> was set; else null.</summary>
    IPartitionInterruptController? InterruptController { get; }

    /// <summary>Takes note of guest writes without leaving guest code for the machine; null where the backend can't.</summary>
    IPartitionDoorbells? Doorbells => null;

    /// <summary>
    /// VM time has stopped and no vCPU runs: what of time the backend keeps itself (timers of its interrupt controller, a paravirtual clock) stops too, and doorbells that rang are
    /// handed on before it returns. Not on a vCPU's thread.
    /// </summary>
    void Pause()
    {
    }

    /// <summary>VM time runs and the vCPUs are about to: undoes <see cref="Pause"/>. Also before the first run and after a restore.</summary>
    void Resume()
    {
    }

    /// <summary>The machine has ended and no vCPU runs again: the backend may put away what is of use to the next one. Once, some hundred milliseconds at most; not on a vCPU's thread. Never throws.</summary>
    void Finish()
    {
    }

    /// <summary>What the backend keeps beside the vCPUs' states and its interrupt controller, while paused; null for nothing.</summary>
    byte[]? SaveState() => null;

    /// <summary>Takes over what <see cref="SaveState"/> of the same backend gave, into a partition that has not run. Throws <see cref="VirtException"/> (<c>MachineStateInvalid</c>).</summary>
    void RestoreState(ReadOnlySpan<byte> state)
    {
    }
}

/// <summary>Places that a guest writes to only to say that there is work (KVM's ioeventfd). Any thread.</summary>
public interface IPartitionDoorbells
{
    /// <summary>
    /// From now on a guest's write of <paramref name="size"/> bytes (1, 2, 4, 8) to <paramref name="address"/> does not reach <see cref="IVcpuHost"/>: <paramref name="rung"/> is called
    /// soon on a thread of the backend; several writes may become one call. Dispose to end it. Throws <see cref="VirtException"/> where the host refuses.
    /// </summary>
    /// <param name="address">Guest-physical address without memory.</param>
    /// <param name="size">Width of the write in bytes.</param>
    /// <param name="value">Only writes of this value; null: of any.</param>
    /// <param name="rung">Must return at once and never throw.</param>
    IDisposable Add(ulong address, int size, ulong? value, Action rung);
}

/// <summary>A virtual processor. Everything but <see cref="Kick"/> is called on its own thread or while it does not run.</summary>
public unsafe interface IVcpu : IDisposable
{
    int Index { get; }

    /// <summary>Lives as long as the vCPU.</summary>
    VcpuState* State { get; }

    /// <summary>
    /// Executes guest code until something that the runner must decide. Port, MMIO and MSR accesses do not return: they call the <see cref="IVcpuHost"/> in
    /// the middle of the instruction, which therefore completes exactly once. Always returns between two instructions.
    /// </summary>
    VcpuExit Run();

    /// <summary>Any thread: makes a running or about-to-run <see cref="Run"/> return soon (the caller has set <see cref="VcpuState.Requests"/> first). Cheap when the vCPU is not running.</summary>
    void Kick();

    /// <summary>Brings <see cref="State"/> up to date from the backend. Free for software backends.</summary>
    void SynchronizeState();

    /// <summary>Tells the backend that <see cref="State"/> was changed from outside: everything derived from it is recomputed.</summary>
    void CommitState();

    /// <summary>Delivers an external interrupt that the controller has acknowledged. Only right after <see cref="VcpuExit.InterruptWindow"/>.</summary>
    void InjectInterrupt(byte vector);

    /// <summary>Executes exactly one instruction (or delivers one pending event); <see cref="VcpuExit.SingleStep"/> when nothing else intervened.</summary>
    VcpuExit SingleStep();

    /// <summary>Translates a linear address as a supervisor read would, without side effects; false when not mapped.</summary>
    bool TryTranslate(ulong linear, out ulong gpa);

    /// <summary>Counters by ring and cause; written by the vCPU's thread, readable by others (torn reads are possible and harmless).</summary>
    RingCounters* Counters { get; }

    /// <summary>What the backend itself knows of exits and time; null: nothing beyond <see cref="Counters"/>. Any thread.</summary>
    VcpuStatistics? ReadStatistics() => null;

    /// <summary>
    /// Processor time in nanoseconds that the vCPU's thread has used, for backends in which a halted vCPU sleeps inside <see cref="Run"/> (a partition with its own interrupt
    /// controller); null: halts end <see cref="Run"/>. Any thread.
    /// </summary>
    ulong? ProcessorNanoseconds => null;

    /// <summary>Where ring transitions are recorded while somebody traces; null for nobody. Takes effect at the next boundary.</summary>
    RingEventBuffer? Trace { get; set; }
}

/// <summary>Exits and processor time of one vCPU as its backend knows them.</summary>
public sealed record VcpuStatistics
{
    /// <summary>Returns from guest code to this process, by the backend's own names of the reasons (KVM: <c>IO</c>, <c>MMIO</c>, <c>HLT</c> …); null: it has no names of its own.</summary>
    public required IReadOnlyDictionary<string, ulong>? Exits { get; init; }

    /// <summary>Whatever else it counts, by its own names.</summary>
    public required IReadOnlyDictionary<string, ulong> Counters { get; init; }

    /// <summary>What a software engine has done; null for hardware.</summary>
    public Rings.EngineMeasurement? Engine { get; init; }

    /// <summary>Processor time of the vCPU's thread in guest code; null where it can't be told apart.</summary>
    public TimeSpan? GuestTime { get; init; }

    /// <summary>Processor time of the vCPU's thread in the host's kernel; null where it can't be told apart.</summary>
    public TimeSpan? KernelTime { get; init; }

    /// <summary>Processor time of the vCPU's thread in this process outside guest code; null where it can't be told apart.</summary>
    public TimeSpan? VmmTime { get; init; }
}

/// <summary>Why <see cref="IVcpu.Run"/> came back.</summary>
public enum VcpuExit
{
    /// <summary><see cref="VcpuRequests.Exit"/> or <see cref="VcpuRequests.LocalApic"/> was seen.</summary>
    Kicked,

    /// <summary>An interrupt was requested and can be taken now.</summary>
    InterruptWindow,

    /// <summary>HLT retired (<see cref="VcpuState.MpState"/> is <see cref="MpState.Halted"/>). RIP is behind it.</summary>
    Halt,

    /// <summary>Triple fault; <see cref="MpState.Shutdown"/>.</summary>
    Shutdown,

    /// <summary>One instruction was executed in <see cref="IVcpu.SingleStep"/>.</summary>
    SingleStep,

    /// <summary>The backend cannot go on: see <see cref="IVcpuHost.ReportFailure"/>, which it called before.</summary>
    Failed,
}

/// <summary>
/// What a vCPU asks of its machine while it executes. Called on the vCPU's thread in mid-instruction; never throws into the backend. Implementations
/// take the machine's device lock themselves.
/// </summary>
public unsafe interface IVcpuHost
{
    /// <summary>IN and INS: reads <paramref name="count"/> items of <paramref name="size"/> (1, 2, 4) bytes from one port into <paramref name="data"/>.</summary>
    void ReadPort(ushort port, int size, byte* data, int count);

    /// <summary>OUT and OUTS.</summary>
    void WritePort(ushort port, int size, byte* data, int count);

    /// <summary>A read of 1, 2, 4 or 8 bytes at a guest-physical address without memory; never crosses an 8-byte boundary unless the device allows.</summary>
    ulong ReadMmio(ulong gpa, int size);

    void WriteMmio(ulong gpa, int size, ulong value);

    /// <summary>RDMSR of an MSR the backend does not keep itself (APIC, TSC deadline, paravirtual). False: the guest gets #GP(0).</summary>
    bool ReadMsr(uint msr, out ulong value);

    bool WriteMsr(uint msr, ulong value);

    /// <summary>CR8, the task-priority register bits 7–4.</summary>
    ulong ReadCr8();

    void WriteCr8(ulong value);

    /// <summary>The machine's TSC (see <see cref="VcpuState.TscOffset"/>).</summary>
    ulong ReadMachineTsc();

    /// <summary>RDRAND and RDSEED: bytes that nobody can guess.</summary>
    void FillRandom(Span<byte> destination);

    /// <summary>VMCALL/VMMCALL. False: the guest gets #UD.</summary>
    bool Hypercall(VcpuState* state);

    /// <summary>The backend met something it cannot continue from; the text goes into the VM's StatusReason.</summary>
    void ReportFailure(string reason);
}
