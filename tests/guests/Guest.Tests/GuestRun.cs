using System.Text;
using VirtPS.Engine;
using VirtPS.Guests.Ringlab;
using VirtPS.Guests.RinglabXen;
using VirtPS.Sdk;
using VirtPS.Sdk.Backends;
using VirtPS.Sdk.Machine;

namespace VirtPS.Guest.Tests;

/// <summary>A whole machine in this process, running a guest, with its console as text.</summary>
internal sealed class GuestRun : IDisposable
{
    private readonly TextConsole _console = new();

    public GuestRun(BootConfiguration boot, ulong memory = 64 << 20, int processors = 1, string strategy = "Full", GuestResetAction onReset = GuestResetAction.Stop,
        IReadOnlyDictionary<string, string>? strategyOptions = null)
    {
        var configuration = new VmConfiguration
        {
            Name = "guest",
            Id = Guid.NewGuid(),
            CreationTime = DateTimeOffset.UtcNow,
            Strategy = strategy,
            StrategyOptions = strategyOptions ?? new Dictionary<string, string>(),
            Memory = memory,
            ProcessorCount = processors,
            Boot = boot,
            OnReset = onReset,
        };
        var builder = new MachineBuilder(configuration, Parts.Load()) { Log = Log, Starter = new GuestBootStarter(() => RinglabImage.Build(), () => RinglabXenImage.Build()) };
        builder.Backends.Char[BackendRegistry.Console] = _console;
        Machine = builder.Build();
    }

    public Machine Machine { get; }

    public TextLog Log { get; } = new();

    public string Output => _console.Output;

    public void Send(string text) => _console.Send(text);

    /// <summary>Waits until a text has come on the console so many times; false when the time is over or the machine has ended without it.</summary>
    public bool WaitFor(string text, TimeSpan timeout, int times = 1)
    {
        DateTime end = DateTime.UtcNow + timeout;
        while (Output.Split(text).Length <= times)
        {
            if (DateTime.UtcNow > end || (Machine.Completion.IsCompleted && Output.Split(text).Length <= times))
                return false;
            Thread.Sleep(5);
        }

        return true;
    }

    /// <summary>Waits until the machine has ended by itself.</summary>
    public bool WaitForEnd(TimeSpan timeout) => Machine.Completion.Wait(timeout);

    /// <summary>What a failing test shows.</summary>
    public override string ToString() => $"{Machine.State}: {Machine.StatusReason}\n--- log\n{Log}\n--- console\n{Output}";

    public void Dispose() => Machine.Dispose();

    private sealed class TextConsole : ICharBackend
    {
        private readonly StringBuilder _output = new();
        private readonly Queue<byte> _input = new();

        public string Output
        {
            get
            {
                lock (_output)
                    return _output.ToString();
            }
        }

        public Action? InputAvailable { get; set; }

        public void Send(string text)
        {
            lock (_input)
            {
                foreach (byte b in Encoding.ASCII.GetBytes(text))
                    _input.Enqueue(b);
            }

            InputAvailable?.Invoke();
        }

        public int Write(ReadOnlySpan<byte> data)
        {
            lock (_output)
                _output.Append(Encoding.Latin1.GetString(data));
            return data.Length;
        }

        public int Read(Span<byte> buffer)
        {
            lock (_input)
            {
                int n = 0;
                while (n < buffer.Length && _input.TryDequeue(out byte b))
                    buffer[n++] = b;
                return n;
            }
        }

        public void Dispose()
        {
        }
    }
}

/// <summary>Keeps what is logged.</summary>
internal sealed class TextLog : ILog
{
    private readonly StringBuilder _text = new();

    public bool IsEnabled(LogLevel level) => true;

    public void Write(LogLevel level, string message)
    {
        lock (_text)
            _text.AppendLine($"{level}: {message}");
    }

    public override string ToString()
    {
        lock (_text)
            return _text.ToString();
    }
}
