using System.Diagnostics;
using VirtPS.Sdk;

namespace VirtPS.Engine.Logging;

/// <summary>
/// One component's diary: names the component, and lets through a burst of <see cref="Burst"/> lines and then <see cref="PerSecond"/> a second; the number left
/// out is said with the next line that gets through. Errors always get through. Thread-safe.
/// </summary>
public sealed class RateLimitedLog(ILog inner, string component, Func<long>? milliseconds = null) : ILog
{
    public const int Burst = 20, PerSecond = 2;

    private readonly Lock _gate = new();
    private readonly Func<long> _milliseconds = milliseconds ?? (() => Stopwatch.GetTimestamp() / (Stopwatch.Frequency / 1000));
    private double _tokens = Burst;
    private long _last = long.MinValue;
    private long _suppressed;

    public bool IsEnabled(LogLevel level) => inner.IsEnabled(level);

    public void Write(LogLevel level, string message)
    {
        if (!inner.IsEnabled(level))
            return;
        long suppressed;
        lock (_gate)
        {
            if (!Take() && level < LogLevel.Error)
            {
                _suppressed++;
                return;
            }

            suppressed = _suppressed;
            _suppressed = 0;
        }

        inner.Write(level, suppressed == 0 ? $"{component}: {message}" : $"{component}: {message} ({suppressed} earlier lines left out)");
    }

    private bool Take()
    {
        long now = _milliseconds();
        if (_last != long.MinValue)
            _tokens = Math.Min(Burst, _tokens + ((now - _last) * PerSecond / 1000.0));
        _last = now;
        if (_tokens < 1)
            return false;
        _tokens--;
        return true;
    }
}
