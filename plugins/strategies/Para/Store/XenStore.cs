namespace VirtPS.Strategy.Para.Store;

/// <summary>The store of the domain: a tree of strings that guest and backends share (xenstore). Under the device lock.</summary>
internal sealed unsafe class XenStore(XenDomain domain)
{
    /// <summary>At start of day, before <see cref="Connect"/>: the tree of a new domain.</summary>
    public void Reset() => _ = domain;

    /// <summary>The guest's ring page (public/io/xs_wire.h), zeroed. Returns the guest's event channel; 0: the guest is told that there is no store.</summary>
    public uint Connect(byte* ring)
    {
        _ = (domain, (nint)ring);
        return 0;
    }

    /// <summary>Writes <c>control/shutdown</c>.</summary>
    public void RequestShutdown(string reason) => domain.Log.Write(Sdk.LogLevel.Warning, $"The guest cannot be asked for '{reason}'.");
}
