using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Rings;
using VirtPS.Strategy.Para.Mmu;
using VirtPS.X86;

namespace VirtPS.Strategy.Para;

/// <summary>Hypercall numbers (public/xen.h).</summary>
internal static class Hypercall
{
    public const int SetTrapTable = 0, MmuUpdate = 1, SetGdt = 2, StackSwitch = 3, FpuTaskSwitch = 5, SetDebugReg = 8, GetDebugReg = 9, UpdateDescriptor = 10, MemoryOp = 12, Multicall = 13,
        UpdateVaMapping = 14, SetTimerOp = 15, XenVersion = 17, ConsoleIo = 18, GrantTableOp = 20, VmAssist = 21, Iret = 23, VcpuOp = 24, SetSegmentBase = 25, MmuExtOp = 26, SchedOp = 29,
        CallbackOp = 30, EventChannelOp = 32, PhysdevOp = 33;
}

// SYSCALL of the guest's kernel: number in RAX, arguments in RDI, RSI, RDX, R10, R8, result in RAX.
internal sealed unsafe partial class XenVcpu
{
    private const int MaxArguments = 6;

    /// <summary>Entries of one multicall that are served before events may come in between.</summary>
    private const int MulticallBatch = 512;

    /// <summary>Page tables that one hypercall checks or releases before it is continued: some milliseconds.</summary>
    private const int TableBudget = 1024;

    /// <summary>What the present hypercall has changed.</summary>
    private SupervisorEffect _effect;

    private VcpuState* _state;

    public SupervisorEffect SystemCall(VcpuState* s)
    {
        try
        {
            return s->GuestKernel != 0 ? KernelCall(s) : ProgramCall(s);
        }
        catch (Exception e) when (Domain.NoteFailure(e))
        {
            throw;
        }
    }

    private SupervisorEffect KernelCall(VcpuState* s)
    {
        ulong number = s->Gpr[(int)Gpr.Rax];
        ulong rip = s->Rip;
        ulong* a = stackalloc ulong[MaxArguments];
        (a[0], a[1], a[2], a[3], a[4], a[5]) = (s->Gpr[(int)Gpr.Rdi], s->Gpr[(int)Gpr.Rsi], s->Gpr[(int)Gpr.Rdx], s->Gpr[(int)Gpr.R10], s->Gpr[(int)Gpr.R8], 0);
        Cpu.RecordHypercall(rip - 2, (int)Math.Min(number, 0xFFFF), a[0], a[1]);
        _effect = SupervisorEffect.None;
        _state = s;
        s->Gpr[(int)Gpr.Rcx] = rip;
        s->Gpr[(int)Gpr.R11] = s->Rflags;
        long result = Call(number, a);
        if (result == PageTypes.Restart)
        {
            // Issued again by the guest's own instruction, after events, with what is left to do.
            (s->Gpr[(int)Gpr.Rdi], s->Gpr[(int)Gpr.Rsi], s->Gpr[(int)Gpr.Rdx], s->Gpr[(int)Gpr.R10], s->Gpr[(int)Gpr.R8]) = (a[0], a[1], a[2], a[3], a[4]);
            s->Rip = rip - 2;
            _effect |= SupervisorEffect.Rip;
        }
        else if (number != Hypercall.Iret)
        {
            s->Gpr[(int)Gpr.Rax] = (ulong)result;
        }

        if (s->MpState == MpState.Runnable && EventIsDue)
        {
            DeliverEvent(s);
            return SupervisorEffect.All;
        }

        return _effect;
    }

    /// <summary>One hypercall. <see cref="PageTypes.Restart"/>: <paramref name="a"/> is what is left to do.</summary>
    private long Call(ulong number, ulong* a) => number switch
    {
        Hypercall.SetTrapTable => SetTrapTable(a[0]),
        Hypercall.MmuUpdate => UpdateTables(a),
        Hypercall.SetGdt => SetGlobalTable(a[0], a[1]),
        Hypercall.StackSwitch => SwitchStack(a[0], a[1]),
        Hypercall.FpuTaskSwitch => SetTaskSwitched(a[0]),
        Hypercall.SetDebugReg => SetDebugRegister(_state, (int)Math.Min(a[0], 99), a[1]) ? 0 : Errno.EINVAL,
        Hypercall.GetDebugReg => GetDebugRegister(_state, (int)Math.Min(a[0], 99), out ulong value) ? (long)value : Errno.EINVAL,
        Hypercall.UpdateDescriptor => UpdateDescriptor(a[0], a[1]),
        Hypercall.MemoryOp => MemoryOperation(a),
        Hypercall.Multicall => Multicall(a),
        Hypercall.UpdateVaMapping => UpdateVaMapping(a[0], a[1], a[2]),
        Hypercall.SetTimerOp => SetTimer(a[0]),
        Hypercall.XenVersion => Version(a[0], a[1]),
        Hypercall.ConsoleIo => ConsoleIo(a[0], a[1], a[2]),
        Hypercall.GrantTableOp => GrantTableOperation(a[0], a[1], a[2]),
        Hypercall.VmAssist => Assist(a[0], a[1]),
        Hypercall.Iret => Iret(),
        Hypercall.VcpuOp => VcpuOperation(a[0], a[1], a[2]),
        Hypercall.SetSegmentBase => SetSegmentBase(a[0], a[1]),
        Hypercall.MmuExtOp => ExtendedOperations(a),
        Hypercall.SchedOp => Schedule(a[0], a[1]),
        Hypercall.CallbackOp => CallbackOperation(a[0], a[1]),
        Hypercall.EventChannelOp => EventChannelOperation(a[0], a[1]),
        Hypercall.PhysdevOp => PhysicalDeviceOperation(a[0], a[1]),
        _ => Errno.ENOSYS,
    };

    /// <summary>A list of calls in order, each with its result (struct multicall_entry, 64 bytes). What leaves this kernel mode cannot stand in it.</summary>
    private long Multicall(ulong* a)
    {
        if (a[1] > int.MaxValue)
            return Errno.EINVAL;
        ulong* entry = stackalloc ulong[8];
        for (int i = 0; a[1] > 0; i++)
        {
            if (i == MulticallBatch)
                return PageTypes.Restart;
            if (!CopyFrom(a[0], entry, 64))
                return Errno.EFAULT;
            ulong number = entry[0];
            long result = number is Hypercall.Iret or Hypercall.Multicall ? Errno.EINVAL : Call(number, entry + 2);
            if (number < RingCounters.HypercallCount)
                Cpu.Counters->Hypercalls[number]++;
            if (result == PageTypes.Restart)
                return CopyTo(a[0] + 16, entry + 2, 48) ? PageTypes.Restart : Errno.EFAULT;
            if (!Write(a[0] + 8, result))
                return Errno.EFAULT;
            a[0] += 64;
            a[1]--;
            // The processor sleeps, or is on its way elsewhere: the rest follows when it is back.
            if (_state->MpState != MpState.Runnable && a[1] > 0)
                return PageTypes.Restart;
        }

        return 0;
    }
}
