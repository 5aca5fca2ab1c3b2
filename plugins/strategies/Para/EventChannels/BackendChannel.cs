namespace VirtPS.Strategy.Para.EventChannels;

/// <summary>The VMM's end of an event channel: of the console, the store, a device backend.</summary>
internal sealed class BackendChannel
{
    private readonly EventChannelTable _table;
    private readonly XenDomain _domain;
    private readonly Action _notified;
    private int _posted;
    private bool _detached;

    internal BackendChannel(EventChannelTable table, XenDomain domain, uint port, Action notified) =>
        (_table, _domain, Port, _notified) = (table, domain, port, notified);

    /// <summary>The guest's port.</summary>
    public uint Port { get; }

    /// <summary>Any thread: notifies the guest.</summary>
    public void Notify()
    {
        if (!Volatile.Read(ref _detached))
            _table.SetPending(Port, -1);
    }

    /// <summary>Closes this end; nothing is called back afterwards (under the device lock).</summary>
    public void Close()
    {
        Detach();
        _table.Unbind(this);
    }

    /// <summary>The guest has sent: once for any number of times until it is served.</summary>
    internal void Signal()
    {
        if (Interlocked.Exchange(ref _posted, 1) == 0)
            _domain.Post(Serve);
    }

    internal void Detach() => Volatile.Write(ref _detached, true);

    private void Serve()
    {
        Volatile.Write(ref _posted, 0);
        Interlocked.MemoryBarrier();
        if (!Volatile.Read(ref _detached))
            _notified();
    }
}
