using VirtPS.Sdk.Rings;
using VirtPS.X86;

namespace VirtPS.Emulation;

// Far JMP, CALL and RET (SDM Vol. 2A JMP, CALL, RET; Vol. 3A §5.8).
public sealed unsafe partial class SoftVcpu
{
    /// <summary>Far JMP (<paramref name="call"/> false) or CALL to selector:offset. RIP is still that of the instruction, whose successor is at <paramref name="next"/>.</summary>
    internal bool FarTransfer(ushort selector, ulong offset, int opSize, bool call, ulong next)
    {
        if (SegmentsAreReal)
            return FarTransferReal(selector, offset, opSize, call, next);
        if (IsNull(selector))
            return Raise(Vector.GP, 0);
        if (!FetchDescriptor(selector, Vector.GP, out ulong d, out ulong linear))
            return false;
        return DescriptorIsSystem(d)
            ? FarTransferSystem(selector, d, linear, call, next)
            : FarTransferCode(selector, d, linear, offset, opSize, call, next);
    }

    private bool FarTransferReal(ushort selector, ulong offset, int opSize, bool call, ulong next)
    {
        if (offset > S->CS.Limit)
            return Raise(Vector.GP, 0);
        if (call)
        {
            StackCursor stack = CurrentStack();
            if (!Push(ref stack, opSize, S->CS.Selector) || !Push(ref stack, opSize, next))
                return false;
            CommitStackPointer(stack);
        }

        LoadRealSegment(SegmentName.CS, selector);
        ModeChanged();
        SetRip(offset);
        return true;
    }

    private bool FarTransferCode(ushort selector, ulong d, ulong linear, ulong offset, int opSize, bool call, ulong next)
    {
        if (!CheckDirectCode(selector, d))
            return false;
        StackCursor stack = CurrentStack();
        if (call && (!Push(ref stack, opSize, S->CS.Selector) || !Push(ref stack, opSize, next)))
            return false;
        if (!CheckCodeOffset(d, offset) || !LoadCodeSegment(selector, d, linear, S->Cpl))
            return false;
        if (call)
            CommitStackPointer(stack);
        ModeChanged();
        SetRip(offset);
        return true;
    }

    /// <summary>Privilege checks of a direct transfer: conforming code of the same or an inner ring, other code of the same ring.</summary>
    private bool CheckDirectCode(ushort selector, ulong d)
    {
        int dpl = DescriptorDpl(d);
        if (!DescriptorIsCode(d) || CodeSizeIsReserved(d))
            return RaiseSelector(Vector.GP, selector);
        if (DescriptorIsConforming(d) ? dpl > S->Cpl : (selector & 3) > S->Cpl || dpl != S->Cpl)
            return RaiseSelector(Vector.GP, selector);
        return DescriptorPresent(d) || RaiseSelector(Vector.NP, selector);
    }

    private bool FarTransferSystem(ushort selector, ulong d, ulong linear, bool call, ulong next)
    {
        uint type = DescriptorType(d);
        bool known = LongModeActive
            ? type == SystemType.CallGate
            : type is SystemType.CallGate or SystemType.CallGate16 or SystemType.TaskGate or SystemType.TssAvailable or SystemType.Tss16Available;
        if (!known)
            return RaiseSelector(Vector.GP, selector);
        if (DescriptorDpl(d) < S->Cpl || (selector & 3) > DescriptorDpl(d))
            return RaiseSelector(Vector.GP, selector);
        if (!DescriptorPresent(d))
            return RaiseSelector(Vector.NP, selector);
        TaskSwitchCause cause = call ? TaskSwitchCause.Call : TaskSwitchCause.Jump;
        return type switch
        {
            SystemType.TaskGate => SwitchThroughTaskGate(d, cause, next),
            SystemType.TssAvailable or SystemType.Tss16Available => SwitchTask(selector, d, linear, cause, next, hasError: false, error: 0),
            _ => TransferThroughCallGate(selector, d, linear, call, next),
        };
    }

    /// <summary>A call gate read from its table: 16, 32 or 64 bits.</summary>
    private readonly record struct CallGate(ushort Selector, ulong Offset, int Size, int Parameters);

    private bool ReadCallGate(ushort gateSelector, ulong d, ulong linear, out CallGate gate)
    {
        (ushort target, uint low) = GateTarget(d);
        gate = new CallGate(target, low, 4, (int)(d >> 32) & 0x1F);
        if (DescriptorType(d) == SystemType.CallGate16)
            gate = gate with { Offset = low & 0xFFFF, Size = 2 };
        if (!LongModeActive)
            return true;
        if (!FetchUpperDescriptor(gateSelector, Vector.GP, linear, out ulong upper))
            return false;
        // SDM Vol. 3A §5.8.3.1: the type field of the upper half must be zero.
        if ((upper & (0x1Ful << 40)) != 0)
            return RaiseSelector(Vector.GP, gateSelector);
        gate = gate with { Offset = low | upper << 32, Size = 8, Parameters = 0 };
        return true;
    }

    private bool TransferThroughCallGate(ushort gateSelector, ulong gateDescriptor, ulong gateLinear, bool call, ulong next)
    {
        if (!ReadCallGate(gateSelector, gateDescriptor, gateLinear, out CallGate gate))
            return false;
        if (IsNull(gate.Selector))
            return Raise(Vector.GP, 0);
        if (!FetchDescriptor(gate.Selector, Vector.GP, out ulong d, out ulong linear))
            return false;
        int dpl = DescriptorDpl(d);
        bool inner = call && !DescriptorIsConforming(d) && dpl < S->Cpl;
        if (!DescriptorIsCode(d) || dpl > S->Cpl || (!call && !DescriptorIsConforming(d) && dpl != S->Cpl))
            return RaiseSelector(Vector.GP, gate.Selector);
        if (LongModeActive && (!DescriptorIsLong(d) || DescriptorIsDefault32(d)))
            return RaiseSelector(Vector.GP, gate.Selector);
        if (!DescriptorPresent(d))
            return RaiseSelector(Vector.NP, gate.Selector);
        if (inner)
            return CallInnerRing(gate, d, linear, next);
        StackCursor stack = CurrentStack();
        stack.Long |= gate.Size == 8;
        stack.Mask = gate.Size == 8 ? ulong.MaxValue : stack.Mask;
        if (call && (!Push(ref stack, gate.Size, S->CS.Selector) || !Push(ref stack, gate.Size, next)))
            return false;
        RingMark from = MarkRing();
        if (!CheckCodeOffset(d, gate.Offset) || !LoadCodeSegment(gate.Selector, d, linear, S->Cpl))
            return false;
        if (call)
            CommitStackPointer(stack);
        ModeChanged();
        SetRip(gate.Offset);
        RecordTransfer(from, RingCause.CallGate, 0, gateSelector);
        return true;
    }

    private bool CallInnerRing(in CallGate gate, ulong d, ulong linear, ulong next)
    {
        int cpl = DescriptorDpl(d);
        if (!OpenInnerStack(cpl, gate.Size == 8, ist: 0, out StackCursor stack))
            return false;
        StackCursor old = CurrentStack();
        bool ok = Push(ref stack, gate.Size, S->SS.Selector) && Push(ref stack, gate.Size, old.Sp & (gate.Size == 8 ? ulong.MaxValue : old.Mask));
        for (int i = gate.Parameters - 1; ok && i >= 0; i--)
            ok = Peek(old, i * gate.Size, gate.Size, out ulong parameter) && Push(ref stack, gate.Size, parameter);
        if (!ok || !Push(ref stack, gate.Size, S->CS.Selector) || !Push(ref stack, gate.Size, next) || !CheckCodeOffset(d, gate.Offset))
            return false;
        RingMark from = MarkRing();
        if (!LoadCodeSegment(gate.Selector, d, linear, cpl))
            return false;
        EnterInnerStack(stack, cpl);
        ModeChanged();
        SetRip(gate.Offset);
        RecordTransfer(from, RingCause.CallGate, 0, gate.Selector);
        return true;
    }

    /// <summary>Takes SS:RSP for ring <paramref name="cpl"/> (or an interrupt-stack-table entry of long mode) from the TSS. Faults are #TS and #SS.</summary>
    private bool OpenInnerStack(int cpl, bool longMode, int ist, out StackCursor stack)
    {
        stack = default;
        uint type = S->TR.Attributes & SegmentRegister.TypeMask;
        if (longMode)
        {
            // SDM Vol. 3A figure 8-11: RSP0–2 at 4, IST1–7 at 36.
            uint at = ist != 0 ? 36 + 8 * (uint)(ist - 1) : 4 + 8 * (uint)cpl;
            if (at + 7 > S->TR.Limit)
                return RaiseSelector(Vector.TS, S->TR.Selector);
            if (!LoadLinear(S->TR.Base + at, supervisor: true, out ulong rsp))
                return false;
            stack = InnerLongStack(rsp);
            return IsCanonical(rsp) || Raise(Vector.SS, _ext);
        }

        bool tss32 = type is SystemType.TssBusy or SystemType.TssAvailable;
        uint offset = tss32 ? 4 + 8 * (uint)cpl : 2 + 4 * (uint)cpl;
        if (offset + (tss32 ? 5u : 3u) > S->TR.Limit)
            return RaiseSelector(Vector.TS, S->TR.Selector);
        if (!LoadTss(offset, tss32 ? 4 : 2, out uint sp) || !LoadTss(offset + (tss32 ? 4u : 2u), 2, out uint ss))
            return false;
        if (!CheckStackSegment((ushort)ss, cpl, Vector.TS, out SegmentRegister segment))
            return false;
        stack = InnerStack(segment, sp);
        return true;
    }

    private bool LoadTss(uint offset, int size, out uint value)
    {
        ulong linear = WrapLinear(S->TR.Base + offset);
        if (size == 4)
            return LoadLinear(linear, supervisor: true, out value);
        bool ok = LoadLinear(linear, supervisor: true, out ushort w);
        value = w;
        return ok;
    }

    /// <summary>Makes an inner stack the current one. In long mode SS becomes null with the new CPL as RPL.</summary>
    private void EnterInnerStack(in StackCursor stack, int cpl)
    {
        S->SS = stack.Long ? NullSegment((ushort)cpl, cpl) : stack.Ss;
        if (stack.Long)
            S->Gpr[(int)Gpr.Rsp] = stack.Sp;
        else
            CommitStackPointer(stack);
    }
}
