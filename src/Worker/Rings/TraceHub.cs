using System.Runtime.InteropServices;
using System.Threading.Channels;
using VirtPS.Sdk.Rings;
using VirtPS.Worker.Machines;

namespace VirtPS.Worker.Rings;

/// <summary>
/// Gives the machine's ring events to any number of followers. While there is one, a thread takes them from the machine and copies them into each follower's bounded
/// queue; a follower that is too slow loses events, and is told how many. Thread-safe.
/// </summary>
internal sealed class TraceHub(IWorkerMachine machine) : IDisposable
{
    /// <summary>21,845 events: the largest record.</summary>
    private const int BatchEvents = (1 << 20) / 48;

    private readonly Lock _gate = new();
    private readonly List<TraceFollower> _followers = [];
    private ITraceSession? _session;
    private Thread? _pump;
    private ulong _droppedBefore;
    private bool _includesSameRing;
    private bool _ended;

    /// <summary>Starts following. The follower's queue completes when the machine ends.</summary>
    public TraceFollower Follow(bool includeSameRing, IReadOnlyList<int>? vcpus)
    {
        lock (_gate)
        {
            var follower = new TraceFollower(includeSameRing, vcpus);
            if (_ended)
            {
                follower.Complete();
                return follower;
            }

            if (_session is null || (includeSameRing && !_includesSameRing))
                Open(includeSameRing);
            follower.DroppedAtStart = TotalDropped;
            _followers.Add(follower);
            if (_pump is null)
            {
                _pump = new Thread(Pump) { IsBackground = true, Name = "ring-trace" };
                _pump.Start();
            }

            return follower;
        }
    }

    public void Unfollow(TraceFollower follower)
    {
        lock (_gate)
        {
            _followers.Remove(follower);
            if (_followers.Count == 0)
                Close();
        }
    }

    /// <summary>The machine has ended: gives out what is left.</summary>
    public void Complete()
    {
        Thread? pump;
        lock (_gate)
        {
            _ended = true;
            pump = _pump;
        }

        pump?.Join();
        lock (_gate)
        {
            foreach (TraceFollower follower in _followers)
                follower.Complete();
            Close();
        }
    }

    public void Dispose() => Complete();

    private ulong TotalDropped => _droppedBefore + (_session?.Dropped ?? 0);

    private void Open(bool includeSameRing)
    {
        Close();
        _session = machine.StartTrace(includeSameRing);
        _includesSameRing = includeSameRing;
    }

    private void Close()
    {
        if (_session is null)
            return;
        _droppedBefore += _session.Dropped;
        _session.Dispose();
        _session = null;
    }

    private void Pump()
    {
        var events = new RingEvent[BatchEvents];
        while (true)
        {
            int n;
            lock (_gate)
            {
                if (_session is null)
                {
                    _pump = null;
                    return;
                }

                n = _session.Read(events);
                ulong dropped = TotalDropped;
                foreach (TraceFollower follower in _followers)
                    follower.Offer(events.AsSpan(0, n), dropped);
                if (n == 0 && _ended)
                    return;
            }

            // A full batch means that more is waiting; else gather for a moment.
            if (n < events.Length)
                Thread.Sleep(n == 0 ? 2 : 1);
        }
    }
}

/// <summary>One follower's queue of batches.</summary>
internal sealed class TraceFollower(bool includeSameRing, IReadOnlyList<int>? vcpus)
{
    /// <summary>Events that may wait for a follower: about two seconds of a busy machine, 32 MiB.</summary>
    private const int MaxWaiting = 700_000;

    private readonly Channel<(byte[] Events, ulong Dropped)> _queue = Channel.CreateUnbounded<(byte[], ulong)>(new UnboundedChannelOptions { SingleReader = true });
    private int _waiting;
    private ulong _lost;
    private ulong _reported;

    /// <summary>The machine's drop count when the following began.</summary>
    public ulong DroppedAtStart { get; set; }

    /// <summary>Batches, as bytes of <see cref="RingEvent"/>, with the total of events lost so far.</summary>
    public ChannelReader<(byte[] Events, ulong Dropped)> Batches => _queue.Reader;

    public void Offer(ReadOnlySpan<RingEvent> events, ulong machineDropped)
    {
        ReadOnlySpan<RingEvent> wanted = includeSameRing && vcpus is null ? events : Filter(events);
        bool fits = Volatile.Read(ref _waiting) + wanted.Length <= MaxWaiting;
        if (!fits)
            _lost += (ulong)wanted.Length;
        ulong dropped = machineDropped - DroppedAtStart + _lost;
        if (fits && wanted.Length > 0)
        {
            Interlocked.Add(ref _waiting, wanted.Length);
            Write(MemoryMarshal.AsBytes(wanted).ToArray(), dropped);
        }
        else if (dropped != _reported && Volatile.Read(ref _waiting) == 0)
        {
            Write([], dropped);
        }
    }

    /// <summary>The reader has taken this batch off.</summary>
    public void Taken(byte[] events) => Interlocked.Add(ref _waiting, -events.Length / Marshal.SizeOf<RingEvent>());

    public void Complete() => _queue.Writer.TryComplete();

    private void Write(byte[] events, ulong dropped)
    {
        _reported = dropped;
        _queue.Writer.TryWrite((events, dropped));
    }

    private RingEvent[] Filter(ReadOnlySpan<RingEvent> events)
    {
        var wanted = new List<RingEvent>(events.Length);
        foreach (RingEvent e in events)
        {
            if ((includeSameRing || e.FromRing != e.ToRing) && (vcpus is null || vcpus.Contains(e.Vcpu)))
                wanted.Add(e);
        }

        return [.. wanted];
    }
}
