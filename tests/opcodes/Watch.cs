using System.Runtime.InteropServices;

namespace VirtPS.Opcodes;

/// <summary>
/// Ends what runs on the host for longer than a second: a program that changes itself may have made an endless loop. The thread that runs gets a signal, whose handler leaves as those of faults do.
/// </summary>
internal sealed unsafe partial class Watch : IDisposable
{
    private const int Tick = 250, Patience = 4;
    private readonly int* _running;
    private readonly int _signal;
    private readonly ManualResetEventSlim _end = new();
    private readonly Thread _thread;
    private long _number;
    private int _watched;

    /// <param name="running">Not zero while a program runs.</param>
    /// <param name="signal">What it is ended by.</param>
    public Watch(int* running, int signal)
    {
        _running = running;
        _signal = signal;
        _thread = new Thread(Look) { IsBackground = true, Name = "watch" };
        _thread.Start();
    }

    /// <summary>The calling thread is about to run the next program.</summary>
    public void Next()
    {
        if (_watched == 0)
            Volatile.Write(ref _watched, CurrentThread());
        Volatile.Write(ref _number, _number + 1);
    }

    public void Dispose()
    {
        _end.Set();
        _thread.Join();
        _end.Dispose();
    }

    private void Look()
    {
        long last = 0;
        for (int same = 0; !_end.Wait(Tick);)
        {
            long now = Volatile.Read(ref _number);
            same = now == last && Volatile.Read(ref *_running) != 0 ? same + 1 : 0;
            last = now;
            if (same == Patience && SendTo(Environment.ProcessId, Volatile.Read(ref _watched), _signal) != 0)
                throw new InvalidOperationException($"tgkill, error {Marshal.GetLastPInvokeError()}.");
        }
    }

    [LibraryImport("libc", EntryPoint = "gettid")]
    private static partial int CurrentThread();

    [LibraryImport("libc", EntryPoint = "tgkill", SetLastError = true)]
    private static partial int SendTo(int process, int thread, int signal);
}
