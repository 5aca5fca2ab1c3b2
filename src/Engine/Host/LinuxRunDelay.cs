using System.Buffers.Text;
using Microsoft.Win32.SafeHandles;

namespace VirtPS.Engine.Host;

/// <summary>/proc/thread-self/schedstat: time on a processor, time waiting for one, number of time slices (Linux, Documentation/scheduler/sched-stats.rst).</summary>
internal sealed class LinuxRunDelay : HostRunDelay
{
    private readonly SafeFileHandle _file;
    private ulong _last;

    private LinuxRunDelay(SafeFileHandle file) => _file = file;

    /// <summary>Null on kernels without scheduler statistics.</summary>
    public static LinuxRunDelay? TryOpen()
    {
        try
        {
            return new LinuxRunDelay(File.OpenHandle("/proc/thread-self/schedstat"));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    public override ulong Read()
    {
        Span<byte> text = stackalloc byte[80];
        ReadOnlySpan<byte> read = text[..RandomAccess.Read(_file, text, 0)];
        int blank = read.IndexOf((byte)' ');
        if (blank >= 0 && Utf8Parser.TryParse(read[(blank + 1)..], out ulong delay, out _) && delay > _last)
            _last = delay;
        return _last;
    }

    public override void Dispose() => _file.Dispose();
}
