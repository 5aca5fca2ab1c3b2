using System.Management.Automation;
using VirtPS.Client;
using VirtPS.Sdk;

namespace VirtPS.Infrastructure;

/// <summary>
/// Base of every cmdlet: the host, waiting that Ctrl-C ends at once, and one way in which failures become error records.
/// </summary>
public abstract class VirtCmdlet : PSCmdlet, IDisposable
{
    private readonly CancellationTokenSource _stop = new();
    private VirtHost? _host;

    /// <summary>Cancelled when the pipeline is stopped.</summary>
    private protected CancellationToken StopToken => _stop.Token;

    private protected VirtHost VirtHost => _host ??= VirtHost.Connect();

    protected override void StopProcessing() => _stop.Cancel();

    /// <summary>Waits for work of the client. Failures keep their <see cref="VirtException"/>.</summary>
    private protected T Await<T>(Func<CancellationToken, Task<T>> work)
    {
        try
        {
            return Task.Run(() => work(StopToken), StopToken).GetAwaiter().GetResult();
        }
        catch (OperationCanceledException) when (StopToken.IsCancellationRequested)
        {
            throw new PipelineStoppedException();
        }
    }

    private protected void Await(Func<CancellationToken, Task> work) =>
        Await(async token =>
        {
            await work(token).ConfigureAwait(false);
            return true;
        });

    /// <summary>A stream of the client as a sequence on the pipeline's thread.</summary>
    private protected IEnumerable<T> Stream<T>(Func<CancellationToken, IAsyncEnumerable<T>> open)
    {
        IAsyncEnumerator<T> items = open(StopToken).GetAsyncEnumerator(StopToken);
        try
        {
            while (Await(async _ => await items.MoveNextAsync().ConfigureAwait(false)))
                yield return items.Current;
        }
        finally
        {
            Task.Run(async () => await items.DisposeAsync().ConfigureAwait(false)).GetAwaiter().GetResult();
        }
    }

    /// <summary>Does one record's work; a failure is that record's error and the rest goes on.</summary>
    private protected void PerRecord(object? target, Action work)
    {
        try
        {
            work();
        }
        catch (VirtException e)
        {
            WriteError(ToErrorRecord(e, target));
        }
    }

    /// <summary>Does work without which the whole command makes no sense.</summary>
    private protected void Terminating(Action work)
    {
        try
        {
            work();
        }
        catch (VirtException e)
        {
            ThrowTerminatingError(ToErrorRecord(e, null));
        }
    }

    internal static ErrorRecord ToErrorRecord(VirtException e, object? target)
    {
        var record = new ErrorRecord(e, e.ErrorId, CategoryOf(e.ErrorId), e.Target ?? target);
        if (e.RecommendedAction is { } action)
            record.ErrorDetails = new ErrorDetails(e.Message) { RecommendedAction = action };
        return record;
    }

    private static ErrorCategory CategoryOf(string errorId) => errorId switch
    {
        ErrorIds.VMNotFound or ErrorIds.DeviceNotFound or ErrorIds.DeviceModelNotFound or ErrorIds.StrategyNotFound or ErrorIds.PluginNotFound
            or ErrorIds.ImageNotFound or ErrorIds.WorkerNotFound or ErrorIds.VcpuNotFound or ErrorIds.DiskNotFound => ErrorCategory.ObjectNotFound,
        ErrorIds.VMNameInUse or ErrorIds.DeviceNameInUse or ErrorIds.DiskExists => ErrorCategory.ResourceExists,
        ErrorIds.VMBusy or ErrorIds.DiskInUse => ErrorCategory.ResourceBusy,
        ErrorIds.InvalidVMState or ErrorIds.WaitEnded => ErrorCategory.InvalidOperation,
        ErrorIds.WaitTimeout or ErrorIds.GuestDidNotStop or ErrorIds.WorkerNotResponding => ErrorCategory.OperationTimeout,
        ErrorIds.ImageInvalid or ErrorIds.DiskInvalid or ErrorIds.StoreUnreadable => ErrorCategory.InvalidData,
        ErrorIds.StoreWriteFailed => ErrorCategory.WriteError,
        ErrorIds.VMNameInvalid or ErrorIds.MemoryInvalid or ErrorIds.ConfigurationInvalid or ErrorIds.DevicePropertyInvalid
            or ErrorIds.GuestAddressInvalid => ErrorCategory.InvalidArgument,
        ErrorIds.AccessDenied => ErrorCategory.PermissionDenied,
        ErrorIds.StrategyUnavailable or ErrorIds.WorkerStartFailed or ErrorIds.WorkerGone => ErrorCategory.ResourceUnavailable,
        _ => ErrorCategory.NotSpecified,
    };

    /// <summary>Emits those of <paramref name="all"/> whose name one of the wildcard patterns means; a plain name that is missing is an error that lists what there is.</summary>
    private protected void Emit<T>(IReadOnlyList<T> all, string[] patterns, Func<T, string> nameOf, string errorId, string kind)
    {
        foreach (string pattern in patterns)
        {
            var wildcard = new WildcardPattern(pattern, WildcardOptions.IgnoreCase);
            T[] found = [.. all.Where(x => wildcard.IsMatch(nameOf(x)))];
            if (found.Length == 0 && !WildcardPattern.ContainsWildcardCharacters(pattern))
                WriteError(ToErrorRecord(new VirtException(errorId, $"There is no {kind} '{pattern}'.", $"There are: {string.Join(", ", all.Select(nameOf))}.", pattern), pattern));
            WriteObject(found, enumerateCollection: true);
        }
    }

    /// <summary>A path as the user wrote it, absolute; relative ones count from the shell's location, not the process's.</summary>
    private protected string FullPath(string path) => SessionState.Path.GetUnresolvedProviderPathFromPSPath(path);

    protected virtual void Dispose(bool disposing)
    {
        if (disposing)
            _stop.Dispose();
    }

    public void Dispose()
    {
        Dispose(true);
        GC.SuppressFinalize(this);
    }
}
