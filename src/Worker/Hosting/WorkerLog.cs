using System.Globalization;
using System.Text;
using Microsoft.Win32.SafeHandles;
using VirtPS.Sdk;

namespace VirtPS.Worker.Hosting;

/// <summary>
/// worker.log: one line per remark, with time and level. Bounded: when it reaches <see cref="MaxLength"/> it becomes worker.1.log, in the place of an older one. A log that
/// cannot be written is given up without a word; there is nobody to tell.
/// </summary>
internal sealed class WorkerLog : ILog, IDisposable
{
    public const long MaxLength = 4 << 20;

    private readonly Lock _gate = new();
    private readonly string _path;
    private SafeFileHandle _file;
    private long _length;

    public WorkerLog(string path)
    {
        _path = path;
        _file = Open(path);
        _length = RandomAccess.GetLength(_file);
    }

    public SafeFileHandle Handle => _file;

    public bool IsEnabled(LogLevel level) => level >= LogLevel.Information;

    public void Write(LogLevel level, string message)
    {
        if (!IsEnabled(level))
            return;
        byte[] line = Encoding.UTF8.GetBytes(string.Create(CultureInfo.InvariantCulture, $"{DateTimeOffset.Now:yyyy-MM-dd HH:mm:ss.fff zzz} {level,-11} {message}\n"));
        lock (_gate)
        {
            try
            {
                if (_length > MaxLength)
                    Rotate();
                // Appended: the runtime itself may write here through descriptor 2.
                RandomAccess.Write(_file, line, RandomAccess.GetLength(_file));
                _length += line.Length;
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException or ObjectDisposedException)
            {
                // A full disk must not end the machine.
            }
        }
    }

    public void Dispose()
    {
        lock (_gate)
            _file.Dispose();
    }

    private void Rotate()
    {
        File.Move(_path, Path.ChangeExtension(_path, ".1.log"), overwrite: true);
        SafeFileHandle old = _file;
        _file = Open(_path);
        _length = 0;
        ProcessSetup.RedirectStandardDescriptors(_file, null);
        old.Dispose();
    }

    private static SafeFileHandle Open(string path) =>
        File.OpenHandle(path, FileMode.OpenOrCreate, FileAccess.Write, FileShare.ReadWrite | FileShare.Delete);
}
