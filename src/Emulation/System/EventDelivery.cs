using VirtPS.Sdk;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Rings;
using VirtPS.X86;

namespace VirtPS.Emulation;

/// <summary>An event on its way through the IDT.</summary>
internal readonly record struct GuestEvent(byte Vector, EventKind Kind, bool HasError, uint Error)
{
    /// <summary>INT n, INT3 and INTO: the gate's DPL is checked and error codes carry no EXT.</summary>
    public bool IsSoftware => Kind is EventKind.SoftwareInterrupt or EventKind.SoftwareException;

    public RingCause Cause => Kind switch
    {
        EventKind.ExternalInterrupt => RingCause.Interrupt,
        EventKind.Nmi => RingCause.Nmi,
        EventKind.SoftwareInterrupt => RingCause.SoftwareInterrupt,
        _ => RingCause.Exception,
    };
}

// Delivery of interrupts and exceptions (SDM Vol. 3A chapter 6).
public sealed unsafe partial class SoftVcpu
{
    /// <summary>How exceptions combine when one is met while another is delivered (SDM Vol. 3A table 6-4).</summary>
    private enum ExceptionClass
    {
        Benign,
        Contributory,
        PageFault,
        DoubleFault,
    }

    private static ExceptionClass ClassOf(int vector) => vector switch
    {
        Vector.DE or Vector.TS or Vector.NP or Vector.SS or Vector.GP or Vector.CP => ExceptionClass.Contributory,
        Vector.PF => ExceptionClass.PageFault,
        Vector.DF => ExceptionClass.DoubleFault,
        _ => ExceptionClass.Benign,
    };

    /// <summary>Delivers <see cref="PendingFault"/> through the IDT; RIP is that of the faulting instruction. False after a triple fault (MpState is Shutdown).</summary>
    internal bool DeliverFault()
    {
        Fault f = PendingFault;
        if (f.Vector == Vector.PF)
        {
            S->Cr2 = f.Cr2;
            Counters->PageFaults++;
        }

        return DeliverInterrupt(f.Vector, EventKind.HardwareException, f.HasError, f.Error);
    }

    /// <summary>Delivers an event at an instruction boundary. Faults met on the way become #DF or a triple fault here. False after a triple fault.</summary>
    internal bool DeliverInterrupt(byte vector, EventKind kind, bool hasError, uint error)
    {
        var e = new GuestEvent(vector, kind, hasError, error);
        if (_supervisor is { } supervisor)
        {
            bool delivered = SupervisorTrap(supervisor, e, S->Rip);
            N->RipSet = 0;
            return delivered;
        }

        while (!TryDeliver(e, S->Rip))
        {
            Fault second = PendingFault;
            // Also where it becomes a double fault: handlers of stack overflow look at it.
            if (second.Vector == Vector.PF)
                S->Cr2 = second.Cr2;
            if (!Combine(e, second, out e))
            {
                EnterShutdown(vector, second);
                return false;
            }
        }

        // RIP was set between two instructions: there is none whose length could be added.
        N->RipSet = 0;
        return true;
    }

    /// <summary>SDM Vol. 3A table 6-5. False: triple fault.</summary>
    private static bool Combine(in GuestEvent first, in Fault second, out GuestEvent next)
    {
        ExceptionClass a = first.Kind == EventKind.HardwareException ? ClassOf(first.Vector) : ExceptionClass.Benign;
        ExceptionClass b = ClassOf(second.Vector);
        next = new GuestEvent(second.Vector, EventKind.HardwareException, second.HasError, second.Error);
        if (a == ExceptionClass.DoubleFault)
            return false;
        bool doubles = b != ExceptionClass.Benign
            && ((a == ExceptionClass.Contributory && b == ExceptionClass.Contributory) || a == ExceptionClass.PageFault);
        if (doubles)
            next = new GuestEvent(Vector.DF, EventKind.HardwareException, true, 0);
        return true;
    }

    private void EnterShutdown(byte first, in Fault last)
    {
        S->MpState = MpState.Shutdown;
        LeaveBlock();
        if (Partition.Options.Log.IsEnabled(LogLevel.Warning))
        {
            Partition.Options.Log.Write(LogLevel.Warning,
                $"vCPU {Index}: triple fault at RIP 0x{S->Rip:X}, CS 0x{S->CS.Selector:X4}, CPL {S->Cpl}: {Vector.Mnemonic(first) ?? $"vector {first}"}, " +
                $"last {Vector.Mnemonic(last.Vector) ?? $"vector {last.Vector}"}(0x{last.Error:X}), CR2 0x{S->Cr2:X}.");
        }
    }

    /// <summary>INT n, INT3, INTO and INT1 from their handlers: a fault on the way is recorded and is the instruction's.</summary>
    internal bool DeliverSoftware(byte vector, EventKind kind, ulong next)
    {
        bool stepping = (S->Rflags & Rflags.TF) != 0;
        if (_supervisor is { } supervisor)
            SupervisorTrap(supervisor, new GuestEvent(vector, kind, false, 0), next);
        else if (!TryDeliver(new GuestEvent(vector, kind, false, 0), next))
            return false;
        // SDM Vol. 3B §17.3.1.4: INT n clears TF, and with it its own single-step trap.
        _stepDropped = stepping;
        return true;
    }

    /// <summary>One attempt. Nothing but memory below the stack pointer has changed when it fails.</summary>
    private bool TryDeliver(in GuestEvent e, ulong returnRip)
    {
        _ext = e.IsSoftware ? 0u : 1u;
        bool ok = !InProtectedMode ? DeliverReal(e, returnRip) : LongModeActive ? DeliverLong(e, returnRip) : DeliverProtected(e, returnRip);
        _ext = 0;
        if (!ok)
            return false;
        S->InterruptShadow = InterruptShadow.None;
        if (S->MpState == MpState.Halted)
            S->MpState = MpState.Runnable;
        if (e.Kind == EventKind.Nmi)
            S->NmiBlocked = true;
        else if (e.Kind == EventKind.HardwareException)
            FinishException(e.Vector);
        return true;
    }

    private void FinishException(byte vector)
    {
        // SDM Vol. 3A §17.2.4: the #DB handler starts with general detect off.
        if (vector == Vector.DB)
            S->Dr7 &= ~Dr7GeneralDetect;
        DropDebugTrap();
    }

    /// <summary>RFLAGS as pushed. Faults set RF, so that the instruction is not stopped at again (SDM Vol. 3A §17.3.1.1); debug exceptions and traps do not.</summary>
    private ulong FlagsImage(in GuestEvent e)
    {
        ulong flags = GetFlags();
        bool fault = e.Kind == EventKind.HardwareException && e.Vector is not (Vector.DB or Vector.DF or Vector.MC or Vector.BP or Vector.OF);
        return fault ? flags | Rflags.RF : flags;
    }

    private static uint IdtError(int vector, uint ext) => ((uint)vector << 3) | 2 | ext;

    private ulong EventDetail(in GuestEvent e) => e.Kind == EventKind.SoftwareInterrupt ? S->Gpr[(int)Gpr.Rax] : e.Error;

    /// <summary>Through the interrupt vector table: four bytes each, no error codes (SDM Vol. 3A §20.1.4).</summary>
    private bool DeliverReal(in GuestEvent e, ulong returnRip)
    {
        if (e.Vector * 4u + 3 > S->Idtr.Limit)
            return Raise(Vector.GP, IdtError(e.Vector, _ext));
        if (!LoadLinear(WrapLinear(S->Idtr.Base + e.Vector * 4u), supervisor: true, out uint entry))
            return false;
        StackCursor stack = CurrentStack();
        ulong flags = GetFlags();
        if (!Push(ref stack, 2, flags) || !Push(ref stack, 2, S->CS.Selector) || !Push(ref stack, 2, returnRip))
            return false;
        RingMark from = MarkRing();
        CommitStackPointer(stack);
        SetFlags(flags & ~(Rflags.IF | Rflags.TF | Rflags.AC | Rflags.RF));
        LoadRealSegment(SegmentName.CS, (ushort)(entry >> 16));
        ModeChanged();
        SetRip(entry & 0xFFFF);
        RecordTransfer(from, e.Cause, e.Vector, EventDetail(e));
        return true;
    }

    /// <summary>Through a gate of protected mode: interrupt, trap or task gate, 16 or 32 bits (SDM Vol. 3A §6.12.1, §20.3).</summary>
    private bool DeliverProtected(in GuestEvent e, ulong returnRip)
    {
        if (e.Vector * 8u + 7 > S->Idtr.Limit)
            return Raise(Vector.GP, IdtError(e.Vector, _ext));
        if (!LoadLinear(WrapLinear(S->Idtr.Base + e.Vector * 8u), supervisor: true, out ulong gate))
            return false;
        uint type = DescriptorType(gate);
        bool known = DescriptorIsSystem(gate) && type is SystemType.TaskGate or SystemType.InterruptGate16 or SystemType.TrapGate16
            or SystemType.InterruptGate or SystemType.TrapGate;
        if (!known || (e.IsSoftware && DescriptorDpl(gate) < S->Cpl))
            return Raise(Vector.GP, IdtError(e.Vector, _ext));
        if (!DescriptorPresent(gate))
            return Raise(Vector.NP, IdtError(e.Vector, _ext));
        if (type == SystemType.TaskGate)
            return SwitchThroughTaskGate(gate, TaskSwitchCause.Interrupt, returnRip, e.HasError, e.Error);
        if (!CheckGateCode(gate, requireLong: false, out ushort selector, out ulong d, out ulong linear, out int cpl))
            return false;
        int size = (type & 8) != 0 ? 4 : 2;
        (_, uint offset) = GateTarget(gate);
        ulong target = size == 4 ? offset : offset & 0xFFFF;
        ulong flags = FlagsImage(e);
        bool fromVm86 = InVirtual8086;
        if (!PushProtectedFrame(e, size, flags, returnRip, cpl, fromVm86, out StackCursor stack) || !CheckCodeOffset(d, target))
            return false;
        RingMark from = MarkRing();
        bool inner = cpl != S->Cpl;
        if (!LoadCodeSegment(selector, d, linear, cpl))
            return false;
        if (inner)
            EnterInnerStack(stack, cpl);
        else
            CommitStackPointer(stack);
        if (fromVm86)
            S->ES = S->DS = S->FS = S->GS = NullSegment(0);
        EnterHandler(from, e, flags, (type & 1) == 0, target);
        return true;
    }

    /// <summary>The handler's code segment: its ring is the DPL, or the present one for conforming code.</summary>
    private bool CheckGateCode(ulong gate, bool requireLong, out ushort selector, out ulong d, out ulong linear, out int cpl)
    {
        (selector, _) = GateTarget(gate);
        (d, linear, cpl) = (0, 0, S->Cpl);
        if (IsNull(selector))
            return Raise(Vector.GP, _ext);
        if (!FetchDescriptor(selector, Vector.GP, out d, out linear))
            return false;
        int dpl = DescriptorDpl(d);
        if (!DescriptorIsCode(d) || dpl > S->Cpl || (requireLong && (!DescriptorIsLong(d) || DescriptorIsDefault32(d))))
            return RaiseSelector(Vector.GP, selector);
        if (!DescriptorPresent(d))
            return RaiseSelector(Vector.NP, selector);
        if (!DescriptorIsConforming(d))
            cpl = dpl;
        // SDM Vol. 3A §20.3.1: from virtual-8086 mode only ring-0, non-conforming handlers.
        return !InVirtual8086 || cpl == 0 || RaiseSelector(Vector.GP, selector);
    }

    private bool PushProtectedFrame(in GuestEvent e, int size, ulong flags, ulong returnRip, int cpl, bool fromVm86, out StackCursor stack)
    {
        if (cpl == S->Cpl)
        {
            stack = CurrentStack();
        }
        else
        {
            if (!OpenInnerStack(cpl, longMode: false, ist: 0, out stack))
                return false;
            if (fromVm86 && (!Push(ref stack, size, S->GS.Selector) || !Push(ref stack, size, S->FS.Selector)
                || !Push(ref stack, size, S->DS.Selector) || !Push(ref stack, size, S->ES.Selector)))
                return false;
            if (!Push(ref stack, size, S->SS.Selector) || !Push(ref stack, size, (uint)S->Gpr[(int)Gpr.Rsp]))
                return false;
        }

        return Push(ref stack, size, flags) && Push(ref stack, size, S->CS.Selector) && Push(ref stack, size, returnRip)
            && (!e.HasError || Push(ref stack, size, e.Error));
    }

    /// <summary>Through a 64-bit gate, with the interrupt stack table (SDM Vol. 3A §6.14).</summary>
    private bool DeliverLong(in GuestEvent e, ulong returnRip)
    {
        if (e.Vector * 16u + 15 > S->Idtr.Limit)
            return Raise(Vector.GP, IdtError(e.Vector, _ext));
        ulong at = S->Idtr.Base + e.Vector * 16u;
        if (!LoadLinear(at, supervisor: true, out ulong gate) || !LoadLinear(at + 8, supervisor: true, out ulong upper))
            return false;
        uint type = DescriptorType(gate);
        if (!DescriptorIsSystem(gate) || type is not (SystemType.InterruptGate or SystemType.TrapGate) || (e.IsSoftware && DescriptorDpl(gate) < S->Cpl))
            return Raise(Vector.GP, IdtError(e.Vector, _ext));
        if (!DescriptorPresent(gate))
            return Raise(Vector.NP, IdtError(e.Vector, _ext));
        if (!CheckGateCode(gate, requireLong: true, out ushort selector, out ulong d, out ulong linear, out int cpl))
            return false;
        ulong flags = FlagsImage(e);
        int ist = (int)(gate >> 32) & 7;
        bool inner = cpl != S->Cpl;
        if (!OpenLongStack(cpl, inner, ist, out StackCursor stack) || !PushLongFrame(ref stack, e, flags, returnRip))
            return false;
        (_, uint low) = GateTarget(gate);
        ulong target = low | upper << 32;
        if (!IsCanonical(target))
            return Raise(Vector.GP, _ext);
        RingMark from = MarkRing();
        if (!LoadCodeSegment(selector, d, linear, cpl))
            return false;
        if (inner)
            S->SS = NullSegment((ushort)cpl, cpl);
        S->Gpr[(int)Gpr.Rsp] = stack.Sp;
        EnterHandler(from, e, flags, type == SystemType.InterruptGate, target);
        return true;
    }

    private bool OpenLongStack(int cpl, bool inner, int ist, out StackCursor stack)
    {
        if (!inner && ist == 0)
            stack = InnerLongStack(S->Gpr[(int)Gpr.Rsp]);
        else if (!OpenInnerStack(cpl, longMode: true, ist, out stack))
            return false;
        stack.Inner = cpl < 3;
        stack.Sp &= ~0xFul;
        return true;
    }

    private bool PushLongFrame(ref StackCursor stack, in GuestEvent e, ulong flags, ulong returnRip) =>
        Push(ref stack, 8, S->SS.Selector) && Push(ref stack, 8, S->Gpr[(int)Gpr.Rsp]) && Push(ref stack, 8, flags)
        && Push(ref stack, 8, S->CS.Selector) && Push(ref stack, 8, returnRip) && (!e.HasError || Push(ref stack, 8, e.Error));

    private void EnterHandler(in RingMark from, in GuestEvent e, ulong flags, bool interruptGate, ulong target)
    {
        flags &= ~(Rflags.TF | Rflags.NT | Rflags.VM | Rflags.RF);
        if (interruptGate)
            flags &= ~Rflags.IF;
        SetFlags(flags);
        ModeChanged();
        SetRip(target);
        RecordTransfer(from, e.Cause, e.Vector, EventDetail(e));
    }
}
