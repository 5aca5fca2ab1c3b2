using VirtPS.Client.Protocol;
using VirtPS.Worker.Console;

namespace VirtPS.Worker.Server;

/// <summary>A connection to the console: output as records, input as plain bytes.</summary>
internal static class ConsoleChannel
{
    private const int PieceSize = 64 << 10;

    public static async Task ServeAsync(Stream connection, ConsoleHub console, HelloRequest hello, CancellationToken stop)
    {
        using var ended = CancellationTokenSource.CreateLinkedTokenSource(stop);
        Task input = ReceiveInputAsync(connection, console, ended);
        try
        {
            await SendOutputAsync(connection, console, hello, ended.Token).ConfigureAwait(false);
        }
        finally
        {
            await ended.CancelAsync().ConfigureAwait(false);
            await input.ConfigureAwait(false);
        }
    }

    private static async Task SendOutputAsync(Stream connection, ConsoleHub console, HelloRequest hello, CancellationToken cancellation)
    {
        long end = console.End;
        long position = hello.FromStart ? 0 : end;
        long skipped = 0;
        byte[] buffer = new byte[PieceSize];
        while (true)
        {
            if (!hello.Follow && position >= end)
                break;
            if (!await console.WaitOutputAsync(position, cancellation).ConfigureAwait(false))
                break;
            (long from, int count) = console.ReadOutput(position, buffer);
            skipped += from - position;
            position = from + count;
            if (count > 0)
                await Record.WriteAsync(connection, RecordKind.Data, buffer.AsMemory(0, count), (ulong)skipped, cancellation).ConfigureAwait(false);
        }

        await Record.WriteAsync(connection, RecordKind.End, default, (ulong)skipped, cancellation).ConfigureAwait(false);
    }

    /// <summary>Types what comes. When the other side goes away, that is what ends the output.</summary>
    private static async Task ReceiveInputAsync(Stream connection, ConsoleHub console, CancellationTokenSource ended)
    {
        byte[] buffer = new byte[4096];
        try
        {
            for (int n; (n = await connection.ReadAsync(buffer, ended.Token).ConfigureAwait(false)) > 0;)
                await console.SendAsync(buffer.AsMemory(0, n), ended.Token).ConfigureAwait(false);
        }
        catch (Exception e) when (e is IOException or OperationCanceledException or ObjectDisposedException or Sdk.VirtException)
        {
            // It went away, or the machine ended: either way nothing more is typed.
        }

        await ended.CancelAsync().ConfigureAwait(false);
    }
}
