using VirtPS.Sdk.Cpu;
using VirtPS.X86;

namespace VirtPS.Emulation;

// What the main loop and other families ask of the system part.
public sealed unsafe partial class SoftVcpu
{
    /// <summary>After the state was changed from outside: what the system part keeps beside it.</summary>
    internal void SystemStateChanged()
    {
        _debugTraps = 0;
        _stepDropped = false;
        UpdateDebugActive();
    }

    /// <summary>PUSH of one item on the current stack.</summary>
    internal bool PushValue(int size, ulong value)
    {
        StackCursor stack = CurrentStack();
        if (!Push(ref stack, size, value))
            return false;
        CommitStackPointer(stack);
        return true;
    }

    /// <summary>POP of one item.</summary>
    internal bool PopValue(int size, out ulong value)
    {
        StackCursor stack = CurrentStack();
        if (!Pop(ref stack, size, out value))
            return false;
        CommitStackPointer(stack);
        return true;
    }

    /// <summary>POP Sreg: RSP moves only when the segment could be loaded. POP SS uses the old stack's width.</summary>
    internal bool PopIntoSegment(int size, SegmentName name)
    {
        StackCursor stack = CurrentStack();
        if (!Pop(ref stack, size, out ulong selector) || !LoadSegment(name, (ushort)selector))
            return false;
        CommitStackPointer(stack);
        return true;
    }

    /// <summary>IOPL and the TSS's I/O bitmap (SDM Vol. 1 §19.5). False: #GP(0) recorded.</summary>
    internal bool CheckIoPermission(ushort port, int size)
    {
        if (InProtectedMode && (S->Cpl > Iopl || InVirtual8086) && !IoBitmapAllows(port, size, out bool faulted))
            return !faulted && Raise(Vector.GP, 0);
        if (DebugActive)
            NoteIoAccess(port, size);
        return true;
    }

    private bool IoBitmapAllows(ushort port, int size, out bool faulted)
    {
        faulted = false;
        uint type = S->TR.Attributes & SegmentRegister.TypeMask;
        if (!S->TR.IsPresent || type is not (SystemType.TssBusy or SystemType.TssAvailable) || S->TR.Limit < 103)
            return false;
        faulted = true;
        if (!LoadTss(0x66, 2, out uint map))
            return false;
        uint at = map + port / 8u;
        // SDM Vol. 1 §19.5.2: two bytes are read, so one byte behind the map must be there.
        faulted = false;
        if (at + 1 > S->TR.Limit)
            return false;
        faulted = true;
        if (!LoadTss(at, 2, out uint bits))
            return false;
        faulted = false;
        return ((bits >> (port & 7)) & ((1u << size) - 1)) == 0;
    }

    /// <summary>RDTSC's value.</summary>
    internal ulong GuestTsc => Host.ReadMachineTsc() + S->TscOffset;

    /// <summary>CPUID as this vCPU sees it: the partition's table with this processor's own fields filled in.</summary>
    internal CpuidResult Cpuid(uint leaf, uint subLeaf) => CpuidModel.Complete(Partition.Options, leaf, subLeaf, S, Index);
}
