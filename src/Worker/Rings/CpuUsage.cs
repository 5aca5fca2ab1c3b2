using System.Diagnostics;
using VirtPS.Worker.Machines;

namespace VirtPS.Worker.Rings;

/// <summary>How busy the machine's vCPUs were during about the last second, from the time they spent in guest code. One timer a second; thread-safe.</summary>
internal sealed class CpuUsage : IDisposable
{
    private readonly IWorkerMachine _machine;
    private readonly Timer _timer;
    private long _lastTime;
    private TimeSpan _lastBusy;
    private int _percent;

    public CpuUsage(IWorkerMachine machine)
    {
        _machine = machine;
        _lastTime = Stopwatch.GetTimestamp();
        _timer = new Timer(_ => Sample(), null, TimeSpan.FromSeconds(1), TimeSpan.FromSeconds(1));
    }

    /// <summary>0–100.</summary>
    public int Percent => Volatile.Read(ref _percent);

    public void Dispose() => _timer.Dispose();

    private void Sample()
    {
        long now = Stopwatch.GetTimestamp();
        TimeSpan busy = _machine.MeasureRings().Aggregate(TimeSpan.Zero, (sum, m) => sum + m.RunTime);
        double wall = Stopwatch.GetElapsedTime(_lastTime, now).TotalSeconds * _machine.VcpuCount;
        double share = wall <= 0 ? 0 : (busy - _lastBusy).TotalSeconds / wall;
        (_lastTime, _lastBusy) = (now, busy);
        Volatile.Write(ref _percent, (int)Math.Round(Math.Clamp(share, 0, 1) * 100));
    }
}
