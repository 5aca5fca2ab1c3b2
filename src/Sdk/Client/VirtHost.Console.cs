using System.Runtime.CompilerServices;
using VirtPS.Client.Processes;
using VirtPS.Client.Protocol;
using VirtPS.Client.Store;
using VirtPS.Sdk;
using VirtPS.Sdk.Machine;

namespace VirtPS.Client;

/// <content>The console.</content>
public sealed partial class VirtHost
{
    /// <summary>Input goes in pieces, so that one call does not hold the worker's whole buffer.</summary>
    private const int MaxInputPiece = 16 << 10;

    /// <summary>Console output of the present or last run, bytes as they came.</summary>
    public async IAsyncEnumerable<ReadOnlyMemory<byte>> ReadConsoleAsync(Guid id, ConsoleReadOptions? options = null, [EnumeratorCancellation] CancellationToken cancellation = default)
    {
        options ??= new ConsoleReadOptions();
        StateReader.Observation seen = await ObserveAsync(id, cancellation).ConfigureAwait(false);
        Stream? live = seen.Live ? await OpenConsoleAsync(seen, options, cancellation).ConfigureAwait(false) : null;
        if (live is null)
        {
            seen = await ObserveAsync(id, cancellation).ConfigureAwait(false);
            if (seen.Document.Run is { ConsoleDropped: > 0 } run)
                options.Dropped?.Invoke(run.ConsoleDropped);
            await foreach (ReadOnlyMemory<byte> piece in ConsoleFiles.ReadAsync(options.SkipPast ? [] : _store.Paths.ConsoleLogs(id), cancellation).ConfigureAwait(false))
                yield return piece;
            yield break;
        }

        await using (live.ConfigureAwait(false))
        {
            var records = new RecordReader(live);
            ulong dropped = 0;
            while (await records.ReadAsync(cancellation).ConfigureAwait(false))
            {
                if (records.Dropped > dropped)
                    options.Dropped?.Invoke((long)(dropped = records.Dropped));
                if (records.Kind == RecordKind.End)
                    break;
                if (records.Kind == RecordKind.Data)
                    yield return records.Payload.ToArray();
            }
        }
    }

    /// <summary>Console output as lines of text (UTF-8, without line ends; an unfinished last line is given when the reading ends).</summary>
    public async IAsyncEnumerable<string> ReadConsoleLinesAsync(Guid id, ConsoleReadOptions? options = null, [EnumeratorCancellation] CancellationToken cancellation = default)
    {
        var lines = new ConsoleLines();
        await foreach (ReadOnlyMemory<byte> piece in ReadConsoleAsync(id, options, cancellation).ConfigureAwait(false))
        {
            foreach (string line in lines.Add(piece.Span))
                yield return line;
        }

        if (lines.Rest is { } rest)
            yield return rest;
    }

    /// <summary>Types into the console; returns when all of it was taken.</summary>
    public async Task SendConsoleAsync(Guid id, ReadOnlyMemory<byte> data, CancellationToken cancellation = default)
    {
        for (int at = 0; at < data.Length; at += MaxInputPiece)
        {
            byte[] piece = data.Slice(at, Math.Min(MaxInputPiece, data.Length - at)).ToArray();
            await InvokeAsync<object?>(id, "take input", RpcMethods.SendConsole, [piece], cancellation).ConfigureAwait(false);
        }
    }

    /// <summary>A duplex stream to the console: reads give what comes from now on (0 bytes = the VM stopped), writes type.</summary>
    public async Task<Stream> ConnectConsoleAsync(Guid id, CancellationToken cancellation = default)
    {
        StateReader.Observation seen = await RequireLiveAsync(id, "be connected to", cancellation).ConfigureAwait(false);
        Stream stream = await OpenConsoleAsync(seen, new ConsoleReadOptions { Follow = true, SkipPast = true }, cancellation).ConfigureAwait(false)
            ?? throw InvalidState(await ObserveAsync(id, cancellation).ConfigureAwait(false), "be connected to", "Start it first (Start-VirtVM).");
        return new ConsoleStream(stream);
    }

    /// <summary>Null when the worker has just gone.</summary>
    private static async Task<Stream?> OpenConsoleAsync(StateReader.Observation seen, ConsoleReadOptions options, CancellationToken cancellation)
    {
        var hello = new HelloRequest { Channel = Channel.Console, VMId = seen.Document.Configuration.Id, FromStart = !options.SkipPast, Follow = options.Follow };
        try
        {
            return (await WorkerConnection.OpenAsync(seen.Document.Run!, hello, cancellation).ConfigureAwait(false)).Stream;
        }
        catch (VirtException e) when (e.ErrorId == ErrorIds.WorkerGone)
        {
            return null;
        }
    }
}
