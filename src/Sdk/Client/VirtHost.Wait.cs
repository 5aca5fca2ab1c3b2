using System.Diagnostics;
using VirtPS.Client.Processes;
using VirtPS.Client.Protocol;
using VirtPS.Client.Store;
using VirtPS.Sdk;
using VirtPS.Sdk.Machine;

namespace VirtPS.Client;

/// <content>Waiting.</content>
public sealed partial class VirtHost
{
    /// <summary>How often the store is looked at while there is no worker to tell.</summary>
    private static readonly TimeSpan PollInterval = TimeSpan.FromMilliseconds(100);

    /// <summary>
    /// Waits. Errors: WaitTimeout after <paramref name="timeout"/> (null: for ever); WaitEnded when the VM stopped and it can't come any more; InvalidVMState when
    /// it never ran.
    /// </summary>
    public async Task<VirtWaitResult> WaitAsync(Guid id, WaitCondition condition, TimeSpan? timeout = null, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(condition);
        long began = Stopwatch.GetTimestamp();
        string name = _store.Load(id).Configuration.Name;
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        if (timeout is { } t)
            limit.CancelAfter(t);
        try
        {
            string? matched = condition.Target switch
            {
                WaitTarget.Running => await WaitStateAsync(id, s => s.State is VmState.Running, limit.Token).ConfigureAwait(false),
                WaitTarget.Off => await WaitOffAsync(id, limit.Token).ConfigureAwait(false),
                WaitTarget.Ring3 => await WaitRing3Async(id, limit.Token).ConfigureAwait(false),
                WaitTarget.Console => await WaitConsoleAsync(id, condition.Pattern, limit.Token).ConfigureAwait(false),
                _ => throw new ArgumentOutOfRangeException(nameof(condition), condition.Target, "Not a thing to wait for."),
            };
            return new VirtWaitResult { VM = await GetAsync(id, cancellation).ConfigureAwait(false), MatchedText = matched, Elapsed = Stopwatch.GetElapsedTime(began) };
        }
        catch (OperationCanceledException e) when (!cancellation.IsCancellationRequested)
        {
            string what = condition.Target == WaitTarget.Console ? $"console output that matches '{condition.Pattern}'" : condition.Target.ToString();
            throw new VirtException(ErrorIds.WaitTimeout, $"VM '{name}': {what} did not come within {timeout!.Value.TotalSeconds:0.###} s.", "Wait longer, or see what the console says (Receive-VirtConsole).", name, e);
        }
    }

    private async Task<string?> WaitStateAsync(Guid id, Predicate<StateReader.Observation> reached, CancellationToken cancellation)
    {
        while (!reached(await ObserveAsync(id, cancellation).ConfigureAwait(false)))
            await Task.Delay(PollInterval, cancellation).ConfigureAwait(false);
        return null;
    }

    private async Task<string?> WaitOffAsync(Guid id, CancellationToken cancellation)
    {
        StateReader.Observation seen = await ObserveAsync(id, cancellation).ConfigureAwait(false);
        if (seen.Live)
        {
            try
            {
                await WorkerConnection.InvokeAsync<object?>(id, seen.Document.Run!, RpcMethods.WaitOff, [], cancellation).ConfigureAwait(false);
            }
            catch (VirtException e) when (e.ErrorId is ErrorIds.WorkerGone)
            {
                // It ended, one way or another; the store says which.
            }

            await WaitReleasedAsync(seen, cancellation).ConfigureAwait(false);
            seen = await ObserveAsync(id, cancellation).ConfigureAwait(false);
        }

        if (seen.State == VmState.Crashed)
            throw WaitEnded(seen, "was not switched off but crashed");
        return null;
    }

    private async Task<string?> WaitRing3Async(Guid id, CancellationToken cancellation)
    {
        StateReader.Observation seen = await ObserveAsync(id, cancellation).ConfigureAwait(false);
        bool reached = false;
        if (seen.Live)
        {
            try
            {
                reached = await WorkerConnection.InvokeAsync<bool>(id, seen.Document.Run!, RpcMethods.WaitRing3, [], cancellation).ConfigureAwait(false);
            }
            catch (VirtException e) when (e.ErrorId == ErrorIds.WorkerGone)
            {
                seen = await ObserveAsync(id, cancellation).ConfigureAwait(false);
            }
        }

        RunRecord run = seen.Document.Run ?? throw InvalidState(seen, "reach ring 3: it never ran", "Start it first (Start-VirtVM).");
        if (reached || (!seen.Live && run.ReachedRing3))
            return null;
        throw WaitEnded(await ObserveAsync(id, cancellation).ConfigureAwait(false), "ended before any code ran in ring 3");
    }

    private async Task<string> WaitConsoleAsync(Guid id, string? pattern, CancellationToken cancellation)
    {
        if (string.IsNullOrEmpty(pattern))
            throw new VirtException(ErrorIds.ConfigurationInvalid, "Waiting for console output needs a pattern.", "Give -Pattern.");
        var matcher = new ConsoleMatcher(pattern);
        StateReader.Observation seen = await ObserveAsync(id, cancellation).ConfigureAwait(false);
        if (seen.Document.Run is null)
            throw InvalidState(seen, "put anything out: it never ran", "Start it first (Start-VirtVM).");
        await foreach (ReadOnlyMemory<byte> piece in ReadConsoleAsync(id, new ConsoleReadOptions { Follow = true }, cancellation).ConfigureAwait(false))
        {
            if (matcher.Add(piece.Span) is { } match)
                return match;
        }

        seen = await ObserveAsync(id, cancellation).ConfigureAwait(false);
        throw WaitEnded(seen, $"ended before its console put out what '{pattern}' matches");
    }

    private static VirtException WaitEnded(StateReader.Observation seen, string what) =>
        new(ErrorIds.WaitEnded, $"VM '{seen.Document.Configuration.Name}' {what}. {seen.Reason}".TrimEnd(), "See what its console says (Receive-VirtConsole).", seen.Document.Configuration.Name);
}
