using System.Collections.Concurrent;
using System.Runtime.ExceptionServices;

namespace VirtPS.Engine;

/// <summary>The one thread on which a machine's life changes: whoever asks, requests are served one after another.</summary>
internal sealed class ControlThread : IDisposable
{
    private readonly BlockingCollection<Action> _queue = [];
    private readonly Thread _thread;

    public ControlThread(string name)
    {
        _thread = new Thread(Run) { Name = name, IsBackground = true };
        _thread.Start();
    }

    /// <summary>Runs <paramref name="work"/> later. Work that throws is the caller's fault: it must deal with its own errors.</summary>
    public void Post(Action work)
    {
        try
        {
            _queue.Add(work);
        }
        catch (InvalidOperationException)
        {
            // The machine has been disposed: there is nothing left that the work could change.
        }
    }

    /// <summary>Runs <paramref name="work"/> and waits; its exception comes back here. On the control thread itself it runs at once.</summary>
    public T Invoke<T>(Func<T> work)
    {
        if (Thread.CurrentThread == _thread)
            return work();
        var done = new TaskCompletionSource<T>(TaskCreationOptions.RunContinuationsAsynchronously);
        _queue.Add(() =>
        {
            try
            {
                done.SetResult(work());
            }
            catch (Exception e)
            {
                done.SetException(e);
            }
        });
        try
        {
            return done.Task.GetAwaiter().GetResult();
        }
        catch (Exception e)
        {
            ExceptionDispatchInfo.Throw(e);
            throw;
        }
    }

    public void Dispose()
    {
        _queue.CompleteAdding();
        if (Thread.CurrentThread != _thread)
            _thread.Join();
    }

    private void Run()
    {
        foreach (Action work in _queue.GetConsumingEnumerable())
            work();
    }
}
