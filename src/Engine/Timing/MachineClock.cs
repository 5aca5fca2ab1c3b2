using VirtPS.Sdk.Time;

namespace VirtPS.Engine;

/// <summary>
/// A machine's VM time: host time since power-on minus the time it was paused. Starts stopped at 0. <see cref="RunDueAlarms"/> must be called by whoever drives it
/// (the machine's timer thread, or a test), under the device lock.
/// </summary>
public sealed class MachineClock : VirtualClock
{
    private readonly NondeterminismSource _source;
    private readonly Lock _gate = new();
    private readonly List<MachineAlarm> _alarms = [];
    private Epoch _epoch = new(0, 0, false);
    private DateTimeOffset _powerOnUtc;
    private ulong _next = ulong.MaxValue;
    private uint _pass;

    /// <param name="source">Host time.</param>
    /// <param name="tscFrequency">Machine TSC ticks per second of VM time.</param>
    public MachineClock(NondeterminismSource source, ulong tscFrequency = 1_000_000_000)
    {
        ArgumentOutOfRangeException.ThrowIfZero(tscFrequency);
        _source = source;
        _powerOnUtc = source.UtcNow;
        Tsc = new TscScale(tscFrequency);
    }

    /// <summary>How the machine TSC follows VM time. A guest's TSC adds the vCPU's own offset.</summary>
    public TscScale Tsc { get; }

    /// <summary>The machine TSC now.</summary>
    public ulong MachineTsc => Tsc.ToTicks(Now);

    public override ulong Now
    {
        get
        {
            Epoch e = Volatile.Read(ref _epoch);
            return e.Running ? e.VmStart + (_source.HostNanoseconds - e.HostStart) : e.VmStart;
        }
    }

    public override DateTimeOffset PowerOnUtc => _powerOnUtc;

    public bool IsRunning => Volatile.Read(ref _epoch).Running;

    /// <summary>Called (on any thread) when the time until the next alarm became shorter. Set once, before use.</summary>
    public Action? Rescheduled { get; set; }

    /// <summary>Lets VM time run on from where it stands.</summary>
    public void Start()
    {
        lock (_gate)
        {
            if (_epoch.Running)
                return;
            Volatile.Write(ref _epoch, new Epoch(_source.HostNanoseconds, _epoch.VmStart, true));
        }

        Rescheduled?.Invoke();
    }

    /// <summary>Stops VM time.</summary>
    public void Stop()
    {
        lock (_gate)
            Volatile.Write(ref _epoch, new Epoch(0, Now, false));
    }

    /// <summary>Sets a stopped clock: for restore.</summary>
    public void Set(ulong now, DateTimeOffset powerOnUtc)
    {
        lock (_gate)
        {
            if (_epoch.Running)
                throw new InvalidOperationException("The clock runs.");
            _powerOnUtc = powerOnUtc;
            Volatile.Write(ref _epoch, new Epoch(0, now, false));
        }
    }

    /// <summary>Nanoseconds until the next alarm is due (0 = now); <see cref="ulong.MaxValue"/> when none is set or time stands still.</summary>
    public ulong UntilNextAlarm()
    {
        lock (_gate)
        {
            if (_next == ulong.MaxValue || !_epoch.Running)
                return ulong.MaxValue;
            ulong now = Now;
            return _next > now ? _next - now : 0;
        }
    }

    /// <summary>Calls back every alarm that is due, earliest first. Under the device lock. An alarm that its callback sets to a time that has passed runs in the next call.</summary>
    public void RunDueAlarms()
    {
        ulong now = Now;
        uint pass = ++_pass;
        while (TakeDue(now, pass) is { } alarm)
            alarm.Callback();
    }

    public override Alarm CreateAlarm(string name, Action callback)
    {
        var alarm = new MachineAlarm(this, name, callback);
        lock (_gate)
            _alarms.Add(alarm);
        return alarm;
    }

    private MachineAlarm? TakeDue(ulong now, uint pass)
    {
        lock (_gate)
        {
            if (_next > now)
                return null;
            // A machine has some tens of alarms, set far more often than they fire: looking through all of them here beats keeping them sorted.
            MachineAlarm? first = null;
            ulong next = ulong.MaxValue;
            foreach (MachineAlarm a in _alarms)
            {
                next = Math.Min(next, a.DueAt);
                if (a.DueAt <= now && a.LastPass != pass && (first is null || a.DueAt < first.DueAt))
                    first = a;
            }

            _next = next;
            if (first is null)
                return null;
            first.DueAt = ulong.MaxValue;
            first.LastPass = pass;
            return first;
        }
    }

    private void Arm(MachineAlarm alarm, ulong due)
    {
        bool sooner;
        lock (_gate)
        {
            alarm.DueAt = due;
            // When the earliest moves away _next stays too early: one wake-up for nothing, in which it is computed anew.
            sooner = due < _next;
            if (sooner)
                _next = due;
            sooner &= _epoch.Running;
        }

        if (sooner)
            Rescheduled?.Invoke();
    }

    private void Remove(MachineAlarm alarm)
    {
        lock (_gate)
            _alarms.Remove(alarm);
    }

    private sealed record Epoch(ulong HostStart, ulong VmStart, bool Running);

    private sealed class MachineAlarm(MachineClock clock, string name, Action callback) : Alarm
    {
        // MaxValue = disarmed.
        internal ulong DueAt = ulong.MaxValue;

        // The call of RunDueAlarms in which it last fired: once in each, or one that is always due would starve the rest.
        internal uint LastPass;

        internal Action Callback { get; } = callback;

        public override ulong? Deadline
        {
            get
            {
                lock (clock._gate)
                    return DueAt == ulong.MaxValue ? null : DueAt;
            }

            set => clock.Arm(this, value ?? ulong.MaxValue);
        }

        public override void Dispose() => clock.Remove(this);

        public override string ToString() => name;
    }
}
