using System.Globalization;
using VirtPS.Sdk;
using VirtPS.Sdk.Backends;
using VirtPS.Sdk.Devices;
using VirtPS.Strategy.Para.Shared;
using VirtPS.Strategy.Para.Store;

namespace VirtPS.Strategy.Para.Block;

/// <summary>
/// A paravirtual disk as a Xen guest's blkfront sees it: the two ends meet in the store, agree there on what each can do (the keys of xen/include/public/io/blkif.h), and then talk
/// through a ring. A frontend may come and go: its module, or the whole guest, starts anew.
/// </summary>
internal sealed class BlockDevice : IDevice
{
    private const string TypeId = "virtps.para/vbd";
    private const int SchemaVersion = 1;

    // 64 pages of data in a request: enough for the readahead of a stock kernel, little enough for our buffers.
    private const int MaxIndirect = 64;
    private const int MaxRingOrder = 2;

    private readonly BlockSpec _spec;
    private readonly DeviceContext _context;
    private readonly IBackendHost _host;
    private readonly IBlockBackend _disk;
    private readonly string _frontend, _backend, _name;
    private readonly int _number;
    private IDisposable? _watch;
    private BlockConnection? _connection;

    public BlockDevice(BlockSpec spec, string name, DeviceContext context, IBackendHost host, IBlockBackend disk)
    {
        (_spec, _context, _host, _disk, _name) = (spec, context, host, disk, name);
        _number = BlockNames.NumberOf(name);
        _frontend = string.Create(CultureInfo.InvariantCulture, $"{StorePath.HomeOf(host.Domain)}/device/vbd/{_number}");
        _backend = string.Create(CultureInfo.InvariantCulture, $"{StorePath.HomeOf(0)}/backend/vbd/{host.Domain}/{_number}");
    }

    private XenbusState FrontendState => int.TryParse(_host.Store.Read($"{_frontend}/state"), NumberStyles.None, CultureInfo.InvariantCulture, out int s) ? (XenbusState)s : XenbusState.Unknown;

    private XenbusState BackendState => int.TryParse(_host.Store.Read($"{_backend}/state"), NumberStyles.None, CultureInfo.InvariantCulture, out int s) ? (XenbusState)s : XenbusState.Unknown;

    public void Reset(ResetKind kind)
    {
        Disconnect();
        _watch?.Dispose();
        Announce();
        _watch = _host.Store.Watch($"{_frontend}/state", _ => FrontendChanged());
    }

    public void Quiesce() => _connection?.Hold();

    public void Resume() => _connection?.Release();

    public DeviceState Save() => DeviceState.From(TypeId, SchemaVersion, _connection?.Frontend ?? new BlockFrontend());

    /// <summary>The store, the grants and the ports have been restored before.</summary>
    public void Restore(DeviceState state)
    {
        BlockFrontend saved = state.Read<BlockFrontend>(TypeId, SchemaVersion);
        Disconnect();
        _watch?.Dispose();
        _watch = _host.Store.Watch($"{_frontend}/state", _ => FrontendChanged());
        if (saved.RingReferences.Length == 0)
            return;
        _connection = Open(saved, out string reason) ?? throw new VirtException("DeviceStateInvalid", $"Device '{_context.Name}': the saved connection cannot be made again: {reason}.");
        _connection.Hold();
    }

    public void Dispose()
    {
        Disconnect();
        _watch?.Dispose();
        _disk.DisposeAsync().AsTask().GetAwaiter().GetResult();
    }

    /// <summary>Both ends' folders as the toolstack makes them, and what this backend can do.</summary>
    private void Announce()
    {
        BlockGeometry disk = _disk.Geometry;
        Span<StorePermission> theirs = [new('n', _host.Domain), new('r', 0)];
        Span<StorePermission> ours = [new('n', 0), new('r', _host.Domain)];
        _host.Store.Remove(_frontend);
        _host.Store.Remove(_backend);
        _host.Store.Write(_frontend, "", theirs);
        _host.Store.Write(_backend, "", ours);
        WriteAll(_backend,
        [
            ("frontend", _frontend),
            ("frontend-id", Text(_host.Domain)),
            ("online", "1"),
            ("dev", _name),
            ("mode", disk.ReadOnly ? "r" : "w"),
            ("sectors", Text(disk.Length / BlockAbi.SectorSize)),
            ("sector-size", Text(disk.LogicalBlockSize)),
            ("physical-sector-size", Text(disk.PhysicalBlockSize)),
            // VDISK_READONLY
            ("info", disk.ReadOnly ? "4" : "0"),
            ("feature-flush-cache", disk.ReadOnly ? "0" : "1"),
            ("feature-barrier", "0"),
            ("feature-discard", disk.CanDiscard ? "1" : "0"),
            ("discard-granularity", Text(disk.PhysicalBlockSize)),
            ("discard-alignment", "0"),
            ("discard-secure", "0"),
            ("feature-persistent", _spec.PersistentGrants ? "1" : "0"),
            ("feature-max-indirect-segments", Text(MaxIndirect)),
            ("max-ring-page-order", Text(MaxRingOrder)),
            ("multi-queue-max-queues", "1"),
            ("state", Text((int)XenbusState.InitWait)),
        ]);
        WriteAll(_frontend,
        [
            ("backend", _backend),
            ("backend-id", "0"),
            ("virtual-device", Text(_number)),
            ("device-type", "disk"),
            ("state", Text((int)XenbusState.Initialising)),
        ]);
    }

    private void FrontendChanged()
    {
        switch (FrontendState)
        {
            // A frontend that begins anew after it had closed.
            case XenbusState.Initialising when BackendState is XenbusState.Closing or XenbusState.Closed:
                Disconnect();
                SetState(XenbusState.InitWait);
                break;
            case XenbusState.Initialised or XenbusState.Connected when _connection is null && BackendState == XenbusState.InitWait:
                Connect();
                break;
            case XenbusState.Closing:
                Disconnect();
                SetState(XenbusState.Closing);
                break;
            case XenbusState.Closed or XenbusState.Unknown:
                Disconnect();
                SetState(XenbusState.Closed);
                break;
            default:
                // On the way to one of these.
                break;
        }
    }

    private void Connect()
    {
        if (ReadFrontend(out string reason) is not { } frontend || (_connection = Open(frontend, out reason)) is null)
        {
            GiveUp(reason);
            return;
        }

        SetState(XenbusState.Connected);
        // What the frontend has put into the ring before.
        _connection.Serve();
    }

    private BlockConnection? Open(BlockFrontend frontend, out string reason) =>
        BlockConnection.Open(_host, frontend, _disk, MaxIndirect, _context.Post, _context.Log, GiveUp, out reason);

    private BlockFrontend? ReadFrontend(out string reason)
    {
        reason = "";
        string protocol = _host.Store.Read($"{_frontend}/protocol") ?? "x86_64-abi";
        if (protocol != "x86_64-abi")
            reason = $"protocol '{protocol}' is not x86_64-abi";
        if (!TryNumber("event-channel", out uint port))
            reason = "event-channel is no number";
        uint order = 0;
        if (_host.Store.Read($"{_frontend}/ring-page-order") is not null && (!TryNumber("ring-page-order", out order) || order > MaxRingOrder))
            reason = $"ring-page-order is more than {MaxRingOrder}";
        if (reason.Length > 0)
            return null;
        var references = new uint[1 << (int)order];
        for (int i = 0; i < references.Length; i++)
        {
            string key = order == 0 && _host.Store.Read($"{_frontend}/ring-ref") is not null ? "ring-ref" : $"ring-ref{Text(i)}";
            if (!TryNumber(key, out references[i]))
                reason = $"{key} is no number";
        }

        if (references.Distinct().Count() != references.Length)
            reason = "a ring page is named twice";
        return reason.Length == 0 ? new BlockFrontend { RingReferences = references, Port = port } : null;
    }

    private bool TryNumber(string key, out uint value) => uint.TryParse(_host.Store.Read($"{_frontend}/{key}"), NumberStyles.None, CultureInfo.InvariantCulture, out value);

    /// <summary>The frontend breaks the protocol: it gets no more answers until it begins anew.</summary>
    private void GiveUp(string reason)
    {
        _context.Log.Write(LogLevel.Warning, $"The guest's disk driver cannot be served ({reason}); the disk {_name} is closed until it starts anew.");
        Disconnect();
        SetState(XenbusState.Closing);
    }

    private void Disconnect()
    {
        _connection?.Close();
        _connection = null;
    }

    private void SetState(XenbusState state)
    {
        if (BackendState != state)
            _host.Store.Write($"{_backend}/state", Text((int)state));
    }

    private void WriteAll(string folder, ReadOnlySpan<(string Key, string Value)> entries)
    {
        foreach ((string key, string value) in entries)
            _host.Store.Write($"{folder}/{key}", value);
    }

    private static string Text<T>(T value) where T : IFormattable => value.ToString(null, CultureInfo.InvariantCulture);
}
