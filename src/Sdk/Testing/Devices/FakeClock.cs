using VirtPS.Sdk.Time;

namespace VirtPS.Sdk.Testing;

/// <summary>A clock that stands still until it is told to go on. Alarms fire inside <see cref="AdvanceTo"/>, in order of their deadlines, each at its own time. One thread.</summary>
public sealed class FakeClock : VirtualClock
{
    private const int RunawayLimit = 1_000_000;
    private readonly List<FakeAlarm> _alarms = [];
    private ulong _now;
    private ulong _sequence;

    public override ulong Now => _now;

    /// <summary>What the date was at VM time 0.</summary>
    public DateTimeOffset StartUtc { get; init; } = new(2024, 2, 28, 23, 59, 50, TimeSpan.Zero);

    public override DateTimeOffset PowerOnUtc => StartUtc;

    /// <summary>Earliest armed deadline; null when no alarm is armed.</summary>
    public ulong? NextDeadline => _alarms.Min(a => a.Deadline);

    public override Alarm CreateAlarm(string name, Action callback)
    {
        FakeAlarm alarm = new(this, name, callback);
        _alarms.Add(alarm);
        return alarm;
    }

    /// <summary>Lets <paramref name="nanoseconds"/> of VM time pass.</summary>
    public void Advance(ulong nanoseconds) => AdvanceTo(_now + nanoseconds);

    /// <summary>Goes to <paramref name="time"/> (never back), firing what falls due. Throws <see cref="InvalidOperationException"/> when alarms re-arm without end.</summary>
    public void AdvanceTo(ulong time)
    {
        for (int fired = 0; ; fired++)
        {
            FakeAlarm? next = _alarms.Where(a => a.Deadline <= time).OrderBy(a => a.Deadline).ThenBy(a => a.Order).FirstOrDefault();
            if (next is null)
                break;
            if (fired == RunawayLimit)
                throw new InvalidOperationException($"Alarm '{next.Name}' re-arms itself without end at {_now} ns.");
            _now = Math.Max(_now, next.Deadline!.Value);
            next.Fire();
        }

        _now = Math.Max(_now, time);
    }

    private sealed class FakeAlarm(FakeClock clock, string name, Action callback) : Alarm
    {
        private ulong? _deadline;

        public string Name { get; } = name;

        public ulong Order { get; private set; }

        public override ulong? Deadline
        {
            get => _deadline;
            set
            {
                _deadline = value;
                Order = clock._sequence++;
            }
        }

        public void Fire()
        {
            _deadline = null;
            callback();
        }

        public override void Dispose() => clock._alarms.Remove(this);
    }
}
