using VirtPS.Client.Protocol;
using VirtPS.Worker.Rings;

namespace VirtPS.Worker.Server;

/// <summary>A connection that follows ring events.</summary>
internal static class RingChannel
{
    public static async Task ServeAsync(Stream connection, TraceHub hub, HelloRequest hello, CancellationToken stop)
    {
        using var ended = CancellationTokenSource.CreateLinkedTokenSource(stop);
        TraceFollower follower = hub.Follow(hello.IncludeSameRing, hello.Vcpus);
        Task gone = WatchAsync(connection, ended);
        ulong dropped = 0;
        try
        {
            await foreach ((byte[] events, ulong lost) in follower.Batches.ReadAllAsync(ended.Token).ConfigureAwait(false))
            {
                dropped = lost;
                await Record.WriteAsync(connection, RecordKind.Data, events, dropped, ended.Token).ConfigureAwait(false);
                follower.Taken(events);
            }

            await Record.WriteAsync(connection, RecordKind.End, default, dropped, ended.Token).ConfigureAwait(false);
        }
        finally
        {
            hub.Unfollow(follower);
            await ended.CancelAsync().ConfigureAwait(false);
            await gone.ConfigureAwait(false);
        }
    }

    /// <summary>Nothing is sent to us here: a read that returns means that the other side has gone, also while no event comes.</summary>
    private static async Task WatchAsync(Stream connection, CancellationTokenSource ended)
    {
        try
        {
            while (await connection.ReadAsync(new byte[16], ended.Token).ConfigureAwait(false) > 0)
            {
            }
        }
        catch (Exception e) when (e is IOException or OperationCanceledException or ObjectDisposedException)
        {
            // As above.
        }

        await ended.CancelAsync().ConfigureAwait(false);
    }
}
