using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Rings;
using VirtPS.X86;

namespace VirtPS.Strategy.Para;

// Exceptions and system calls of the guest's programs.
internal sealed unsafe partial class XenVcpu
{
    /// <summary>CR0.TS as the guest's kernel wants it.</summary>
    private bool TaskSwitched(VcpuState* s) => (s->Cr0 & Cr0.TS) != 0;

    public SupervisorEffect Trap(VcpuState* s, in GuestTrap trap)
    {
        try
        {
            Route(s, trap);
            if (s->MpState == MpState.Runnable && EventIsDue)
                DeliverEvent(s);
            return SupervisorEffect.All;
        }
        catch (Exception e) when (Domain.NoteFailure(e))
        {
            throw;
        }
    }

    private void Route(VcpuState* s, in GuestTrap trap)
    {
        uint? error = trap.HasErrorCode ? trap.ErrorCode : null;
        if (trap.IsSoftware)
        {
            SoftwareInterrupt(s, trap);
            return;
        }

        switch (trap.Vector)
        {
            case Vector.UD when EmulatePrefixed(s):
                return;
            case Vector.GP when trap.ErrorCode == 0 && EmulatePrivileged(s):
                return;
            case Vector.NM when TaskSwitched(s):
                s->Cr0 &= ~Cr0.TS;
                break;
            case Vector.PF:
                error = PageFault(s, trap.ErrorCode);
                if (error is null)
                    return;
                break;
        }

        DeliverTrap(s, trap.Vector, error);
    }

    /// <summary>INT n, INT3, INTO: the entry says who may.</summary>
    private void SoftwareInterrupt(VcpuState* s, in GuestTrap trap)
    {
        TrapEntry entry = _traps[trap.Vector];
        int dpl = entry.Flags & 3;
        if (dpl < (s->GuestKernel != 0 ? 1 : 3))
        {
            s->Rip = trap.InstructionRip;
            DeliverTrap(s, Vector.GP, (uint)trap.Vector * 8 + 2);
            return;
        }

        Bounce(s, entry, null, RingCause.SoftwareInterrupt, trap.Vector, s->Gpr[(int)Gpr.Rax]);
    }

    /// <summary>The error code for the guest; null when the write was one to a page table and has been carried out.</summary>
    private uint? PageFault(VcpuState* s, uint error)
    {
        error &= ~PageFaultError.U;
        if (s->GuestKernel == 0)
            return error | PageFaultError.U;
        const uint writeToPresent = PageFaultError.P | PageFaultError.W;
        return (error & (writeToPresent | PageFaultError.Rsvd)) == writeToPresent && EmulateTableWrite(s) ? null : error;
    }

    /// <summary>SYSCALL by a program.</summary>
    private SupervisorEffect ProgramCall(VcpuState* s)
    {
        TrapEntry entry = _callbacks[s->CS.IsLong ? SyscallCallback : Syscall32Callback];
        if (entry.Address == 0)
        {
            s->Rip -= 2;
            DeliverTrap(s, Vector.UD, null);
            return SupervisorEffect.All;
        }

        s->Gpr[(int)Gpr.Rcx] = s->Rip;
        s->Gpr[(int)Gpr.R11] = s->Rflags;
        Bounce(s, entry, null, RingCause.Syscall, 0, s->Gpr[(int)Gpr.Rax]);
        s->Rflags &= ~Rflags.DF;
        if (s->MpState == MpState.Runnable && EventIsDue)
            DeliverEvent(s);
        return SupervisorEffect.All;
    }
}
