namespace VirtPS.Sdk.Time;

/// <summary>
/// VM time: nanoseconds since power-on, stopped while the VM is paused. TSC, local APIC timer, PIT and PM timer all derive from it; the RTC adds a date
/// to it. Alarms fire under the machine's device lock.
/// </summary>
public abstract class VirtualClock
{
    /// <summary>VM time in nanoseconds, monotonic. Any thread.</summary>
    public abstract ulong Now { get; }

    /// <summary>UTC as the guest's RTC should start from, at VM time 0.</summary>
    public abstract DateTimeOffset PowerOnUtc { get; }

    /// <summary>A one-shot alarm, disarmed. <paramref name="callback"/> runs under the device lock, never earlier than the deadline.</summary>
    public abstract Alarm CreateAlarm(string name, Action callback);
}

/// <summary>A one-shot alarm of a <see cref="VirtualClock"/>. Any thread may set it.</summary>
public abstract class Alarm : IDisposable
{
    /// <summary>VM time in nanoseconds at which it fires; null = disarmed.</summary>
    public abstract ulong? Deadline { get; set; }

    public abstract void Dispose();
}
