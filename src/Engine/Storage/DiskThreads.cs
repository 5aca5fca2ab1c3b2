using System.Collections.Concurrent;

namespace VirtPS.Engine.Storage;

/// <summary>
/// The threads of one disk: file calls block, and neither the vCPUs nor the thread pool may wait for them. Takes at most <see cref="Capacity"/> requests at a time; who
/// comes later waits without a thread. Threads start when work does, and end with <see cref="DisposeAsync"/> after all that was accepted.
/// </summary>
internal sealed class DiskThreads : IAsyncDisposable
{
    public const int Capacity = 256;
    private const int MaxThreads = 4;

    private readonly string _name;
    private readonly BlockingCollection<Job> _jobs = [];
    private readonly SemaphoreSlim _room = new(Capacity);
    private readonly List<Thread> _threads = [];
    private readonly Lock _gate = new();
    private int _idle;
    private bool _closed;

    public DiskThreads(string name) => _name = name;

    /// <summary>Requests accepted and not completed.</summary>
    public int InFlight => Capacity - _room.CurrentCount;

    /// <summary>Runs <paramref name="work"/> on one of the threads. Its completion runs there, too.</summary>
    public async ValueTask RunAsync(Action work, CancellationToken cancellation)
    {
        if (!_room.Wait(0, CancellationToken.None))
            await _room.WaitAsync(cancellation).ConfigureAwait(false);
        var job = new Job(work, cancellation);
        try
        {
            Add(job);
            await job.Task.ConfigureAwait(false);
        }
        finally
        {
            _room.Release();
        }
    }

    public async ValueTask DisposeAsync()
    {
        lock (_gate)
        {
            if (_closed)
                return;
            _closed = true;
            _jobs.CompleteAdding();
        }

        await Task.Run(() => _threads.ForEach(t => t.Join())).ConfigureAwait(false);
        _jobs.Dispose();
    }

    private void Add(Job job)
    {
        lock (_gate)
        {
            ObjectDisposedException.ThrowIf(_closed, this);
            _jobs.Add(job, CancellationToken.None);
            // One more thread whenever all are busy, up to a few: the host's queue, not ours, orders what runs together.
            if (_jobs.Count <= Volatile.Read(ref _idle) || _threads.Count == MaxThreads)
                return;
            var thread = new Thread(Serve) { Name = $"{_name}-{_threads.Count}", IsBackground = true };
            _threads.Add(thread);
            thread.Start();
        }
    }

    private void Serve()
    {
        while (true)
        {
            Interlocked.Increment(ref _idle);
            bool found = _jobs.TryTake(out Job? job, Timeout.Infinite);
            Interlocked.Decrement(ref _idle);
            if (!found)
                return;
            job!.Execute();
        }
    }

    private sealed class Job(Action work, CancellationToken cancellation) : TaskCompletionSource
    {
        public void Execute()
        {
            if (cancellation.IsCancellationRequested)
            {
                SetCanceled(cancellation);
                return;
            }

            try
            {
                work();
            }
            catch (Exception e)
            {
                // Whatever it is belongs to who asked.
                SetException(e);
                return;
            }

            SetResult();
        }
    }
}
