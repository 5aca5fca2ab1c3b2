using VirtPS.Sdk;
using VirtPS.Sdk.Backends;
using VirtPS.Strategy.Para.Shared;

namespace VirtPS.Strategy.Para.Block;

/// <summary>What a frontend has told of itself when it connected; also what a saved device is connected with again.</summary>
internal sealed record BlockFrontend
{
    public uint[] RingReferences { get; init; } = [];

    public uint Port { get; init; }

    public uint Consumed { get; init; }

    public uint Produced { get; init; }
}

/// <summary>The connection with a frontend: ring, event channel, and the requests under way. Under the device lock.</summary>
internal sealed class BlockConnection
{
    // Buffers of one disk; who asks for more waits.
    private const int MaxBytes = 16 << 20;

    private readonly IBackendHost _host;
    private readonly BlockFrontend _frontend;
    private readonly BlockRing _ring;
    private readonly BlockTransfer _transfer;
    private readonly IBackendChannel _channel;
    private readonly Action<Action> _post;
    private readonly Action<string> _broken;
    private readonly int _maxIndirect;
    private bool _closed, _held, _servePosted;
    private int _underWay;

    private BlockConnection(IBackendHost host, BlockFrontend frontend, IReadOnlyList<SharedPage> pages, IBlockBackend disk, int maxIndirect, Action<Action> post, ILog log, Action<string> broken)
    {
        (_host, _frontend, _maxIndirect, _post, _broken) = (host, frontend, maxIndirect, post, broken);
        _ring = new BlockRing(pages, frontend.Consumed, frontend.Produced);
        _transfer = new BlockTransfer(disk, host.Grants, post, log);
        _channel = host.Bind(frontend.Port, Serve) ?? throw new InvalidOperationException($"event-channel {frontend.Port} is no port that waits for this backend");
    }

    /// <summary>Maps and binds what the frontend names; null with the reason when it cannot be.</summary>
    public static BlockConnection? Open(IBackendHost host, BlockFrontend frontend, IBlockBackend disk, int maxIndirect, Action<Action> post, ILog log, Action<string> broken, out string reason)
    {
        var pages = new List<SharedPage>();
        foreach (uint reference in frontend.RingReferences)
        {
            if (!host.Grants.TryMap(reference, out SharedPage page))
            {
                reason = $"ring-ref {reference} is no page granted for writing";
                Unmap(host, frontend.RingReferences.Take(pages.Count));
                return null;
            }

            pages.Add(page);
        }

        try
        {
            reason = "";
            return new BlockConnection(host, frontend, pages, disk, maxIndirect, post, log, broken);
        }
        catch (InvalidOperationException e)
        {
            reason = e.Message;
            Unmap(host, frontend.RingReferences);
            return null;
        }
    }

    /// <summary>As it stands between two requests, for saving; nothing may be under way.</summary>
    public BlockFrontend Frontend => _frontend with { Consumed = _ring.Consumed, Produced = _ring.Produced };

    /// <summary>Takes what is in the ring: at the guest's event. At most one ring full at a time, so that a busy guest keeps nobody out.</summary>
    public void Serve()
    {
        Span<byte> entry = stackalloc byte[BlockAbi.EntryBytes];
        for (int taken = 0; !_closed && !_held; taken++)
        {
            if (taken >= _ring.Entries)
            {
                PostServe();
                return;
            }

            // A completion goes on with it.
            if (_transfer.Bytes >= MaxBytes)
                return;
            if (_ring.TryTake(entry, out bool broken))
            {
                Start(BlockRequest.Parse(entry, _maxIndirect));
            }
            else if (broken)
            {
                _broken("its ring index cannot be");
                return;
            }
            else if (!_ring.Rearm())
            {
                return;
            }
        }
    }

    /// <summary>Takes nothing new and waits for what is under way.</summary>
    public void Hold()
    {
        _held = true;
        _transfer.Drain();
    }

    public void Release()
    {
        _held = false;
        if (!_closed)
            PostServe();
    }

    /// <summary>Lets go of the guest's pages and port, after what is under way has ended.</summary>
    public void Close()
    {
        if (_closed)
            return;
        _closed = true;
        _transfer.Abandon();
        _channel.Close();
        Unmap(_host, _frontend.RingReferences);
    }

    private static void Unmap(IBackendHost host, IEnumerable<uint> references)
    {
        foreach (uint reference in references)
            host.Grants.Unmap(reference);
    }

    private void Start(BlockRequest request)
    {
        _underWay++;
        _transfer.Start(request, status => Complete(request, status));
    }

    private void Complete(BlockRequest request, short status)
    {
        _underWay--;
        // Indirect requests are answered as what they stand for: xen-blkfront gives the disk up otherwise.
        if (_ring.Respond(request.Id, request.Operation, status))
            _channel.Notify();
        PostServe();
    }

    private void PostServe()
    {
        if (_servePosted || _closed)
            return;
        _servePosted = true;
        _post(() =>
        {
            _servePosted = false;
            Serve();
        });
    }
}
