using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using VirtPS.Sdk;

namespace VirtPS.Client.Protocol;

/// <summary>One JSON line each way, then whatever the channel is for.</summary>
internal static class Handshake
{
    /// <summary>Longer lines are not ours.</summary>
    private const int MaxLine = 64 << 10;

    /// <summary>A message as a line.</summary>
    public static byte[] ToLine(JsonObject message) => Encoding.UTF8.GetBytes(message.ToJsonString() + "\n");

    public static async Task SendAsync(Stream stream, JsonObject message, CancellationToken cancellation)
    {
        await stream.WriteAsync(ToLine(message), cancellation).ConfigureAwait(false);
        await stream.FlushAsync(cancellation).ConfigureAwait(false);
    }

    /// <summary>Reads exactly one line: not a byte more, because what follows belongs to the channel. Null at the end of the stream.</summary>
    public static async Task<T?> ReceiveAsync<T>(Stream stream, Func<JsonObject, T> read, CancellationToken cancellation) where T : class
    {
        byte[]? line = await ReadLineAsync(stream, cancellation).ConfigureAwait(false);
        if (line is null)
            return null;
        try
        {
            return HandshakeJson.Parse(line, read);
        }
        catch (JsonException e)
        {
            throw new VirtException(ErrorIds.ProtocolMismatch, $"The other side of the socket does not speak VirtPS's protocol: {e.Message}", null, null, e);
        }
    }

    /// <summary>Sends the request and waits for the reply; checks versions and the VM's id.</summary>
    public static async Task<HelloReply> ConnectAsync(Stream stream, HelloRequest request, CancellationToken cancellation)
    {
        await SendAsync(stream, HandshakeJson.Write(request), cancellation).ConfigureAwait(false);
        HelloReply reply = await ReceiveAsync(stream, HandshakeJson.ReadReply, cancellation).ConfigureAwait(false)
            ?? throw new EndOfStreamException("The worker closed the connection.");
        if (reply.Error is { } error)
            throw error.ToException();
        ProtocolVersion.Negotiate(reply.OldestProtocol, reply.Protocol, $"The VM's worker (version {reply.Version})");
        if (reply.VMId != request.VMId)
            throw new VirtException(ErrorIds.WorkerGone, $"The socket belongs to VM {reply.VMId}, not {request.VMId}.");
        return reply;
    }

    /// <summary>Byte by byte on purpose: lines are short, and nothing behind the line may be taken.</summary>
    private static async Task<byte[]?> ReadLineAsync(Stream stream, CancellationToken cancellation)
    {
        var line = new MemoryStream();
        byte[] one = new byte[1];
        while (await stream.ReadAsync(one, cancellation).ConfigureAwait(false) == 1)
        {
            if (one[0] == (byte)'\n')
                return line.ToArray();
            if (line.Length >= MaxLine)
                throw new VirtException(ErrorIds.ProtocolMismatch, "The other side of the socket does not speak VirtPS's protocol: its first line does not end.");
            line.WriteByte(one[0]);
        }

        return null;
    }
}
