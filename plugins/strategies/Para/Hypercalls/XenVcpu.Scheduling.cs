using VirtPS.Sdk;
using VirtPS.Sdk.Cpu;
using VirtPS.Strategy.Para.Boot;
using VirtPS.Strategy.Para.Mmu;
using VirtPS.Strategy.Para.Time;
using VirtPS.X86;

namespace VirtPS.Strategy.Para;

// sched_op and vcpu_op: sleeping, shutting down, bringing processors up.
internal sealed unsafe partial class XenVcpu
{
    private const int ContextSize = 5168;
    private const long Past = -62;

    private byte[]? _context;
    private bool _isUp, _startRequested, _ownInfo, _sleeps;

    private void ResetStart() => (_context, _isUp, _startRequested, _ownInfo, _sleeps) = (null, false, false, false, false);

    /// <summary>sched_op(command, argument).</summary>
    private long Schedule(ulong command, ulong argument)
    {
        const uint yield = 0, block = 1, shutdown = 2, poll = 3, watchdog = 6, pin = 7;
        switch (command)
        {
            case yield:
                int token = Cpu.BeginWait();
                Thread.Yield();
                Cpu.EndWait(token);
                return 0;
            case block:
                Info->UpcallMask = 0;
                Sleep();
                return 0;
            case shutdown:
                return Read(argument, out uint reason) ? Shutdown(reason) : Errno.EFAULT;
            case poll:
                return Poll(argument);
            case pin:
                return Errno.EPERM;
            case watchdog:
            default:
                return Errno.ENOSYS;
        }
    }

    /// <summary>Stops until an event is raised: whoever raises it requests <see cref="VcpuRequests.Interrupt"/> after it has set the bits, so that nothing is missed.</summary>
    private void Sleep()
    {
        if (Volatile.Read(ref Info->UpcallPending) != 0 && Info->UpcallMask == 0)
            return;
        _sleeps = true;
        SetRunState(RunState.Blocked);
        _state->MpState = MpState.Halted;
        _effect |= SupervisorEffect.Mode;
    }

    private long Shutdown(uint reason)
    {
        const uint powerOff = 0, reboot = 1, suspend = 2, crash = 3;
        switch (reason)
        {
            case powerOff:
                Domain.Machine.RequestPowerOff("The guest switched itself off.");
                break;
            case reboot:
                Domain.Machine.RequestReset("The guest restarted itself.");
                break;
            case crash:
                Crash(_state, "the guest's kernel has reported that it crashed.");
                _effect |= SupervisorEffect.Mode;
                return 0;
            case suspend:
            default:
                return Errno.EINVAL;
        }

        // Not one instruction more, until the machine has acted.
        _state->MpState = MpState.WaitForSipi;
        _effect |= SupervisorEffect.Mode;
        return 0;
    }

    /// <summary>struct sched_poll: ports, number, time-out. Returns when one of them is pending, masked or not; waking up for less is allowed.</summary>
    private long Poll(ulong argument)
    {
        ulong* a = stackalloc ulong[3];
        if (!CopyFrom(argument, a, 24))
            return Errno.EFAULT;
        uint count = (uint)a[1];
        if (count > 128)
            return Errno.EINVAL;
        uint* ports = stackalloc uint[128];
        if (!CopyFrom(a[0], ports, (int)count * 4))
            return Errno.EFAULT;
        IsPolling = true;
        Domain.Ports.BeginPoll();
        bool ready = false;
        for (uint i = 0; i < count; i++)
        {
            if (ports[i] >= XenAbi.PortCount)
            {
                FinishPoll();
                return Errno.EINVAL;
            }

            ready |= Domain.Ports.IsPending(ports[i]);
        }

        ready |= a[2] != 0 && a[2] <= Domain.Clock.Now;
        if (ready)
        {
            FinishPoll();
            return 0;
        }

        if (a[2] != 0)
            Timers.SetPoll(a[2]);
        Sleep();
        if (_state->MpState == MpState.Runnable)
            FinishPoll();
        return 0;
    }

    private void FinishPoll()
    {
        if (_sleeps)
        {
            _sleeps = false;
            SetRunState(RunState.Running);
        }

        if (!IsPolling)
            return;
        IsPolling = false;
        Domain.Ports.EndPoll();
        Timers.SetPoll(null);
    }

    /// <summary>vcpu_op(command, vCPU, argument).</summary>
    private long VcpuOperation(ulong command, ulong id, ulong argument)
    {
        const uint initialise = 0, up = 1, down = 2, isUp = 3, registerRunState = 5, setPeriodic = 6, stopPeriodic = 7, setSingle = 8, stopSingle = 9, registerInfo = 10, sendNmi = 11,
            registerTime = 13;
        if (id >= (ulong)Domain.VcpuCount)
            return Errno.ENOENT;
        XenVcpu v = Domain.Vcpus[id];
        switch (command)
        {
            case initialise:
                return v.TakeContext(this, argument);
            case up:
                return v.BringUp();
            case down:
                return v == this ? TakeDown() : Errno.EINVAL;
            case isUp:
                return Volatile.Read(ref v._isUp) ? 1 : 0;
            case registerRunState:
                return Read(argument, out ulong area) ? v.RegisterRunState(this, area) : Errno.EFAULT;
            case registerInfo:
                return RegisterInfo(v, argument);
            case registerTime:
                return Read(argument, out ulong time) ? v.RegisterTime(this, time) : Errno.EFAULT;
            case setPeriodic:
                return v != this ? Errno.EINVAL : !Read(argument, out ulong period) ? Errno.EFAULT : Timers.SetPeriodic(period) ? 0 : Errno.EINVAL;
            case stopPeriodic:
                v.Timers.StopPeriodic();
                return 0;
            case setSingle:
                return v == this ? SetSingle(argument) : Errno.EINVAL;
            case stopSingle:
                if (v != this)
                    return Errno.EINVAL;
                Timers.StopSingle();
                return 0;
            case sendNmi:
                return argument != 0 ? Errno.EINVAL : v.SendNmi();
            default:
                return Errno.ENOSYS;
        }
    }

    /// <summary>struct vcpu_set_singleshot_timer: absolute time, flags (1: only if it is still to come).</summary>
    private long SetSingle(ulong argument)
    {
        ulong* a = stackalloc ulong[2];
        if (!CopyFrom(argument, a, 16))
            return Errno.EFAULT;
        if ((a[1] & 1) != 0 && a[0] <= Domain.Clock.Now)
            return Past;
        Timers.SetSingle(a[0]);
        return 0;
    }

    /// <summary>set_timer_op(time): 0 cancels.</summary>
    private long SetTimer(ulong deadline)
    {
        if (deadline == 0)
            Timers.StopSingle();
        else
            Timers.SetSingle(deadline);
        return 0;
    }

    /// <summary>Any vCPU's thread: events masked or not, it interrupts the processor, asleep or not. One that waits already is not doubled.</summary>
    private long SendNmi()
    {
        Volatile.Write(ref _nmiPending, true);
        Control.Request(VcpuRequests.Interrupt);
        return 0;
    }

    /// <summary>The vCPU's first state (struct vcpu_guest_context), kept until it is brought up.</summary>
    private long TakeContext(XenVcpu caller, ulong argument)
    {
        if (_isUp || _context is not null)
            return Errno.EEXIST;
        byte[] context = new byte[ContextSize];
        fixed (byte* p = context)
        {
            if (!caller.CopyFrom(argument, p, ContextSize))
                return Errno.EFAULT;
            long error = caller.TakeRoots(this, *(ulong*)(p + 5008) >> 12, *(ulong*)(p + 4992) >> 12);
            if (error != 0)
                return error;
        }

        _context = context;
        return 0;
    }

    private long TakeRoots(XenVcpu target, ulong kernel, ulong user)
    {
        using MmuHold hold = Domain.EnterMmu(Cpu);
        Domain.Types.Budget = int.MaxValue;
        long error = Domain.Types.Get(Cpu, kernel, FrameType.L4);
        if (error == 0 && user != 0 && (error = Domain.Types.Get(Cpu, user, FrameType.L4)) != 0)
            Domain.Types.Put(kernel);
        if (error == 0)
            (target.KernelRoot, target.UserRoot) = (kernel, user);
        return error;
    }

    /// <summary>Any vCPU's thread. The vCPU's own thread takes its state over.</summary>
    private long BringUp()
    {
        if (_context is null && !Volatile.Read(ref _ranBefore))
            return Errno.EINVAL;
        Volatile.Write(ref _isUp, true);
        Volatile.Write(ref _startRequested, true);
        Control.Request(VcpuRequests.LocalApic);
        return 0;
    }

    private bool _ranBefore;

    /// <summary>VCPUOP_down: the processor stops where it is; the last one to do so switches the domain off.</summary>
    private long TakeDown()
    {
        Volatile.Write(ref _isUp, false);
        SetRunState(RunState.Offline);
        _state->MpState = MpState.WaitForSipi;
        _effect |= SupervisorEffect.Mode;
        if (Array.TrueForAll(Domain.Vcpus, v => !Volatile.Read(ref v._isUp)))
            Domain.Machine.RequestPowerOff("The guest's last processor went down.");
        return 0;
    }

    /// <summary>Own thread, outside guest code.</summary>
    public void Process()
    {
        if (!Volatile.Read(ref _startRequested))
            return;
        Volatile.Write(ref _startRequested, false);
        VcpuState* s = Cpu.State;
        if (_context is { } context)
        {
            fixed (byte* p = context)
                Start(s, p);
            _context = null;
            Volatile.Write(ref _ranBefore, true);
            Cpu.CommitState();
        }

        s->MpState = MpState.Runnable;
        SetRunState(RunState.Running);
        WriteTime();
    }

    private void Start(VcpuState* s, byte* p)
    {
        const int gprs = 520, trapTable = 720;
        VcpuStart.Prepare(s, Index, KernelRoot);
        ReadOnlySpan<byte> order =
            [(byte)Gpr.R15, (byte)Gpr.R14, (byte)Gpr.R13, (byte)Gpr.R12, (byte)Gpr.Rbp, (byte)Gpr.Rbx, (byte)Gpr.R11, (byte)Gpr.R10, (byte)Gpr.R9, (byte)Gpr.R8, (byte)Gpr.Rax, (byte)Gpr.Rcx,
                (byte)Gpr.Rdx, (byte)Gpr.Rsi, (byte)Gpr.Rdi];
        for (int i = 0; i < order.Length; i++)
            s->Gpr[order[i]] = *(ulong*)(p + gprs + (i * 8));
        s->Rip = *(ulong*)(p + gprs + 128);
        s->Gpr[(int)Gpr.Rsp] = *(ulong*)(p + gprs + 152);
        for (int i = 0; i < 256; i++)
        {
            ulong* t = (ulong*)(p + trapTable + (i * 16));
            if (t[1] != 0 && IsCanonical(t[1]))
                _traps[i] = new TrapEntry { Flags = (byte)((t[0] >> 8) & 7), Selector = (ushort)(t[0] >> 16), Address = t[1] };
        }

        _state = s;
        Cpu.CommitState();
        SetGlobalTableOf(p);
        (_kernelStackSegment, _kernelStack) = ((ushort)(*(ulong*)(p + 4968) | 3), *(ulong*)(p + 4976));
        _callbacks[EventCallback] = new TrapEntry { Address = *(ulong*)(p + 5112), Flags = MaskEvents };
        _callbacks[FailsafeCallback] = new TrapEntry { Address = *(ulong*)(p + 5120), Flags = MaskEvents };
        _callbacks[SyscallCallback] = new TrapEntry { Address = *(ulong*)(p + 5128), Flags = MaskEvents };
        s->FS.Base = *(ulong*)(p + 5144);
        s->GS.Base = *(ulong*)(p + 5152);
        s->KernelGsBase = *(ulong*)(p + 5160);
        LoadSegment(ref s->CS, *(ushort*)(p + gprs + 136), VcpuStart.FlatCode);
        LoadSegment(ref s->SS, *(ushort*)(p + gprs + 160), VcpuStart.FlatData);
    }

    private void LoadSegment(ref SegmentRegister register, ushort selector, SegmentRegister otherwise) => register =
        TryReadDescriptor(selector, out ulong d) && IsDataOrReadableCode(d) ? SegmentRegister.FromDescriptor((ushort)(selector | 3), d) : otherwise;

    private void SetGlobalTableOf(byte* p)
    {
        const int framesAt = 4832, entriesAt = 4960;
        ulong entries = *(ulong*)(p + entriesAt);
        if (entries > XenArea.GuestDescriptorPages * 512)
            return;
        using MmuHold hold = Domain.EnterMmu(Cpu);
        Domain.Types.Budget = TableBudget;
        if (ReplacePages(_gdtFrames, XenArea.GlobalTable(Index), (ulong*)(p + framesAt), ((int)entries + 511) / 512) != 0)
            Domain.Log.Write(LogLevel.Warning, $"vCPU {Index}: its descriptor table was refused.");
    }

    /// <summary>struct vcpu_register_vcpu_info: frame, offset. The present content moves there; whatever was raised meanwhile is found by looking everywhere.</summary>
    private long RegisterInfo(XenVcpu v, ulong argument)
    {
        ulong* a = stackalloc ulong[2];
        if (!CopyFrom(argument, a, 16))
            return Errno.EFAULT;
        ulong mfn = a[0];
        uint offset = (uint)a[1];
        if (v._ownInfo || offset > 4096 - 64 || (offset & 7) != 0 || !Domain.Frames.IsRam(mfn))
            return Errno.EINVAL;
        using (Domain.EnterMmu(Cpu))
        {
            long error = Domain.Types.Hold(Cpu, mfn, write: true);
            if (error != 0)
                return error;
            Domain.Frames.NoteWrite(Domain.Memory, mfn);
        }

        v._ownInfo = true;
        var info = (VcpuInfo*)(Domain.Frames.Pointer(mfn) + offset);
        *info = *v.Info;
        v.Info = info;
        GuestClock.Write(Domain, &info->Time, Domain.Clock.Now, Domain.Clock.Now);
        Interlocked.MemoryBarrier();
        Volatile.Write(ref info->PendingSelector, ulong.MaxValue);
        Volatile.Write(ref info->UpcallPending, 1);
        if (v != this)
            v.Control.Request(VcpuRequests.Interrupt);
        return 0;
    }
}
