namespace VirtPS.Emulation.Thunks;

/// <summary>A bump allocator for generated code, in chunks (<see cref="DoubleMapping"/>). Not thread-safe.</summary>
internal sealed unsafe class ExecutableMemory : IDisposable
{
    private const int ChunkSize = 256 * 1024;
    private readonly List<DoubleMapping> _chunks = [];
    private int _used = ChunkSize;

    /// <summary>Bytes of generated code so far.</summary>
    public long CodeBytes { get; private set; }

    /// <summary>Copies <paramref name="code"/> in, 16-byte aligned, and returns where it can be called.</summary>
    public nint Add(ReadOnlySpan<byte> code)
    {
        if (_used + code.Length > ChunkSize)
        {
            _chunks.Add(new DoubleMapping(ChunkSize));
            _used = 0;
        }

        DoubleMapping chunk = _chunks[^1];
        // SAFETY: the chunk has ChunkSize bytes and the bound was checked above.
        code.CopyTo(new Span<byte>(chunk.Writable + _used, code.Length));
        nint entry = (nint)chunk.Executable + _used;
        _used = (_used + code.Length + 15) & ~15;
        CodeBytes += code.Length;
        return entry;
    }

    public void Dispose()
    {
        foreach (DoubleMapping chunk in _chunks)
            chunk.Dispose();
        _chunks.Clear();
        _used = ChunkSize;
    }
}
