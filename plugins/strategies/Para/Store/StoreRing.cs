using System.Buffers.Binary;
using VirtPS.Sdk;
using VirtPS.Strategy.Para.Shared;

namespace VirtPS.Strategy.Para.Store;

/// <summary>
/// The page through which a domain talks to the store: two byte rings with free-running indices (xs_wire.h, struct xenstore_domain_interface). The indices that are ours are
/// kept here; the page has copies for the guest. A guest that breaks the protocol finds the reason in the page and is not served until it asks for a new connection.
/// </summary>
internal sealed class StoreRing
{
    private const int RingBytes = 1024;
    private const int Requests = 0, Replies = 1024;
    private const int RequestConsumer = 2048, RequestProducer = 2052, ReplyConsumer = 2056, ReplyProducer = 2060;
    private const int Features = 2064, ConnectionState = 2068, ErrorCode = 2072;
    private const uint FeatureReconnection = 1, FeatureError = 2;
    private const uint Connected = 0, Reconnect = 1;
    private const uint NoError = 0, RingIndexError = 2, ProtocolError = 3;

    private readonly SharedPage _page;
    private readonly StoreConnection _connection;
    private readonly Action _notify;
    private readonly ILog _log;
    private readonly byte[] _request = new byte[StoreConnection.HeaderBytes + StoreQuota.Payload];
    private int _have;
    private byte[]? _output;
    private int _sent;
    private uint _consumed, _produced;
    private bool _broken, _pumping;

    /// <param name="notify">Tells the guest through its event channel.</param>
    public StoreRing(SharedPage page, StoreConnection connection, Action notify, ILog log)
    {
        (_page, _connection, _notify, _log) = (page, connection, notify, log);
        connection.OutputAvailable = () =>
        {
            if (!_pumping)
                Pump();
        };
        _page.Write32(Features, FeatureReconnection | FeatureError);
        _page.Write32(ErrorCode, NoError);
    }

    /// <summary>Serves what the guest has asked and what room it has made: after its event, and when there is output. Bounded by what the rings hold.</summary>
    public void Pump()
    {
        _pumping = true;
        bool moved = false;
        try
        {
            if (_page.Read32(ConnectionState) == Reconnect)
            {
                Restart();
                moved = true;
            }

            // Each pass moves something; a guest that refills the ring meanwhile asks again by its next event.
            for (int pass = 0; pass < 4 && !_broken; pass++)
            {
                bool sent = Send();
                bool took = !_connection.IsBacklogged && Receive();
                moved |= sent | took;
                if (!sent && !took)
                    break;
            }

            if (!_broken)
                moved |= Send();
        }
        finally
        {
            _pumping = false;
        }

        if (moved)
            _notify();
    }

    private bool Receive()
    {
        uint produced = _page.Read32(RequestProducer);
        uint available = produced - _consumed;
        if (available > RingBytes)
            return Break(RingIndexError, $"its request indices are {_consumed} and {produced}");
        if (available == 0)
            return false;
        Span<byte> bytes = stackalloc byte[RingBytes];
        bytes = bytes[..(int)available];
        CopyOut(Requests, _consumed, bytes);
        _consumed += available;
        _page.Write32(RequestConsumer, _consumed);
        return Assemble(bytes);
    }

    private bool Assemble(ReadOnlySpan<byte> bytes)
    {
        while (!bytes.IsEmpty)
        {
            int need = Needed();
            int n = Math.Min(need - _have, bytes.Length);
            bytes[..n].CopyTo(_request.AsSpan(_have));
            _have += n;
            bytes = bytes[n..];
            if (_have < StoreConnection.HeaderBytes)
                continue;
            uint length = Field(3);
            if (length > StoreQuota.Payload)
                return Break(ProtocolError, $"a request of {length} bytes");
            if (_have < StoreConnection.HeaderBytes + (int)length)
                continue;
            _have = 0;
            _connection.Handle((StoreMessage)Field(0), Field(1), Field(2), _request.AsSpan(StoreConnection.HeaderBytes, (int)length));
        }

        return true;
    }

    // The header first; then as much as it says, which Assemble has checked.
    private int Needed() => _have < StoreConnection.HeaderBytes ? StoreConnection.HeaderBytes : StoreConnection.HeaderBytes + (int)Field(3);

    private uint Field(int index) => BinaryPrimitives.ReadUInt32LittleEndian(_request.AsSpan(index * 4));

    private bool Send()
    {
        bool sent = false;
        while (_output is not null || (_output = _connection.TakeOutput()) is not null)
        {
            uint consumed = _page.Read32(ReplyConsumer);
            uint used = _produced - consumed;
            if (used > RingBytes)
                return Break(RingIndexError, $"its reply indices are {consumed} and {_produced}");
            int n = Math.Min(RingBytes - (int)used, _output.Length - _sent);
            if (n == 0)
                return sent;
            CopyIn(Replies, _produced, _output.AsSpan(_sent, n));
            _produced += (uint)n;
            _page.Write32(ReplyProducer, _produced);
            sent = true;
            _sent += n;
            if (_sent == _output.Length)
                (_output, _sent) = (null, 0);
        }

        return sent;
    }

    private void Restart()
    {
        _connection.Reset();
        (_have, _output, _sent, _consumed, _produced, _broken) = (0, null, 0, 0, 0, false);
        foreach (int index in (ReadOnlySpan<int>)[RequestConsumer, RequestProducer, ReplyConsumer, ReplyProducer, ErrorCode])
            _page.Write32(index, 0);
        _page.Write32(ConnectionState, Connected);
    }

    private bool Break(uint error, string what)
    {
        _broken = true;
        _page.Write32(ErrorCode, error);
        _log.Write(LogLevel.Warning, $"The guest broke the xenstore protocol ({what}); it is not served until it reconnects.");
        _connection.Reset();
        return false;
    }

    private void CopyOut(int ring, uint from, Span<byte> destination)
    {
        int at = (int)(from % RingBytes), first = Math.Min(RingBytes - at, destination.Length);
        _page.Read(ring + at, destination[..first]);
        _page.Read(ring, destination[first..]);
    }

    private void CopyIn(int ring, uint to, ReadOnlySpan<byte> source)
    {
        int at = (int)(to % RingBytes), first = Math.Min(RingBytes - at, source.Length);
        _page.Write(ring + at, source[..first]);
        _page.Write(ring, source[first..]);
    }
}
