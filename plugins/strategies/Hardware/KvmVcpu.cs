using System.Runtime.InteropServices;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Rings;
using VirtPS.X86;

namespace VirtPS.Strategy.Hardware;

/// <summary>
/// A KVM virtual processor. I/O exits are answered inside <see cref="Run"/> by calling the host; KVM completes the instruction on the next entry, and
/// before <see cref="Run"/> returns for another reason a last entry with <c>immediate_exit</c> completes what is pending.
/// </summary>
internal sealed unsafe partial class KvmVcpu : IVcpu
{
    private readonly KvmPartition _partition;
    private readonly IVcpuHost _host;
    private readonly VcpuState* _state;
    private readonly RingCounters* _counters;
    private readonly KvmRun* _run;
    private readonly nuint _runSize;
    private readonly int _fd;
    private readonly KvmMsrs _msrs;
    private readonly KvmTsc _tsc;
    private readonly KvmEntry? _entry;
    private readonly KvmStatistics? _statistics;
    private int _thread;
    private ulong _processorTime;
    private bool _windowIsKnown;
    private bool _stateIsFresh;
    private bool _stateIsChanged = true;
    private bool _ioPending;
    private bool _disposed;

    public KvmVcpu(KvmPartition partition, int index, IVcpuHost host)
    {
        (_partition, Index, _host, _entry) = (partition, index, host, partition.Device.Entry);
        _traps = new KvmStepTraps(partition);
        _fd = KvmDevice.Must(LinuxCalls.Ioctl(partition.Fd, Kvm.CreateVcpu, (nuint)index), $"virtual processor {index}");
        // SAFETY: both blocks live until Dispose; the state needs 64-byte alignment for its XSAVE area.
        _state = (VcpuState*)NativeMemory.AlignedAlloc((nuint)sizeof(VcpuState), 64);
        NativeMemory.Clear(_state, (nuint)sizeof(VcpuState));
        _counters = (RingCounters*)NativeMemory.AllocZeroed((nuint)sizeof(RingCounters));
        try
        {
            _runSize = (nuint)KvmDevice.Must(LinuxCalls.Ioctl(partition.Device.Fd, Kvm.GetVcpuMmapSize, (nuint)0), "the size of the run structure");
            void* page = LinuxCalls.Mmap(null, _runSize, LinuxCalls.ProtReadWrite, LinuxCalls.MapShared, _fd, 0);
            if ((nint)page == -1)
                throw new Sdk.VirtException("StrategyUnavailable", $"The run structure of virtual processor {index} cannot be mapped: {LinuxCalls.ErrorText()}.");
            _run = (KvmRun*)page;
            VcpuState.Reset(_state, init: false, bootstrap: index == 0);
            KvmCpuid.Apply(_fd, partition.Options.Cpuid, index);
            LetKickSignalThrough();
            // Refused where the processor cannot scale and the frequency is another; a machine asks for the one it can have (BackendCapabilities.TscFrequency).
            _ = LinuxCalls.Ioctl(_fd, Kvm.SetTscKhz, (nuint)(partition.Options.TscFrequency / 1000));
            _msrs = new KvmMsrs(_fd, partition.Device, partition.Options.Log);
            _tsc = new KvmTsc(_fd, _msrs, partition.Tsc, host);
            _statistics = KvmStatistics.TryOpen(_fd);
            if (partition.InterruptController is not null)
                LocalApic = new KvmLocalApic(_fd, _msrs);
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    public int Index { get; }

    public VcpuState* State => _state;

    /// <summary>KVM's own; null where the machine has one for it.</summary>
    public KvmLocalApic? LocalApic { get; }

    public ulong MachineTsc => _host.ReadMachineTsc();

    /// <summary>With KVM's local APIC a halted processor sleeps inside KVM_RUN: only the thread's own clock tells it from a busy one.</summary>
    public ulong? ProcessorNanoseconds
    {
        get
        {
            if (LocalApic is null)
                return null;
            long* time = stackalloc long[2];
            int thread = Volatile.Read(ref _thread);
            // A thread that has ended leaves what was last seen.
            if (thread != 0 && LinuxCalls.ClockGetTime(LinuxCalls.ThreadClock(thread), time) == 0)
                Volatile.Write(ref _processorTime, (ulong)time[0] * 1_000_000_000 + (ulong)time[1]);
            return Volatile.Read(ref _processorTime);
        }
    }

    public RingCounters* Counters => _counters;

    /// <summary>KVM does not report transitions: only <see cref="SingleStep"/> writes into it.</summary>
    public RingEventBuffer? Trace { get; set; }

    public VcpuExit Run() => Enter(step: false);

    private VcpuExit Enter(bool step)
    {
        BindThread();
        _tsc.Follow();
        VcpuExit exit = Loop(step);
        if (_ioPending)
            CompletePending();
        return exit;
    }

    private VcpuExit Loop(bool step)
    {
        while (true)
        {
            uint requests = Volatile.Read(ref _state->Requests);
            if ((requests & (uint)(VcpuRequests.Exit | VcpuRequests.LocalApic)) != 0)
            {
                Interlocked.And(ref _state->Requests, ~(uint)VcpuRequests.Exit);
                return VcpuExit.Kicked;
            }

            if (LocalApic is null)
            {
                // INIT and SIPI are the machine's: a processor that waits for SIPI executes nothing.
                if (_state->MpState is MpState.WaitForSipi or MpState.Shutdown)
                    return VcpuExit.Kicked;
                _state->MpState = MpState.Runnable;
            }

            PushState();
            // Behind PushState, which would take it back: a state that was set has no NMI in it.
            if ((Volatile.Read(ref _state->Requests) & (uint)VcpuRequests.Nmi) != 0)
            {
                Interlocked.And(ref _state->Requests, ~(uint)VcpuRequests.Nmi);
                KvmDevice.Must(LinuxCalls.Ioctl(_fd, Kvm.Nmi, (nuint)0), "an NMI");
            }

            bool wantsWindow = (requests & (uint)VcpuRequests.Interrupt) != 0;
            if (wantsWindow && !_ioPending && CanTakeInterrupt())
            {
                _windowIsKnown = false;
                return VcpuExit.InterruptWindow;
            }

            _run->RequestInterruptWindow = wantsWindow ? (byte)1 : (byte)0;
            if (LocalApic is null)
                _run->Cr8 = _host.ReadCr8();
            int result = EnterGuest();
            int error = Marshal.GetLastPInvokeError();
            _stateIsFresh = false;
            _ioPending = false;
            _windowIsKnown = true;
            if (LocalApic is null && _run->Cr8 != _host.ReadCr8())
                _host.WriteCr8(_run->Cr8);
            if (result < 0)
            {
                _exits[error == LinuxCalls.EINTR ? SignalIndex : OtherIndex]++;
                if (error is LinuxCalls.EINTR or LinuxCalls.EAGAIN)
                {
                    DrainKick();
                    continue;
                }

                return Fail($"KVM_RUN failed: {Marshal.GetPInvokeErrorMessage(error)}");
            }

            _exits[Math.Min(_run->ExitReason, OtherIndex)]++;
            if (Dispatch(step) is { } exit)
                return exit;
        }
    }

    private int EnterGuest() => _entry is null ? LinuxCalls.Ioctl(_fd, Kvm.Run, (nuint)0) : _entry(_fd, _run);

    /// <summary>Enters with immediate_exit so that KVM finishes the instruction whose I/O was answered (api.rst, KVM_RUN); a second half is answered too.</summary>
    private void CompletePending()
    {
        while (_ioPending)
        {
            _ioPending = false;
            _run->ImmediateExit = 1;
            int result = EnterGuest();
            _run->ImmediateExit = 0;
            _stateIsFresh = false;
            if (result < 0)
                return;
            if (_run->ExitReason == Kvm.ExitMmio)
                MmioAccess();
            else if (_run->ExitReason == Kvm.ExitIo)
                PortAccess();
            else if (_run->ExitReason is Kvm.ExitRdmsr or Kvm.ExitWrmsr)
                MsrAccess();
        }
    }

    /// <summary>By KVM's word at the last exit, else by the state where that is at hand; in doubt no, and KVM says when (KVM_EXIT_IRQ_WINDOW_OPEN).</summary>
    private bool CanTakeInterrupt()
    {
        if (_windowIsKnown)
            return _run->ReadyForInterruptInjection != 0;
        if (!_stateIsFresh)
            return false;
        return (_state->Rflags & Rflags.IF) != 0 && _state->InterruptShadow == InterruptShadow.None && !_state->Pending.IsPending;
    }

    public void InjectInterrupt(byte vector)
    {
        PushState();
        _state->MpState = MpState.Runnable;
        uint irq = vector;
        if (LinuxCalls.Ioctl(_fd, Kvm.Interrupt, &irq) < 0)
            _host.ReportFailure($"KVM refused interrupt {vector}: {LinuxCalls.ErrorText()}.");
        (_stateIsFresh, _windowIsKnown, _injected) = (false, false, vector);
    }

    public void Kick()
    {
        int thread = Volatile.Read(ref _thread);
        if (thread != 0)
            _ = LinuxCalls.TgKill(Environment.ProcessId, thread, LinuxCalls.KickSignal);
    }

    private void BindThread()
    {
        int tid = LinuxCalls.GetTid();
        if (_thread == tid)
            return;
        // glibc's sigset_t has 1024 bits, of which the kernel knows 64.
        ulong* set = stackalloc ulong[16];
        set[0] = 1ul << (LinuxCalls.KickSignal - 1);
        _ = LinuxCalls.PthreadSigmask(LinuxCalls.SigBlock, set, null);
        Volatile.Write(ref _thread, tid);
    }

    private static void DrainKick()
    {
        ulong* set = stackalloc ulong[16];
        set[0] = 1ul << (LinuxCalls.KickSignal - 1);
        long* now = stackalloc long[2];
        now[0] = now[1] = 0;
        while (LinuxCalls.SigTimedWait(set, null, now) > 0)
        {
        }
    }

    private void LetKickSignalThrough()
    {
        // struct kvm_signal_mask: length, then the mask that holds during KVM_RUN.
        byte* argument = stackalloc byte[12];
        *(uint*)argument = 8;
        *(ulong*)(argument + 4) = 0;
        KvmDevice.Must(LinuxCalls.Ioctl(_fd, Kvm.SetSignalMask, argument), "the signal mask");
    }

    private void SetDebug(uint control)
    {
        var debug = new KvmGuestDebug { Control = control };
        PushState();
        KvmDevice.Must(LinuxCalls.Ioctl(_fd, Kvm.SetGuestDebug, &debug), "single-stepping");
    }

    public void SynchronizeState()
    {
        if (_stateIsFresh || _stateIsChanged)
            return;
        KvmStateCopy.Read(_fd, _msrs, _state, LocalApic is not null);
        _tsc.Read(_state);
        _stateIsFresh = true;
    }

    public void CommitState() => _stateIsChanged = true;

    /// <summary>Before the machine runs on, while no vCPU does: state and TSC are in KVM, so that no other vCPU's INIT, SIPI or clock finds an older one.</summary>
    public void Prepare()
    {
        PushState();
        _tsc.Follow();
    }

    /// <summary>A guest with kvmclock hears that it stood still, so that its watchdogs don't bark; refused where it has none.</summary>
    public void TellOfPause() => _ = LinuxCalls.Ioctl(_fd, Kvm.ClockControl, (nuint)0);

    private void PushState()
    {
        if (!_stateIsChanged)
            return;
        KvmStateCopy.Write(_fd, _msrs, _state, bootstrap: Index == 0, LocalApic is not null);
        _tsc.Write(_state);
        (_stateIsChanged, _windowIsKnown) = (false, false);
        _stateIsFresh = true;
    }

    public bool TryTranslate(ulong linear, out ulong gpa)
    {
        SynchronizeState();
        return KvmPageWalk.TryTranslate(_partition, _state, linear, out gpa);
    }

    public void Dispose()
    {
        if (_disposed)
            return;
        _disposed = true;
        if (_run is not null)
            _ = LinuxCalls.Munmap(_run, _runSize);
        _statistics?.Dispose();
        _ = LinuxCalls.Close(_fd);
        NativeMemory.AlignedFree(_state);
        NativeMemory.Free(_counters);
    }
}
