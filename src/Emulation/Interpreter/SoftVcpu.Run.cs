using VirtPS.Sdk.Cpu;
using VirtPS.X86;

namespace VirtPS.Emulation;

// The outer loop: what happens between blocks.
public sealed unsafe partial class SoftVcpu
{
    private const uint AlwaysServed = (uint)(VcpuRequests.Exit | VcpuRequests.LocalApic | VcpuRequests.FlushTlb | VcpuRequests.Nmi) | RequestFlushWrites | RequestHold | RequestStaleCode;

    public VcpuExit Run()
    {
        EnterGuest();
        BeginRingAccounting();
        VcpuExit exit = RunGuest(single: false);
        ChargeRing();
        LeaveGuest();
        SynchronizeState();
        return exit;
    }

    /// <inheritdoc/>
    public VcpuExit SingleStep()
    {
        EnterGuest();
        VcpuExit exit = RunGuest(single: true);
        LeaveGuest();
        SynchronizeState();
        return exit;
    }

    private VcpuExit RunGuest(bool single)
    {
        for (bool first = true;; first = false)
        {
            N->Leave = 0;
            N->RipSet = 0;
            if (S->MpState != MpState.Runnable)
                return S->MpState == MpState.Halted ? VcpuExit.Halt : S->MpState == MpState.Shutdown ? VcpuExit.Shutdown : VcpuExit.Kicked;
            if (single && !first)
                return VcpuExit.SingleStep;
            if (S->Requests != 0 && ServeRequests(out VcpuExit exit))
                return exit;
            if (S->Pending.IsPending)
            {
                DeliverPending();
                continue;
            }

            if (DebugTrapWaits)
            {
                DeliverDebugTrap(singleStep: false);
                continue;
            }

            if (_arena!.IsFull || TranslationsAreFull)
                FlushCode();
            SetRequestMask();
            (_countedRing, _countedFrom) = (GuestRing, S->InstructionsRetired);
            if (single || S->InterruptShadow != InterruptShadow.None || DebugActive || (S->Rflags & Rflags.TF) != 0)
                ExecuteOne();
            else if ((_cache is null ? Execute() : ExecuteTranslated()) == Executed.Fault)
                Fault();
            CountInstructions();
        }
    }

    /// <summary>Ring to which instructions are counted, and from which one on.</summary>
    private int _countedRing;
    private ulong _countedFrom;

    /// <summary>Counts what has been executed, to the ring in which it was.</summary>
    private void CountInstructions()
    {
        Counters->Instructions[_countedRing] += S->InstructionsRetired - _countedFrom;
        (_countedRing, _countedFrom) = (GuestRing, S->InstructionsRetired);
    }

    /// <summary>Which requests matter with the flags as they are now.</summary>
    private void SetRequestMask() =>
        N->RequestMask = AlwaysServed & ~(S->NmiBlocked ? (uint)VcpuRequests.Nmi : 0) | ((S->Rflags & Rflags.IF) != 0 ? (uint)VcpuRequests.Interrupt : 0);

    /// <summary>Requests at an instruction boundary; true when <see cref="Run"/> must return.</summary>
    private bool ServeRequests(out VcpuExit exit)
    {
        ServeFlushRequests();
        uint requests = Volatile.Read(ref S->Requests);
        exit = VcpuExit.Kicked;
        if ((requests & (uint)VcpuRequests.Exit) != 0)
        {
            Interlocked.And(ref S->Requests, ~(uint)VcpuRequests.Exit);
            return true;
        }

        if ((requests & (uint)VcpuRequests.LocalApic) != 0)
            return true;
        if (S->Pending.IsPending)
            return false;
        if ((requests & (uint)VcpuRequests.Nmi) != 0 && !S->NmiBlocked && S->InterruptShadow != InterruptShadow.MovSs)
        {
            Interlocked.And(ref S->Requests, ~(uint)VcpuRequests.Nmi);
            S->InterruptShadow = InterruptShadow.None;
            DeliverInterrupt(Vector.NMI, EventKind.Nmi, false, 0);
            return false;
        }

        if (_supervisor is { } supervisor)
        {
            if ((requests & (uint)VcpuRequests.Interrupt) != 0)
            {
                // Cleared first: what becomes pending from here on asks again.
                Interlocked.And(ref S->Requests, ~(uint)VcpuRequests.Interrupt);
                SupervisorEvent(supervisor);
            }

            return false;
        }

        exit = VcpuExit.InterruptWindow;
        return (requests & (uint)VcpuRequests.Interrupt) != 0 && (S->Rflags & Rflags.IF) != 0 && S->InterruptShadow == InterruptShadow.None;
    }

    private void DeliverPending()
    {
        PendingEvent e = S->Pending;
        S->Pending = default;
        S->Rip = (S->Rip + e.InstructionLength) & N->RipMask;
        DeliverInterrupt(e.Vector, e.Kind, e.HasErrorCode, e.ErrorCode);
    }

    private void Fault()
    {
        N->Leave = 0;
        N->RipSet = 0;
        DeliverFault();
    }

    /// <summary>One instruction through its complete handler: single-stepping, breakpoints, and the instruction in an interrupt shadow.</summary>
    private void ExecuteOne()
    {
        InterruptShadow shadow = S->InterruptShadow;
        bool trap = (S->Rflags & Rflags.TF) != 0;
        bool resume = (S->Rflags & Rflags.RF) != 0;
        ulong rip = S->Rip;
        if (DebugActive && !resume && shadow != InterruptShadow.MovSs && !CheckInstructionBreakpoint())
        {
            Fault();
            return;
        }

        Block* b = FindBlock((rip + N->CodeBase) & N->LinearMask);
        if (b == null)
        {
            if (N->Leave == 0)
                Fault();
            return;
        }

        Op* op = b->Ops;
        ulong mask = N->RipMask;
        if (!op->Slow(this, op))
        {
            S->InterruptShadow = InterruptShadow.None;
            Fault();
            return;
        }

        S->InstructionsRetired++;
        if (N->RipSet == 0)
            S->Rip = (rip + op->Length) & mask;
        N->RipSet = 0;
        if (resume)
            S->Rflags &= ~Rflags.RF;
        // A shadow lasts one instruction; STI in the shadow of STI does not prolong it.
        if (shadow != InterruptShadow.None && S->InterruptShadow == shadow)
            S->InterruptShadow = InterruptShadow.None;
        if ((trap || DebugActive) && S->InterruptShadow != InterruptShadow.MovSs)
            DeliverDebugTrap(trap);
    }

    public void InjectInterrupt(byte vector)
    {
        EnterGuest();
        N->Leave = 0;
        DeliverInterrupt(vector, EventKind.ExternalInterrupt, false, 0);
        LeaveGuest();
        SynchronizeState();
    }

    public void CommitState()
    {
        N->SetStatusFlags(S->Rflags);
        SystemStateChanged();
        FlushTlb(global: true);
        ModeChanged();
    }
}
