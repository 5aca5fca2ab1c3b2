using VirtPS.Sdk.Rings;
using VirtPS.X86;

namespace VirtPS.Emulation;

// Far RET, and the way to an outer ring that it shares with IRET (SDM Vol. 2B RET).
public sealed unsafe partial class SoftVcpu
{
    /// <summary>RETF with <paramref name="release"/> bytes of parameters to drop.</summary>
    internal bool FarReturn(int opSize, int release)
    {
        StackCursor stack = CurrentStack();
        if (!Pop(ref stack, opSize, out ulong rip) || !Pop(ref stack, opSize, out ulong cs))
            return false;
        var selector = (ushort)cs;
        if (SegmentsAreReal)
        {
            if (rip > S->CS.Limit)
                return Raise(Vector.GP, 0);
            stack.Move(release);
            CommitStackPointer(stack);
            LoadRealSegment(SegmentName.CS, selector);
            ModeChanged();
            SetRip(rip);
            return true;
        }

        if (!CheckReturnCode(selector, out ulong d, out ulong linear))
            return false;
        stack.Move(release);
        RingMark from = MarkRing();
        if ((selector & 3) == S->Cpl)
        {
            if (!CheckCodeOffset(d, rip) || !LoadCodeSegment(selector, d, linear, S->Cpl))
                return false;
            CommitStackPointer(stack);
            ModeChanged();
        }
        else if (!ReturnToOuterRing(ref stack, opSize, selector, d, linear, rip, release))
        {
            return false;
        }

        SetRip(rip);
        RecordTransfer(from, RingCause.FarReturn, 0, selector);
        return true;
    }

    /// <summary>Checks on the CS selector that a far return or IRET popped.</summary>
    private bool CheckReturnCode(ushort selector, out ulong d, out ulong linear)
    {
        (d, linear) = (0, 0);
        if (IsNull(selector))
            return Raise(Vector.GP, 0);
        if (!FetchDescriptor(selector, Vector.GP, out d, out linear))
            return false;
        int rpl = selector & 3;
        if (!DescriptorIsCode(d) || rpl < S->Cpl || CodeSizeIsReserved(d))
            return RaiseSelector(Vector.GP, selector);
        if (DescriptorIsConforming(d) ? DescriptorDpl(d) > rpl : DescriptorDpl(d) != rpl)
            return RaiseSelector(Vector.GP, selector);
        return DescriptorPresent(d) || RaiseSelector(Vector.NP, selector);
    }

    /// <summary>Pops SS:RSP and loads CS, SS, CPL for the ring in <paramref name="selector"/>; then nulls what that ring may not use. RIP and flags are the caller's.</summary>
    private bool ReturnToOuterRing(ref StackCursor stack, int opSize, ushort selector, ulong d, ulong linear, ulong rip, int release)
    {
        if (!Pop(ref stack, opSize, out ulong sp) || !Pop(ref stack, opSize, out ulong ss))
            return false;
        int cpl = selector & 3;
        bool to64 = LongModeActive && DescriptorIsLong(d);
        if (!CheckOuterStackSegment((ushort)ss, cpl, to64, out SegmentRegister segment) || !CheckCodeOffset(d, rip)
            || !LoadCodeSegment(selector, d, linear, cpl))
            return false;
        S->SS = segment;
        if (to64)
        {
            S->Gpr[(int)Gpr.Rsp] = sp + (ulong)release;
        }
        else
        {
            // A 16-bit stack takes only SP; the upper bits of ESP stay those of the inner stack (SDM Vol. 3A §6.14.3 does not hide this).
            ulong mask = StackMask(segment);
            ulong old = S->Gpr[(int)Gpr.Rsp];
            ulong moved = (sp + (ulong)release) & mask;
            S->Gpr[(int)Gpr.Rsp] = mask == 0xFFFF ? (old & 0xFFFF_0000) | moved : moved;
        }

        NullInaccessibleDataSegments();
        ModeChanged();
        return true;
    }

    private bool CheckOuterStackSegment(ushort selector, int cpl, bool to64, out SegmentRegister segment)
    {
        if (IsNull(selector) && to64 && cpl != 3 && (selector & 3) == cpl)
        {
            segment = NullSegment(selector, cpl);
            return true;
        }

        return CheckStackSegment(selector, cpl, Vector.GP, out segment);
    }
}
