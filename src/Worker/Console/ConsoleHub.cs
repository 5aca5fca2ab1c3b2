using VirtPS.Sdk;
using VirtPS.Sdk.Backends;

namespace VirtPS.Worker.Console;

/// <summary>
/// The host side of the guest's console. Output goes into a ring in memory, from there by one thread into <see cref="ConsoleLogFiles"/>; readers take it from either by its
/// position in the run's output. The guest never waits: what finds no room is lost and counted. A reader that is too slow for the bounded log loses the
/// oldest. Thread-safe.
/// </summary>
internal sealed class ConsoleHub : ICharBackend
{
    private const int RingSize = 1 << 20;
    private const int MaxInput = 64 << 10;

    /// <summary>Output that comes byte by byte is gathered for so long, so that a flood costs few wake-ups and system calls.</summary>
    private static readonly TimeSpan GatherTime = TimeSpan.FromMilliseconds(2);

    private readonly Lock _gate = new();
    private readonly byte[] _ring = new byte[RingSize];
    private readonly AutoResetEvent _wake = new(false);
    private readonly Thread _writer;
    private readonly ConsoleLogFiles _log;
    private readonly Queue<byte> _input = new();
    private TaskCompletionSource _outputChanged = NewSignal();
    private TaskCompletionSource _inputTaken = NewSignal();
    private long _written;
    private long _logged;
    private long _lost;
    private bool _writerIdle = true;
    private bool _ended;

    public ConsoleHub(ConsoleLogFiles log)
    {
        _log = log;
        _writer = new Thread(WriteLog) { IsBackground = true, Name = "console-log" };
        _writer.Start();
    }

    public Action? InputAvailable { get; set; }

    /// <summary>Bytes of output that nobody can read any more: lost in a flood, or older than what is kept.</summary>
    public long Dropped
    {
        get
        {
            // Not under our lock: the log's is held while the disk is written, and the guest must not wait for that.
            return _log.NotKept + Volatile.Read(ref _lost);
        }
    }

    /// <summary>Position behind the last byte that readers can have.</summary>
    public long End
    {
        get
        {
            lock (_gate)
                return _logged;
        }
    }

    public int Write(ReadOnlySpan<byte> data)
    {
        bool wake;
        int n;
        lock (_gate)
        {
            n = (int)Math.Min(data.Length, RingSize - (_written - _logged));
            Copy(data[..n]);
            _written += n;
            _lost += data.Length - n;
            wake = _writerIdle && n > 0;
            if (wake)
                _writerIdle = false;
        }

        if (wake)
            _wake.Set();
        return n;
    }

    public int Read(Span<byte> buffer)
    {
        int n = 0;
        TaskCompletionSource? taken = null;
        lock (_gate)
        {
            while (n < buffer.Length && _input.TryDequeue(out byte b))
                buffer[n++] = b;
            if (n > 0)
                (taken, _inputTaken) = (_inputTaken, NewSignal());
        }

        taken?.TrySetResult();
        return n;
    }

    /// <summary>Types; returns when all of it is in the queue from which the guest's device takes it. Errors: InvalidVMState when the machine ends first.</summary>
    public async Task SendAsync(ReadOnlyMemory<byte> data, CancellationToken cancellation)
    {
        while (data.Length > 0)
        {
            int n = 0;
            Task taken;
            lock (_gate)
            {
                if (_ended)
                    throw new VirtException(Client.ErrorIds.InvalidVMState, "The VM stopped before it took all of the input.");
                for (; n < data.Length && _input.Count < MaxInput; n++)
                    _input.Enqueue(data.Span[n]);
                taken = _inputTaken.Task;
            }

            data = data[n..];
            if (n > 0)
                InputAvailable?.Invoke();
            if (data.Length > 0)
                await taken.WaitAsync(cancellation).ConfigureAwait(false);
        }
    }

    /// <summary>
    /// Reads output from <paramref name="position"/>. Gives the position from which it read (later than asked when the older part is gone) and how many bytes; 0 when there
    /// is nothing yet.
    /// </summary>
    public (long Position, int Count) ReadOutput(long position, Span<byte> destination)
    {
        lock (_gate)
        {
            if (position >= _logged)
                return (position, 0);
            if (position >= _written - RingSize)
            {
                int n = (int)Math.Min(destination.Length, _logged - position);
                for (int done = 0; done < n;)
                {
                    int at = (int)((position + done) % RingSize);
                    int piece = Math.Min(n - done, RingSize - at);
                    _ring.AsSpan(at, piece).CopyTo(destination[done..]);
                    done += piece;
                }

                return (position, n);
            }
        }

        return _log.Read(position, destination);
    }

    /// <summary>Completes when there is output behind <paramref name="position"/>, or the machine has ended and there will be none. False in the latter case.</summary>
    public async Task<bool> WaitOutputAsync(long position, CancellationToken cancellation)
    {
        while (true)
        {
            Task changed;
            lock (_gate)
            {
                if (position < _logged)
                    return true;
                if (_ended)
                    return false;
                changed = _outputChanged.Task;
            }

            await changed.WaitAsync(cancellation).ConfigureAwait(false);
        }
    }

    /// <summary>The machine has ended: writes out what is there and releases whoever waits.</summary>
    public void Complete()
    {
        lock (_gate)
        {
            if (_ended)
                return;
            _ended = true;
        }

        _wake.Set();
        _writer.Join();
        _inputTaken.TrySetResult();
        _outputChanged.TrySetResult();
    }

    public void Dispose()
    {
        Complete();
        _log.Dispose();
        _wake.Dispose();
    }

    private void Copy(ReadOnlySpan<byte> data)
    {
        int at = (int)(_written % RingSize);
        int first = Math.Min(data.Length, RingSize - at);
        data[..first].CopyTo(_ring.AsSpan(at));
        data[first..].CopyTo(_ring);
    }

    private void WriteLog()
    {
        while (true)
        {
            _wake.WaitOne();
            bool ended = Volatile.Read(ref _ended);
            if (!ended)
                Thread.Sleep(GatherTime);
            while (WritePiece())
            {
            }

            if (ended)
                return;
        }
    }

    /// <summary>Moves what is in the ring into the log; false, and idle, when nothing is there.</summary>
    private bool WritePiece()
    {
        long from, to;
        lock (_gate)
        {
            (from, to) = (_logged, _written);
            if (from == to)
            {
                _writerIdle = true;
                return false;
            }
        }

        // Between _logged and _written nobody writes into the ring.
        int at = (int)(from % RingSize);
        int first = (int)Math.Min(to - from, RingSize - at);
        _log.Append(_ring.AsSpan(at, first));
        _log.Append(_ring.AsSpan(0, (int)(to - from) - first));
        TaskCompletionSource changed;
        lock (_gate)
        {
            _logged = to;
            (changed, _outputChanged) = (_outputChanged, NewSignal());
        }

        changed.TrySetResult();
        return true;
    }

    private static TaskCompletionSource NewSignal() => new(TaskCreationOptions.RunContinuationsAsynchronously);
}
