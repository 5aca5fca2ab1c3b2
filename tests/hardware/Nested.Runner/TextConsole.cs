using System.Text;
using VirtPS.Engine;
using VirtPS.Sdk.Backends;

namespace VirtPS.Nested.Runner;

/// <summary>A guest's console as text, both ways.</summary>
internal sealed class TextConsole : ICharBackend
{
    private readonly StringBuilder _output = new();
    private readonly Queue<byte> _input = new();

    public string Text
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
            foreach (byte b in Encoding.Latin1.GetBytes(text))
                _input.Enqueue(b);
        }

        InputAvailable?.Invoke();
    }

    public bool WaitFor(string text, Machine machine, TimeSpan limit)
    {
        DateTime end = DateTime.UtcNow + limit;
        while (!Text.Contains(text, StringComparison.Ordinal))
        {
            if (DateTime.UtcNow > end || machine.Completion.IsCompleted)
                return Text.Contains(text, StringComparison.Ordinal);
            Thread.Sleep(20);
        }

        return true;
    }

    public int Write(ReadOnlySpan<byte> data)
    {
        lock (_output)
            _output.Append(Encoding.Latin1.GetString(data));
        return data.Length;
    }

    public int Read(Span<byte> buffer)
    {
        int count = 0;
        lock (_input)
        {
            while (count < buffer.Length && _input.TryDequeue(out byte b))
                buffer[count++] = b;
        }

        return count;
    }

    public void Dispose()
    {
    }
}
