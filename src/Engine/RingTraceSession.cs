using VirtPS.Sdk.Rings;

namespace VirtPS.Engine;

/// <summary>A running trace of ring transitions. One reader at a time; dispose to end it.</summary>
public sealed class RingTraceSession : IDisposable
{
    private readonly Machine _machine;
    private readonly (int Vcpu, RingEventBuffer Buffer)[] _buffers;
    private bool _disposed;

    internal RingTraceSession(Machine machine, (int Vcpu, RingEventBuffer Buffer)[] buffers) => (_machine, _buffers) = (machine, buffers);

    /// <summary>Events lost so far because the reader was too slow.</summary>
    public ulong Dropped => _buffers.Aggregate(0ul, (n, b) => n + b.Buffer.Dropped);

    /// <summary>Moves what is there, each vCPU's events in order, up to the length of <paramref name="destination"/>; returns how many. Does not wait.</summary>
    public int Read(Span<RingEvent> destination)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        int n = 0;
        foreach ((_, RingEventBuffer buffer) in _buffers)
            n += buffer.Read(destination[n..]);
        return n;
    }

    /// <summary>Ends the trace; the vCPUs let go of their buffers before this returns.</summary>
    public void Dispose()
    {
        if (_disposed)
            return;
        _disposed = true;
        _machine.EndTrace(this, _buffers);
        foreach ((_, RingEventBuffer buffer) in _buffers)
            buffer.Dispose();
    }
}
