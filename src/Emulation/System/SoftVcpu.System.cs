using VirtPS.Sdk.Cpu;

namespace VirtPS.Emulation;

// What the main loop expects of the system part.
public sealed unsafe partial class SoftVcpu
{
    /// <summary>Delivers <see cref="PendingFault"/> through the IDT; RIP is that of the faulting instruction. False after a triple fault (MpState is Shutdown).</summary>
    internal bool DeliverFault() => DeliverInterrupt(PendingFault.Vector, EventKind.HardwareException, PendingFault.HasError, PendingFault.Error);

    /// <summary>Delivers an event at an instruction boundary. Faults met on the way become #DF or a triple fault here. False after a triple fault.</summary>
    internal bool DeliverInterrupt(byte vector, EventKind kind, bool hasError, uint error)
    {
        S->MpState = MpState.Shutdown;
        return false;
    }

    /// <summary>The trap after an instruction that began with RFLAGS.TF set, and pending data breakpoints: sets DR6 and delivers #DB.</summary>
    internal bool DeliverDebugTrap(bool singleStep) => true;

    /// <summary>Code breakpoints of DR0–3 at the instruction about to run (only called while <see cref="DebugActive"/>). False: #DB recorded.</summary>
    internal bool CheckInstructionBreakpoint() => true;

    /// <summary>A data access while <see cref="DebugActive"/>: remembers a hit for <see cref="DeliverDebugTrap"/>.</summary>
    internal void NoteDataAccess(ulong linear, int size, bool write)
    {
    }

    /// <summary>IOPL and the TSS's I/O bitmap (SDM Vol. 1 §19.5). False: #GP(0) recorded.</summary>
    internal bool CheckIoPermission(ushort port, int size) => true;

    /// <summary>CPUID as this vCPU sees it.</summary>
    internal CpuidResult Cpuid(uint leaf, uint subLeaf) => Partition.Options.Cpuid.Query(leaf, subLeaf);
}
