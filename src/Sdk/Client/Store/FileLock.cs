using Microsoft.Win32.SafeHandles;
using VirtPS.Client.Platform;
using VirtPS.Sdk;

namespace VirtPS.Client.Store;

/// <summary>
/// A lock that dies with its process. On Linux an open-file-description lock (fcntl(2)): it can be asked about without being taken; elsewhere the
/// file's share mode. Its file stays behind, empty of meaning.
/// </summary>
internal sealed class FileLock : IDisposable
{
    private readonly SafeFileHandle _handle;

    private FileLock(SafeFileHandle handle) => _handle = handle;

    /// <summary>Takes the lock; null when somebody holds it. The folder must exist.</summary>
    public static FileLock? TryAcquire(string path)
    {
        SafeFileHandle? handle = null;
        try
        {
            handle = Open(path, FileMode.OpenOrCreate);
            if (!OperatingSystem.IsLinux() || Posix.TryLock(handle))
            {
                var taken = new FileLock(handle);
                handle = null;
                return taken;
            }

            return null;
        }
        catch (IOException e) when (IsSharingViolation(e))
        {
            return null;
        }
        catch (UnauthorizedAccessException e)
        {
            throw new VirtException(ErrorIds.AccessDenied, $"Cannot open the lock '{path}': {e.Message}", "The store must belong to the user who works with it.", path, e);
        }
        finally
        {
            handle?.Dispose();
        }
    }

    /// <summary>Takes the lock, trying until <paramref name="patience"/> is over (<see cref="Timeout.InfiniteTimeSpan"/>: for ever); null then.</summary>
    public static async Task<FileLock?> AcquireAsync(string path, TimeSpan patience, CancellationToken cancellation)
    {
        long end = patience == Timeout.InfiniteTimeSpan ? long.MaxValue : Environment.TickCount64 + (long)patience.TotalMilliseconds;
        for (int delay = 1; ; delay = Math.Min(delay * 2, 20))
        {
            if (TryAcquire(path) is { } taken)
                return taken;
            if (Environment.TickCount64 >= end)
                return null;
            await Task.Delay(delay + Random.Shared.Next(delay), cancellation).ConfigureAwait(false);
        }
    }

    /// <summary>Whether some other holder has the lock now.</summary>
    public static bool IsHeld(string path)
    {
        try
        {
            using SafeFileHandle handle = Open(path, FileMode.Open);
            return OperatingSystem.IsLinux() && Posix.IsLockedByOther(handle);
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            return false;
        }
        catch (IOException e) when (IsSharingViolation(e))
        {
            return true;
        }
    }

    public void Dispose() => _handle.Dispose();

    // On Linux the share mode must not come into it: .NET would add a flock(2) of its own to the fcntl lock.
    private static SafeFileHandle Open(string path, FileMode mode) =>
        File.OpenHandle(path, mode, FileAccess.ReadWrite, OperatingSystem.IsLinux() ? FileShare.ReadWrite | FileShare.Delete : FileShare.None);

    private static bool IsSharingViolation(IOException e) =>
        e is not (FileNotFoundException or DirectoryNotFoundException)
        && (!OperatingSystem.IsWindows() ? !OperatingSystem.IsLinux() : (e.HResult & 0xFFFF) is 32 or 33);
}
