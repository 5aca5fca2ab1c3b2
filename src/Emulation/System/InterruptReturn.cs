using VirtPS.Sdk.Rings;
using VirtPS.X86;

namespace VirtPS.Emulation;

// IRET in all its forms (SDM Vol. 2A IRET/IRETD/IRETQ).
public sealed unsafe partial class SoftVcpu
{
    internal bool InterruptReturn(int opSize, ulong next)
    {
        if (opSize == 8 && TryReturnInPlace())
            return true;
        // NMIs are unblocked even when the return itself faults (SDM Vol. 3A §6.7.1).
        S->NmiBlocked = false;
        if (!InProtectedMode)
            return ReturnReal(opSize);
        if (LongModeActive)
            return (S->Rflags & Rflags.NT) != 0 ? Raise(Vector.GP, 0) : ReturnProtected(opSize);
        if (InVirtual8086)
            return ReturnInVirtual8086(opSize);
        return (S->Rflags & Rflags.NT) != 0 ? ReturnToLinkedTask(next) : ReturnProtected(opSize);
    }

    private bool PopReturnFrame(ref StackCursor stack, int opSize, out ulong rip, out ushort cs, out ulong flags)
    {
        bool ok = Pop(ref stack, opSize, out rip);
        ok = Pop(ref stack, opSize, out ulong selector) && ok;
        cs = (ushort)selector;
        flags = 0;
        return ok && Pop(ref stack, opSize, out flags);
    }

    private bool ReturnReal(int opSize)
    {
        StackCursor stack = CurrentStack();
        if (!PopReturnFrame(ref stack, opSize, out ulong rip, out ushort cs, out ulong popped))
            return false;
        if (rip > S->CS.Limit)
            return Raise(Vector.GP, 0);
        const ulong kept = Rflags.VM | Rflags.VIF | Rflags.VIP;
        ulong mask = opSize == 2 ? 0xFFFF : Rflags.Implemented & ~kept;
        FinishRealReturn(stack, cs, rip, (GetFlags() & ~mask) | (popped & mask & Rflags.Implemented));
        return true;
    }

    private void FinishRealReturn(in StackCursor stack, ushort cs, ulong rip, ulong flags)
    {
        RingMark from = MarkRing();
        CommitStackPointer(stack);
        SetReturnFlags(flags);
        LoadRealSegment(SegmentName.CS, cs);
        ModeChanged();
        SetRip(rip);
        RecordTransfer(from, RingCause.Iret, 0, 0);
    }

    /// <summary>IRET executed in virtual-8086 mode (SDM Vol. 3A §20.2.7, table 20-2).</summary>
    private bool ReturnInVirtual8086(int opSize)
    {
        bool extended = Iopl < 3;
        if (extended && ((S->Cr4 & Cr4.VME) == 0 || opSize != 2))
            return Raise(Vector.GP, 0);
        StackCursor stack = CurrentStack();
        if (!PopReturnFrame(ref stack, opSize, out ulong rip, out ushort cs, out ulong popped))
            return false;
        if (rip > S->CS.Limit)
            return Raise(Vector.GP, 0);
        ulong old = GetFlags();
        ulong mask = Rflags.Status | Rflags.TF | Rflags.DF | Rflags.NT | (extended ? 0 : Rflags.IF);
        if (opSize == 4)
            mask |= Rflags.RF | Rflags.AC | Rflags.ID;
        ulong flags = (old & ~mask) | (popped & mask);
        if (extended)
        {
            if ((popped & Rflags.TF) != 0 || ((popped & Rflags.IF) != 0 && (old & Rflags.VIP) != 0))
                return Raise(Vector.GP, 0);
            flags = (popped & Rflags.IF) != 0 ? flags | Rflags.VIF : flags & ~Rflags.VIF;
        }

        FinishRealReturn(stack, cs, rip, flags);
        return true;
    }

    private bool ReturnProtected(int opSize)
    {
        StackCursor stack = CurrentStack();
        if (!PopReturnFrame(ref stack, opSize, out ulong rip, out ushort cs, out ulong popped))
            return false;
        if (opSize == 4 && (popped & Rflags.VM) != 0 && S->Cpl == 0 && !LongModeActive)
            return ReturnToVirtual8086(ref stack, rip, cs, popped);
        if (!CheckReturnCode(cs, out ulong d, out ulong linear))
            return false;
        ulong flags = MergeReturnFlags(popped, opSize);
        RingMark from = MarkRing();
        bool sameRing = (cs & 3) == S->Cpl;
        if (sameRing && !In64BitMode)
        {
            if (!CheckCodeOffset(d, rip) || !LoadCodeSegment(cs, d, linear, S->Cpl))
                return false;
            CommitStackPointer(stack);
        }
        else if (!ReturnToOuterRing(ref stack, opSize, cs, d, linear, rip, release: 0))
        {
            return false;
        }

        SetReturnFlags(flags);
        ModeChanged();
        SetRip(rip);
        RecordTransfer(from, RingCause.Iret, 0, 0);
        if (opSize == 8 && sameRing && In64BitMode)
            NoteReturn();
        return true;
    }

    /// <summary>What an IRET at the present CPL may change.</summary>
    private ulong MergeReturnFlags(ulong popped, int opSize)
    {
        ulong mask = Rflags.Status | Rflags.TF | Rflags.DF | Rflags.NT;
        if (opSize >= 4)
            mask |= Rflags.RF | Rflags.AC | Rflags.ID;
        if (S->Cpl <= Iopl)
            mask |= Rflags.IF;
        if (S->Cpl == 0)
            mask |= Rflags.IoplMask | (opSize >= 4 ? Rflags.VIF | Rflags.VIP : 0);
        return (GetFlags() & ~mask) | (popped & mask);
    }

    private bool ReturnToVirtual8086(ref StackCursor stack, ulong rip, ushort cs, ulong popped)
    {
        if (!Pop(ref stack, 4, out ulong esp) || !Pop(ref stack, 4, out ulong ss) || !Pop(ref stack, 4, out ulong es)
            || !Pop(ref stack, 4, out ulong ds) || !Pop(ref stack, 4, out ulong fs) || !Pop(ref stack, 4, out ulong gs))
            return false;
        if (rip > 0xFFFF)
            return Raise(Vector.GP, 0);
        RingMark from = MarkRing();
        SetReturnFlags(popped & Rflags.Implemented);
        S->CS = Virtual8086Segment(cs);
        S->SS = Virtual8086Segment((ushort)ss);
        S->ES = Virtual8086Segment((ushort)es);
        S->DS = Virtual8086Segment((ushort)ds);
        S->FS = Virtual8086Segment((ushort)fs);
        S->GS = Virtual8086Segment((ushort)gs);
        S->Gpr[(int)Gpr.Rsp] = esp;
        S->Cpl = 3;
        ModeChanged();
        SetRip(rip);
        RecordTransfer(from, RingCause.Iret, 0, 0);
        return true;
    }

    /// <summary>
    /// RF matters to instruction breakpoints alone; without any it is dropped here, so that it need not be cleared after the next instruction.
    /// </summary>
    private void SetReturnFlags(ulong flags) => SetFlags(DebugActive ? flags : flags & ~Rflags.RF);
}
