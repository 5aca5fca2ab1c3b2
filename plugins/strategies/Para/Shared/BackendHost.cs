using VirtPS.Strategy.Para.Store;

namespace VirtPS.Strategy.Para.Shared;

/// <summary>A backend's end of an event channel.</summary>
internal interface IBackendChannel
{
    /// <summary>Notifies the guest; any thread.</summary>
    void Notify();

    /// <summary>Closes this end; nothing is called back afterwards.</summary>
    void Close();
}

/// <summary>
/// The guest's pages as it has granted them to a backend (domain 0). The guest writes its grant table at any time: each use looks anew. Under the device lock.
/// </summary>
internal interface IGrantAccess
{
    /// <summary>Copies out of a granted page; false when the grant does not allow it. Offset and length lie in one page.</summary>
    bool TryRead(uint reference, int offset, Span<byte> destination);

    /// <summary>Copies into a page granted for writing.</summary>
    bool TryWrite(uint reference, int offset, ReadOnlySpan<byte> source);

    /// <summary>Takes a page for as long as a ring is in use. The guest cannot make it a page table meanwhile.</summary>
    bool TryMap(uint reference, out SharedPage page);

    void Unmap(uint reference);
}

/// <summary>What the platform gives to the backends of its paravirtual devices; a service of the machine. Under the device lock.</summary>
internal interface IBackendHost
{
    StoreService Store { get; }

    /// <summary>The guest's domain id.</summary>
    int Domain { get; }

    IGrantAccess Grants { get; }

    /// <summary>Binds to a port that the guest has made for this backend; null when it has not. <paramref name="notified"/> runs under the device lock, soon after the guest has sent.</summary>
    IBackendChannel? Bind(uint port, Action notified);
}
