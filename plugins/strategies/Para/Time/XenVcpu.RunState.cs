using VirtPS.Strategy.Para.Mmu;
using VirtPS.Strategy.Para.Time;

namespace VirtPS.Strategy.Para;

/// <summary>RUNSTATE_* (public/vcpu.h).</summary>
internal enum RunState
{
    Running = 0,
    Runnable = 1,
    Blocked = 2,
    Offline = 3,
}

// Areas in guest memory that the VMM keeps up to date: found once, when they are registered, and held for writing from then on.
internal sealed unsafe partial class XenVcpu
{
    private const int RunStateSize = 48, TimeSize = 32;

    private readonly ulong[] _stateTimes = new ulong[4];
    private byte* _runState;
    private RunState _runStateNow;
    private ulong _runStateSince;

    private void ResetRunState()
    {
        Array.Clear(_stateTimes);
        _runState = null;
        (_runStateNow, _runStateSince) = (RunState.Offline, 0);
    }

    /// <summary>struct vcpu_runstate_info: state, since when, nanoseconds in each state. It must not cross a page.</summary>
    private long RegisterRunState(XenVcpu caller, ulong linear)
    {
        byte* area = caller.HoldArea(linear, RunStateSize);
        if (area == null)
            return Errno.EFAULT;
        _runState = area;
        if (this == caller && _runStateSince == 0)
            (_runStateNow, _runStateSince) = (RunState.Running, Domain.Clock.Now);
        StoreRunState();
        return 0;
    }

    private long RegisterTime(XenVcpu caller, ulong linear)
    {
        byte* area = caller.HoldArea(linear, TimeSize);
        if (area == null)
            return Errno.EFAULT;
        GuestClock.Write(Domain, (VcpuTime*)area, Domain.Clock.Now, Domain.Clock.Now);
        return 0;
    }

    private void SetRunState(RunState next)
    {
        ulong now = Domain.Clock.Now;
        _stateTimes[(int)_runStateNow] += now - _runStateSince;
        (_runStateNow, _runStateSince) = (next, now);
        StoreRunState();
    }

    private void StoreRunState()
    {
        // May be registered by another vCPU, once, before this one runs.
        byte* p = _runState;
        if (p == null)
            return;
        *(int*)p = (int)_runStateNow;
        ulong* fields = (ulong*)(p + 8);
        fields[0] = _runStateSince;
        for (int i = 0; i < 4; i++)
            fields[1 + i] = _stateTimes[i];
    }

    /// <summary>Host address of a writable piece of the kernel's memory, whose frame stays writable memory for good; null where that is not possible.</summary>
    private byte* HoldArea(ulong linear, int size)
    {
        if ((linear & 7) != 0 || (linear & 0xFFF) + (ulong)size > 4096)
            return null;
        using MmuHold hold = Domain.EnterMmu(Cpu);
        if (!FindLeaf(linear, out ulong table, out int index))
            return null;
        ulong entry = ((ulong*)Domain.Frames.Pointer(table))[index];
        ulong mfn = (entry & PageTypes.FrameMask) >> 12;
        const ulong presentWritable = 3;
        if ((entry & presentWritable) != presentWritable || Domain.Types.Hold(Cpu, mfn, write: true) != 0)
            return null;
        Domain.Frames.NoteWrite(Domain.Memory, mfn);
        return Domain.Frames.Pointer(mfn) + (linear & 0xFFF);
    }
}
