using Microsoft.Win32.SafeHandles;
using VirtPS.Sdk;

namespace VirtPS.Worker.Console;

/// <summary>
/// console.log with a bound: when it holds half of <see cref="MaxLength"/> it becomes console.1.log, in the place of the older half, which is gone then. So at least the newest half of
/// the bound is kept, and a guest that floods its console fills no disk. When the disk is full, nothing more is kept in this run; output still reaches whoever follows it. One
/// writer; readers on any thread.
/// </summary>
internal sealed class ConsoleLogFiles : IDisposable
{
    public const long MaxLength = 64L << 20;

    private readonly Lock _gate = new();
    private readonly string _olderPath;
    private readonly string _newerPath;
    private readonly ILog _diary;
    private readonly long _half;
    private SafeFileHandle? _older;
    private SafeFileHandle _newer;
    private long _olderStart;
    private long _newerStart;
    private long _end;
    private long _unwritten;
    private bool _failed;

    /// <summary>Begins a run's log; a former run's is gone. <paramref name="paths"/>: older, newer.</summary>
    public ConsoleLogFiles(IReadOnlyList<string> paths, ILog diary, long maxLength = MaxLength)
    {
        (_olderPath, _newerPath, _diary, _half) = (paths[0], paths[1], diary, maxLength / 2);
        File.Delete(_olderPath);
        // Removed, not truncated: a follower of the former run may still read it.
        File.Delete(_newerPath);
        _newer = Create();
    }

    /// <summary>Bytes that were put out and are not in the log: older than what is kept, or written on a full disk.</summary>
    public long NotKept
    {
        get
        {
            lock (_gate)
                return (_older is null ? _newerStart : _olderStart) + _unwritten;
        }
    }

    public void Append(ReadOnlySpan<byte> data)
    {
        while (data.Length > 0)
        {
            lock (_gate)
            {
                if (!_failed && _end - _newerStart >= _half)
                    Rotate();
                int n = _failed ? data.Length : (int)Math.Min(data.Length, _half - (_end - _newerStart));
                TryWrite(data[..n]);
                if (_failed)
                    _unwritten += n;
                _end += n;
                data = data[n..];
            }
        }
    }

    /// <summary>Reads from <paramref name="position"/>, or from the oldest byte that is kept. Returns where it read from and how much.</summary>
    public (long Position, int Count) Read(long position, Span<byte> destination)
    {
        lock (_gate)
        {
            position = Math.Max(position, _older is null ? _newerStart : _olderStart);
            bool older = position < _newerStart;
            SafeFileHandle file = older ? _older! : _newer;
            int n = RandomAccess.Read(file, destination, position - (older ? _olderStart : _newerStart));
            // Behind what could be written there is a hole: skip it rather than wait for it.
            return n > 0 || !_failed ? (position, n) : (_end, 0);
        }
    }

    public void Dispose()
    {
        _older?.Dispose();
        _newer.Dispose();
    }

    private void Rotate()
    {
        _older?.Dispose();
        _older = null;
        try
        {
            File.Move(_newerPath, _olderPath, overwrite: true);
            (_older, _olderStart) = (_newer, _newerStart);
            _newerStart = _end;
            _newer = Create();
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            Fail(e);
        }
    }

    private void TryWrite(ReadOnlySpan<byte> data)
    {
        if (_failed)
            return;
        try
        {
            RandomAccess.Write(_newer, data, _end - _newerStart);
        }
        catch (IOException e)
        {
            Fail(e);
        }
    }

    private void Fail(Exception e)
    {
        _failed = true;
        _diary.Write(LogLevel.Error, $"The console's output is no longer kept in '{_newerPath}': {e.Message}");
    }

    private SafeFileHandle Create() =>
        File.OpenHandle(_newerPath, FileMode.Create, FileAccess.ReadWrite, FileShare.ReadWrite | FileShare.Delete);
}
