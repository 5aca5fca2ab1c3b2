using VirtPS.Strategy.Para.EventChannels;
using VirtPS.Strategy.Para.GrantTables;
using VirtPS.Strategy.Para.Store;

namespace VirtPS.Strategy.Para.Shared;

/// <summary>A domain as its backends see it. Under the device lock.</summary>
internal sealed class XenBackendHost(XenDomain domain, StoreService store) : IBackendHost, IGrantAccess
{
    private readonly Dictionary<uint, Stack<GrantedPage>> _mapped = [];

    public StoreService Store => store;

    public int Domain => XenAbi.DomainId;

    public IGrantAccess Grants => this;

    public IBackendChannel? Bind(uint port, Action notified) => domain.Ports.Bind(port, notified) is { } channel ? new Channel(channel) : null;

    /// <summary>The domain begins anew: its pages and grants of before are no more, and what backends give back late is nothing.</summary>
    public void Forget() => _mapped.Clear();

    public bool TryRead(uint reference, int offset, Span<byte> destination)
    {
        if (!domain.Grants.TryMap(reference, write: false, out GrantedPage page))
            return false;
        page.Span.Slice(offset, destination.Length).CopyTo(destination);
        domain.Grants.Unmap(page);
        return true;
    }

    public bool TryWrite(uint reference, int offset, ReadOnlySpan<byte> source)
    {
        if (!domain.Grants.TryMap(reference, write: true, out GrantedPage page))
            return false;
        source.CopyTo(page.Span.Slice(offset, source.Length));
        domain.Grants.Unmap(page);
        return true;
    }

    public bool TryMap(uint reference, out SharedPage page)
    {
        page = default;
        if (!domain.Grants.TryMap(reference, write: true, out GrantedPage granted))
            return false;
        if (!_mapped.TryGetValue(reference, out Stack<GrantedPage>? uses))
            _mapped[reference] = uses = new Stack<GrantedPage>();
        uses.Push(granted);
        page = new SharedPage(domain.Memory, granted.Mfn * XenAbi.PageSize);
        return true;
    }

    public void Unmap(uint reference)
    {
        if (_mapped.TryGetValue(reference, out Stack<GrantedPage>? uses) && uses.TryPop(out GrantedPage page))
            domain.Grants.Unmap(page);
    }

    private sealed class Channel(BackendChannel channel) : IBackendChannel
    {
        public void Notify() => channel.Notify();

        public void Close() => channel.Close();
    }
}
