using System.Collections.Concurrent;
using VirtPS.Engine.Host;

namespace VirtPS.Engine;

/// <summary>The machine's one thread for everything that comes to devices from outside the vCPUs: alarms of the clock and posted completions, both under the device lock.</summary>
internal sealed class MachineTimer : IDisposable
{
    private readonly MachineClock _clock;
    private readonly DeviceLock _gate;
    private readonly NondeterminismSource _source;
    private readonly IHostPlatform _platform;
    private readonly Action<Exception> _failed;
    private readonly HostEvent _wake;
    private readonly ConcurrentQueue<Action> _posted = new();
    private readonly Thread _thread;
    private bool _delivering;
    private volatile bool _stop;

    public MachineTimer(MachineClock clock, DeviceLock gate, NondeterminismSource source, IHostPlatform platform, Action<Exception> failed)
    {
        (_clock, _gate, _source, _platform, _failed) = (clock, gate, source, platform, failed);
        _wake = platform.CreateEvent();
        clock.Rescheduled = _wake.Set;
        _thread = new Thread(Run) { Name = "vm-timer", IsBackground = true };
    }

    public void Start() => _thread.Start();

    /// <summary>Any thread: <paramref name="work"/> runs under the device lock soon, or after <see cref="Resume"/>.</summary>
    public void Post(Action work)
    {
        _posted.Enqueue(work);
        _wake.Set();
    }

    /// <summary>Under the device lock: from now on nothing is delivered.</summary>
    public void Hold() => _delivering = false;

    /// <summary>Under the device lock: deliver again.</summary>
    public void Resume()
    {
        _delivering = true;
        _wake.Set();
    }

    /// <summary>Under the device lock: delivers what is posted now, though held.</summary>
    public void DrainPosted()
    {
        while (_posted.TryDequeue(out Action? work))
            _source.Deliver(work, _clock.Now);
    }

    public void Dispose()
    {
        _stop = true;
        _wake.Set();
        if (_thread.IsAlive && Thread.CurrentThread != _thread)
            _thread.Join();
        _clock.Rescheduled = null;
        _wake.Dispose();
    }

    private void Run()
    {
        _platform.PrepareTimingThread();
        while (!_stop)
        {
            ulong wait = _clock.UntilNextAlarm();
            if (wait != 0)
                _wake.Wait(wait);
            if (_stop)
                return;
            try
            {
                using (_gate.Hold())
                    Deliver();
            }
            catch (Exception e)
            {
                // A device model's fault: the machine stops with it as its reason.
                _failed(e);
            }
        }
    }

    private void Deliver()
    {
        if (!_delivering)
            return;
        DrainPosted();
        _clock.RunDueAlarms();
    }
}
