using System.Buffers.Binary;

namespace VirtPS.Client.Protocol;

/// <summary>Kinds of binary records. Unknown kinds are skipped.</summary>
internal enum RecordKind : ushort
{
    /// <summary>Console bytes, or an array of <see cref="Sdk.Rings.RingEvent"/> (48 bytes each, little-endian).</summary>
    Data = 1,

    /// <summary>The last record: the machine ended, or all that was asked for has been given.</summary>
    End = 2,
}

/// <summary>
/// A binary record: 16 bytes of header – payload length (4), kind (2), zero (2), total of dropped items so far (8), all little-endian – and the payload. For the console
/// the items are bytes, for rings events.
/// </summary>
internal static class Record
{
    public const int HeaderSize = 16;

    /// <summary>Longer payloads are not ours.</summary>
    public const int MaxPayload = 1 << 20;

    public static void WriteHeader(Span<byte> header, RecordKind kind, int length, ulong dropped)
    {
        BinaryPrimitives.WriteInt32LittleEndian(header, length);
        BinaryPrimitives.WriteUInt16LittleEndian(header[4..], (ushort)kind);
        BinaryPrimitives.WriteUInt16LittleEndian(header[6..], 0);
        BinaryPrimitives.WriteUInt64LittleEndian(header[8..], dropped);
    }

    public static (RecordKind Kind, int Length, ulong Dropped) ReadHeader(ReadOnlySpan<byte> header) =>
        ((RecordKind)BinaryPrimitives.ReadUInt16LittleEndian(header[4..]), BinaryPrimitives.ReadInt32LittleEndian(header), BinaryPrimitives.ReadUInt64LittleEndian(header[8..]));

    /// <summary>Sends one record.</summary>
    public static async Task WriteAsync(Stream stream, RecordKind kind, ReadOnlyMemory<byte> payload, ulong dropped, CancellationToken cancellation)
    {
        byte[] buffer = System.Buffers.ArrayPool<byte>.Shared.Rent(HeaderSize + payload.Length);
        try
        {
            WriteHeader(buffer, kind, payload.Length, dropped);
            payload.CopyTo(buffer.AsMemory(HeaderSize));
            await stream.WriteAsync(buffer.AsMemory(0, HeaderSize + payload.Length), cancellation).ConfigureAwait(false);
        }
        finally
        {
            System.Buffers.ArrayPool<byte>.Shared.Return(buffer);
        }
    }
}

/// <summary>Reads records from a stream. One reader, no concurrency.</summary>
internal sealed class RecordReader(Stream stream)
{
    private readonly byte[] _header = new byte[Record.HeaderSize];
    private byte[] _payload = new byte[64 << 10];

    public RecordKind Kind { get; private set; }

    public ulong Dropped { get; private set; }

    /// <summary>Valid until the next <see cref="ReadAsync"/>.</summary>
    public ReadOnlyMemory<byte> Payload { get; private set; }

    /// <summary>False when the other side went away.</summary>
    public async ValueTask<bool> ReadAsync(CancellationToken cancellation)
    {
        try
        {
            await stream.ReadExactlyAsync(_header, cancellation).ConfigureAwait(false);
            (Kind, int length, Dropped) = Record.ReadHeader(_header);
            if (length is < 0 or > Record.MaxPayload)
                throw new Sdk.VirtException(ErrorIds.ProtocolMismatch, $"A record of {length} bytes came over the socket; at most {Record.MaxPayload} are allowed.");
            if (length > _payload.Length)
                _payload = new byte[length];
            await stream.ReadExactlyAsync(_payload.AsMemory(0, length), cancellation).ConfigureAwait(false);
            Payload = _payload.AsMemory(0, length);
            return true;
        }
        catch (IOException)
        {
            // End of the stream or a reset connection: the worker is gone.
            return false;
        }
    }
}
