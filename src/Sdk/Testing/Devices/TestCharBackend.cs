using System.Text;
using VirtPS.Sdk.Backends;

namespace VirtPS.Sdk.Testing;

/// <summary>A byte stream that a test types into and reads back.</summary>
public sealed class TestCharBackend : ICharBackend
{
    private readonly Queue<byte> _input = new();
    private readonly List<byte> _output = [];

    /// <summary>What the guest wrote, as Latin-1 text.</summary>
    public string Output => Encoding.Latin1.GetString([.. _output]);

    /// <summary>Bytes of typed input that the device has not taken yet.</summary>
    public int WaitingInput => _input.Count;

    public Action? InputAvailable { get; set; }

    internal Action<string>? Record { get; set; }

    /// <summary>Types text (Latin-1) and tells the device.</summary>
    public void Type(string text)
    {
        foreach (byte b in Encoding.Latin1.GetBytes(text))
            _input.Enqueue(b);
        InputAvailable?.Invoke();
    }

    public int Write(ReadOnlySpan<byte> data)
    {
        _output.AddRange(data);
        Record?.Invoke($"char out {Convert.ToHexString(data)}");
        return data.Length;
    }

    public int Read(Span<byte> buffer)
    {
        int n = 0;
        while (n < buffer.Length && _input.TryDequeue(out byte b))
            buffer[n++] = b;
        return n;
    }

    public void Dispose()
    {
    }
}
