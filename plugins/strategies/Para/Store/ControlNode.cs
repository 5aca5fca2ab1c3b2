namespace VirtPS.Strategy.Para.Store;

/// <summary>
/// The toolstack's requests to a guest: <c>control/shutdown</c>. The host writes what it wants, the guest takes note by writing an empty value and does it
/// (docs/misc/xenstore-paths.pandoc). What the guest can do it says by its <c>control/feature-…</c> nodes. It is never asked to suspend:
/// there is no saved state that it could wake up from.
/// </summary>
internal sealed class ControlNode
{
    private readonly StoreService _store;
    private readonly string _shutdown;
    private readonly string _folder;

    public ControlNode(StoreService store, int domain)
    {
        _store = store;
        _folder = $"{StorePath.HomeOf(domain)}/control";
        _shutdown = $"{_folder}/shutdown";
        var readable = new StorePermission('r', domain);
        var owned = new StorePermission('n', domain);
        store.Write(_folder, "", new StorePermission('n', 0), readable);
        // The guest writes these; it owns them.
        foreach (string name in (ReadOnlySpan<string>)["shutdown", "feature-poweroff", "feature-reboot", "feature-suspend"])
            store.Write($"{_folder}/{name}", "", owned);
    }

    /// <summary>Whether the guest has said that it listens.</summary>
    public bool GuestListens => _store.Read($"{_folder}/feature-poweroff") == "1";

    /// <summary>What the guest has been asked and not taken note of; empty when nothing.</summary>
    public string Pending => _store.Read(_shutdown) ?? "";

    /// <summary>Asks the guest to switch itself off. False when its kernel has not come so far, or cannot; the request then stands for when it does.</summary>
    public bool RequestPowerOff() => Request("poweroff");

    public bool RequestReboot() => Request("reboot");

    private bool Request(string what)
    {
        _store.Write(_shutdown, what);
        return GuestListens;
    }
}
