using VirtPS.Engine.Enlightenments;
using VirtPS.Engine.Host;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Plugins;
using VirtPS.X86;

namespace VirtPS.Engine.Running;

internal enum RunnerState
{
    /// <summary>Its thread has not been started.</summary>
    Created,

    Running,

    /// <summary>Between two instructions, until told to go on.</summary>
    Paused,

    /// <summary>Its thread has ended.</summary>
    Finished,
}

/// <summary>A vCPU's own thread: enters guest code, decides on every exit, sleeps while it is halted.</summary>
internal sealed unsafe class VcpuRunner : IVcpuControl, IDisposable
{
    private const uint LocalApicBit = (uint)VcpuRequests.LocalApic, ExitBit = (uint)VcpuRequests.Exit, NmiBit = (uint)VcpuRequests.Nmi,
        InterruptBit = (uint)VcpuRequests.Interrupt;

    private readonly object _control = new();
    private readonly Queue<Action> _tasks = new();
    private readonly Board _board;
    private readonly NondeterminismSource _source;
    private ulong _runningSince;
    private ulong _haltedSince;
    private readonly IHostPlatform _platform;
    private readonly IRunnerOwner _owner;
    private readonly HostEvent _wake;
    private readonly Thread _thread;

    // Something for ServeControl; set before VcpuRequests.Exit is raised, looked at after it was cleared.
    private int _attention;
    private int _sleeping;
    private long _steps;
    private bool _pause;
    private bool _stop;
    private bool _shutdownReported;

    public VcpuRunner(IVcpu vcpu, VcpuHost host, Board board, NondeterminismSource source, IHostPlatform platform, IRunnerOwner owner)
    {
        (Vcpu, Host, _board, _source, _platform, _owner) = (vcpu, host, board, source, platform, owner);
        State = vcpu.State;
        _wake = platform.CreateEvent();
        _thread = new Thread(ThreadMain) { Name = $"vcpu{vcpu.Index}", IsBackground = true };
    }

    public IVcpu Vcpu { get; }

    public VcpuHost Host { get; }

    public VcpuState* State { get; }

    public int Index => Vcpu.Index;

    /// <summary>The vCPU's side of KVM's interface; null where the machine does not answer it.</summary>
    public KvmVcpu? Enlightenment
    {
        get => Host.Enlightenment;
        set => Host.Enlightenment = value;
    }

    public RunnerState Phase { get; private set; }

    /// <summary>Why guest code was last left; null before the first exit.</summary>
    public VcpuExit? LastExit { get; private set; }

    /// <summary>Any thread: sets request bits and makes the vCPU look at them.</summary>
    public void Request(VcpuRequests bits)
    {
        Interlocked.Or(ref State->Requests, (uint)bits);
        Vcpu.Kick();
        if (Volatile.Read(ref _sleeping) != 0)
            _wake.Set();
    }

    /// <summary>Level of the interrupt request. Any thread.</summary>
    public void SetInterrupt(bool pending)
    {
        if (!pending)
            Interlocked.And(ref State->Requests, ~InterruptBit);
        else if ((Volatile.Read(ref State->Requests) & InterruptBit) == 0)
            Request(VcpuRequests.Interrupt);
    }

    public void Start(bool paused)
    {
        lock (_control)
        {
            _pause = paused;
            _attention = paused ? 1 : 0;
            Phase = paused ? RunnerState.Paused : RunnerState.Running;
        }

        _thread.Start();
    }

    /// <summary>Asks to pause; <see cref="WaitPaused"/> waits for it. On the vCPU's own thread: it pauses before its next instruction.</summary>
    public void RequestPause()
    {
        lock (_control)
            _pause = true;
        Attend();
    }

    /// <summary>False when it did not stop in time: the backend hangs.</summary>
    public bool WaitPaused(TimeSpan timeout)
    {
        long end = Environment.TickCount64 + (long)timeout.TotalMilliseconds;
        lock (_control)
        {
            while (Phase == RunnerState.Running)
            {
                long left = end - Environment.TickCount64;
                if (left <= 0 || !Monitor.Wait(_control, (int)left))
                    return Phase != RunnerState.Running;
            }
        }

        return true;
    }

    public void Resume()
    {
        lock (_control)
        {
            _pause = false;
            // At once and here, so that a pause that follows waits for the thread to come by again.
            if (Phase == RunnerState.Paused)
                Phase = RunnerState.Running;
        }

        Attend();
    }

    /// <summary>From a pause: executes so many instructions one at a time and pauses again; <see cref="EndSteps"/> tells how many were left when it paused for another reason.</summary>
    public void Step(long count)
    {
        Volatile.Write(ref _steps, count);
        Resume();
    }

    public long EndSteps() => Interlocked.Exchange(ref _steps, 0);

    /// <summary>Asks the thread to end.</summary>
    public void RequestStop()
    {
        lock (_control)
            _stop = true;
        Attend();
    }

    /// <summary>False when the thread did not end in time.</summary>
    public bool WaitStopped(TimeSpan timeout) => Phase == RunnerState.Created || _thread.Join(timeout);

    /// <summary>Runs <paramref name="function"/> on the vCPU's thread between two instructions, or here when the thread is not there; waits for its result. Never while holding the device lock.</summary>
    public T Invoke<T>(Func<IVcpu, T> function)
    {
        if (Thread.CurrentThread == _thread)
            return function(Vcpu);
        var done = new TaskCompletionSource<T>(TaskCreationOptions.RunContinuationsAsynchronously);
        lock (_control)
        {
            if (Phase is RunnerState.Created or RunnerState.Finished)
                return function(Vcpu);
            _tasks.Enqueue(() =>
            {
                try
                {
                    done.SetResult(function(Vcpu));
                }
                catch (Exception e)
                {
                    done.SetException(e);
                }
            });
        }

        Attend();
        return done.Task.GetAwaiter().GetResult();
    }

    /// <summary>After a reset or restore from outside, with the vCPU stopped: nothing of the past is remembered.</summary>
    public void StateReplaced()
    {
        _shutdownReported = false;
        Host.RefreshApicPage();
        Interlocked.Or(ref State->Requests, LocalApicBit);
    }

    public void Dispose()
    {
        RequestStop();
        WaitStopped(Timeout.InfiniteTimeSpan);
        Vcpu.Dispose();
        _wake.Dispose();
    }

    private void Attend()
    {
        Volatile.Write(ref _attention, 1);
        Request(VcpuRequests.Exit);
    }

    private void ThreadMain()
    {
        _board.Gate.AdoptCurrentThread();
        _platform.PrepareTimingThread();
        Enlightenment?.Begin(_platform);
        try
        {
            while (ServeControl())
                RunOnce();
        }
        catch (Exception e)
        {
            _owner.OnFailure($"vCPU {Index} failed: {e.Message}", e);
        }
        finally
        {
            Enlightenment?.End();
            _board.Gate.ReleaseThread();
            Finish();
        }
    }

    private void Finish()
    {
        lock (_control)
        {
            Phase = RunnerState.Finished;
            while (_tasks.TryDequeue(out Action? task))
                task();
            Monitor.PulseAll(_control);
        }
    }

    /// <summary>Pauses, runs tasks. False: the thread must end.</summary>
    private bool ServeControl()
    {
        Interlocked.And(ref State->Requests, ~ExitBit);
        if (Volatile.Read(ref _attention) == 0)
            return true;
        while (true)
        {
            Action? task;
            lock (_control)
            {
                if (_stop)
                    return false;
                if (!_tasks.TryDequeue(out task))
                {
                    if (!_pause)
                    {
                        Volatile.Write(ref _attention, 0);
                        Phase = RunnerState.Running;
                        return true;
                    }

                    Phase = RunnerState.Paused;
                    Monitor.PulseAll(_control);
                }
            }

            if (task is not null)
                task();
            else
                SleepUntil(ExitBit);
            Interlocked.And(ref State->Requests, ~ExitBit);
        }
    }

    private void RunOnce()
    {
        if ((Volatile.Read(ref State->Requests) & LocalApicBit) != 0)
        {
            Interlocked.And(ref State->Requests, ~LocalApicBit);
            Host.LocalApic?.Process();
            _board.Platform?.Process(Index);
        }

        if (!MayEnter())
        {
            SleepHalted();
            return;
        }

        ulong start = _source.HostNanoseconds;
        Volatile.Write(ref _runningSince, start);
        bool step = Volatile.Read(ref _steps) > 0;
        Enlightenment?.BeforeRun(start);
        VcpuExit exit = step ? Vcpu.SingleStep() : Vcpu.Run();
        Enlightenment?.AfterRun();
        Volatile.Write(ref _runningSince, 0);
        Vcpu.Counters->RunNanoseconds += _source.HostNanoseconds - start;
        LastExit = exit;
        if ((uint)exit < 16)
            Vcpu.Counters->Exits[(int)exit]++;
        if (step && (exit is VcpuExit.SingleStep or VcpuExit.Halt) && Interlocked.Decrement(ref _steps) == 0)
            RequestPause();
        switch (exit)
        {
            case VcpuExit.SingleStep when step:
            case VcpuExit.Kicked:
            case VcpuExit.Halt:
                break;
            case VcpuExit.InterruptWindow:
                Inject();
                break;
            case VcpuExit.Shutdown:
                ReportShutdown();
                break;
            case VcpuExit.Failed:
                _owner.OnFailure($"vCPU {Index}: the {nameof(IVcpu)} cannot go on.", null);
                RequestPause();
                break;
            default:
                _owner.OnFailure($"vCPU {Index} left guest code with '{exit}', which Run never gives.", null);
                RequestPause();
                break;
        }
    }

    private void ReportShutdown()
    {
        if (_shutdownReported)
            return;
        _shutdownReported = true;
        RequestPause();
        _owner.OnTripleFault(this);
    }

    /// <summary>A partition with its own controllers knows alone what wakes a halted processor; only one that has shut down stays out.</summary>
    private bool MayEnter() => _board.PartitionInterrupts is not null ? State->MpState != MpState.Shutdown : State->MpState == MpState.Runnable || WakesUp();

    /// <summary>Whether a halted processor has a reason to go on (SDM Vol. 2A, HLT); if so it is made runnable.</summary>
    private bool WakesUp()
    {
        if (State->MpState != MpState.Halted)
            return false;
        if ((Volatile.Read(ref State->Requests) & WakeBits()) == 0 && !State->Pending.IsPending && Enlightenment?.TakeKick() != true)
            return false;
        State->MpState = MpState.Runnable;
        return true;
    }

    private uint WakeBits() =>
        ((State->Rflags & Rflags.IF) != 0 ? InterruptBit : 0) | (State->NmiBlocked ? 0 : NmiBit);

    private void SleepHalted()
    {
        if (State->MpState == MpState.Shutdown)
            ReportShutdown();
        ulong start = _source.HostNanoseconds;
        Volatile.Write(ref _haltedSince, start);
        Enlightenment?.FallAsleep();
        SleepUntil(ExitBit | LocalApicBit | (State->MpState == MpState.Halted ? WakeBits() : 0));
        Enlightenment?.WakeUp();
        Volatile.Write(ref _haltedSince, 0);
        Vcpu.Counters->HaltedNanoseconds += _source.HostNanoseconds - start;
    }

    /// <summary>
    /// Nanoseconds inside <see cref="IVcpu.Run"/>, the present stay included: a guest that spins with interrupts off never comes back by itself. Where the partition itself
    /// puts halted processors to sleep, the processor time that was used there. Any thread.
    /// </summary>
    public ulong RunNanoseconds => Vcpu.ProcessorNanoseconds ?? StayedNanoseconds;

    /// <summary>Nanoseconds asleep in HLT, the present sleep included. Any thread.</summary>
    public ulong HaltedNanoseconds
    {
        get
        {
            ulong slept = Vcpu.Counters->HaltedNanoseconds + Since(ref _haltedSince);
            if (Vcpu.ProcessorNanoseconds is not { } used)
                return slept;
            ulong stayed = StayedNanoseconds;
            return slept + (stayed > used ? stayed - used : 0);
        }
    }

    private ulong StayedNanoseconds => Vcpu.Counters->RunNanoseconds + Since(ref _runningSince);

    private ulong Since(ref ulong start)
    {
        ulong since = Volatile.Read(ref start), now = _source.HostNanoseconds;
        return since == 0 || now < since ? 0 : now - since;
    }

    /// <summary>Sleeps until one of these requests is raised.</summary>
    private void SleepUntil(uint bits)
    {
        if ((Volatile.Read(ref State->Requests) & bits) != 0)
            return;
        _board.Gate.SetAsleep(true);
        Volatile.Write(ref _sleeping, 1);
        // Request sets a bit, then looks at _sleeping; here it is the other way round.
        Interlocked.MemoryBarrier();
        while ((Volatile.Read(ref State->Requests) & bits) == 0)
            _wake.Wait(ulong.MaxValue);
        Volatile.Write(ref _sleeping, 0);
        _board.Gate.SetAsleep(false);
    }

    private void Inject()
    {
        int vector = Acknowledge();
        if (vector < 0)
            return;
        _source.InterruptDelivered(Index, (byte)vector, State->InstructionsRetired);
        Vcpu.InjectInterrupt((byte)vector);
    }

    private int Acknowledge()
    {
        if (Host.LocalApic is { } apic)
        {
            int vector = apic.Acknowledge();
            SetInterrupt(apic.HasInterrupt);
            Enlightenment?.Delivered();
            return vector;
        }

        if (Index == 0 && _board.ExternalInterrupts is { } source)
            return source.Acknowledge();
        SetInterrupt(false);
        return -1;
    }
}
