namespace VirtPS.Emulation;

// The vCPU's side of the lock-step run; see LockStep.
public sealed unsafe partial class SoftVcpu
{
    private LockStep? _lockStep;

    /// <summary>The lock-step run; null without.</summary>
    internal LockStep? LockStep => _lockStep;

    /// <summary>Instructions that generated code has counted since it was entered.</summary>
    internal ulong HotRetired => *_memory.Hot(VcpuMemory.RetiredOffset);

    /// <summary>Loops leave generated code after a round.</summary>
    internal void AskForAttention() => Volatile.Write(ref *(uint*)_memory.Hot(VcpuMemory.AttentionOffset), 1);

    private void EndLockStep(TranslatedExit exit)
    {
        switch (exit)
        {
            case TranslatedExit.Link:
                S->Rip = TargetOf((int)N->ExitSite);
                _lockStep!.End();
                break;
            case TranslatedExit.Indirect:
                _lockStep!.End();
                break;
            case TranslatedExit.Unpinned:
                // In the middle of a block: nothing of it is counted yet.
                Op* op = _arena!.OpAt((int)(N->ExitSite >> Relocation.SiteIndexBits));
                uint index = N->ExitSite & Relocation.SiteIndexMask;
                S->Rip = StartOf((Block*)(op - index) - 1) + (ulong)op->Offset;
                _lockStep!.Arrive((int)index);
                break;
        }
    }

    /// <summary>The write tag of an entry that has none.</summary>
    internal static ulong NoWriteTag(TlbEntry* entry, SoftVcpu cpu)
    {
        foreach (Tlb view in cpu._views)
        {
            ulong index = (ulong)((byte*)entry - (byte*)view.Entries) / 8;
            if (index < Tlb.Size)
                return Tlb.NoTag(index);
        }

        throw new InvalidOperationException("A TLB entry of no view.");
    }

    /// <summary>Whether the page of an access that writes may be written now; false: the lock-step run refuses it.</summary>
    private bool LockStepMayWrite(MappedSlot? slot, ulong offset) => _lockStep is not { IsAhead: true } l
        || (slot is { ReadOnly: false } && (Volatile.Read(ref slot.Flags[offset >> 12]) & Sdk.Memory.MemorySlot.CodeFlag) == 0 && l.MayWrite(slot.Host + offset))
        || l.Refuse();
}
