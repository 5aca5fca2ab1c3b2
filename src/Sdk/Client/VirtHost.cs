using VirtPS.Client.Platform;
using VirtPS.Client.Plugins;
using VirtPS.Client.Processes;
using VirtPS.Client.Protocol;
using VirtPS.Client.Store;
using VirtPS.Sdk;
using VirtPS.Sdk.Machine;

namespace VirtPS.Client;

/// <summary>
/// A host and its VMs. Thread-safe; several may exist, in one process or in many, over one store. Everything that fails throws
/// <see cref="VirtException"/> with an id of <see cref="ErrorIds"/>; everything returned is an immutable snapshot. Cancellation stops the waiting at
/// once; what a worker has already been told to do, it does.
/// </summary>
public sealed partial class VirtHost
{
    /// <summary>How long somebody may hold a VM's lock for one change before we say that it is busy.</summary>
    private static readonly TimeSpan LockPatience = TimeSpan.FromSeconds(5);

    private readonly VirtHostOptions _options;
    private readonly VmStore _store;
    private readonly StateReader _states;

    private VirtHost(VirtHostOptions options)
    {
        _options = options;
        HostId = HostIdentity.GetHostId();
        _store = new VmStore(new StorePaths(options.StorePath ?? StorePaths.DefaultRoot()));
        _states = new StateReader(_store, HostId);
        Plugins = new PluginDirectory(options);
    }

    private PluginDirectory Plugins { get; }

    /// <summary>Stable over restarts.</summary>
    public string HostId { get; }

    /// <summary>The store's root folder.</summary>
    public string StorePath => _store.Paths.Root;

    /// <summary>Connects to a host. <paramref name="endpoint"/>: null, empty, <c>.</c> or <c>localhost</c> for this one; others are refused (HostNotSupported).</summary>
    public static VirtHost Connect(string? endpoint = null) =>
        string.IsNullOrEmpty(endpoint) || endpoint is "." || endpoint.Equals("localhost", StringComparison.OrdinalIgnoreCase) || endpoint.Equals(Environment.MachineName, StringComparison.OrdinalIgnoreCase)
            ? new VirtHost(new VirtHostOptions())
            : throw new VirtException(ErrorIds.HostNotSupported, $"'{endpoint}' is not this host, and this version of VirtPS works on this host only.", "Leave the host out, or give 'localhost'.", endpoint);

    /// <summary>Connects to this host with other places than the usual ones.</summary>
    public static VirtHost Connect(VirtHostOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        return new VirtHost(options);
    }

    /// <summary>VMs by name or id; a name without wildcards that is missing, or a VM that cannot be read, is one of the result's errors.</summary>
    public async Task<VmQueryResult> GetAsync(VmQuery? query = null, CancellationToken cancellation = default)
    {
        query ??= new VmQuery();
        return await Task.Run(() => FindAsync(query, cancellation), cancellation).ConfigureAwait(false);
    }

    /// <summary>One VM. Errors: VMNotFound, StoreUnreadable.</summary>
    public async Task<VirtualMachine> GetAsync(Guid id, CancellationToken cancellation = default) =>
        _states.ToVirtualMachine(await ObserveAsync(id, cancellation).ConfigureAwait(false));

    private async Task<VmQueryResult> FindAsync(VmQuery query, CancellationToken cancellation)
    {
        var errors = new List<VirtException>();
        var unreadable = new List<VirtException>();
        var chosen = new List<VmDocument>();
        bool byName = query.Names.Count > 0 || query.Ids.Count == 0;
        var unmatched = new HashSet<string>(query.Names.Where(n => !VmNames.HasWildcards(n)), VmNames.Comparer);
        foreach (Guid id in byName ? _store.List() : [])
        {
            cancellation.ThrowIfCancellationRequested();
            if (TryLoad(id, unreadable) is not { } document)
                continue;
            string name = document.Configuration.Name;
            bool wanted = query.Names.Count == 0;
            foreach (string pattern in query.Names)
            {
                if (VmNames.HasWildcards(pattern) ? VmNames.Matches(pattern, name) : VmNames.Comparer.Equals(VmNames.Unescape(pattern), name))
                {
                    wanted = true;
                    unmatched.Remove(pattern);
                }
            }

            if (wanted)
                chosen.Add(document);
        }

        // An unreadable VM may be the one that was meant, unless every name was found.
        if (query.Names.Count == 0 || unmatched.Count > 0 || query.Names.Any(VmNames.HasWildcards))
            errors.AddRange(unreadable);
        errors.AddRange(unmatched.Select(n => VmStore.NotFound(n)));
        foreach (Guid id in query.Ids.Except(chosen.Select(d => d.Configuration.Id)).ToList())
        {
            int before = errors.Count;
            if (TryLoad(id, errors) is { } document)
                chosen.Add(document);
            else if (errors.Count == before)
                errors.Add(VmStore.NotFound(id.ToString()));
        }

        IEnumerable<VirtualMachine> machines = await ObserveAllAsync(chosen, errors, cancellation).ConfigureAwait(false);
        return new VmQueryResult([.. machines.OrderBy(m => m.Name, VmNames.Comparer)], errors);
    }

    private VmDocument? TryLoad(Guid id, List<VirtException> errors)
    {
        try
        {
            return _store.TryLoad(id);
        }
        catch (VirtException e)
        {
            errors.Add(e);
            return null;
        }
    }

    /// <summary>All at once: one worker that is slow to answer must not add to the next.</summary>
    private async Task<IEnumerable<VirtualMachine>> ObserveAllAsync(List<VmDocument> documents, List<VirtException> errors, CancellationToken cancellation)
    {
        var looks = documents.ConvertAll(d => _states.ObserveAsync(d, cancellation));
        var machines = new List<VirtualMachine>(looks.Count);
        foreach (Task<StateReader.Observation> look in looks)
        {
            try
            {
                machines.Add(_states.ToVirtualMachine(await look.ConfigureAwait(false)));
            }
            catch (VirtException e) when (e.ErrorId == ErrorIds.VMNotFound)
            {
                // It was removed while we looked.
            }
            catch (VirtException e)
            {
                errors.Add(e);
            }
        }

        return machines;
    }

    private async Task<StateReader.Observation> ObserveAsync(Guid id, CancellationToken cancellation) =>
        await _states.ObserveAsync(_store.Load(id), cancellation).ConfigureAwait(false);

    /// <summary>The run of a VM that a worker holds. Errors: InvalidVMState.</summary>
    private async Task<StateReader.Observation> RequireLiveAsync(Guid id, string what, CancellationToken cancellation)
    {
        StateReader.Observation seen = await ObserveAsync(id, cancellation).ConfigureAwait(false);
        return seen.Live ? seen : throw InvalidState(seen, what, "Start it first (Start-VirtVM).");
    }

    /// <summary>Calls the worker of a running VM.</summary>
    private async Task<T> InvokeAsync<T>(Guid id, string what, string method, IReadOnlyList<object?> arguments, CancellationToken cancellation)
    {
        StateReader.Observation seen = await RequireLiveAsync(id, what, cancellation).ConfigureAwait(false);
        return await WorkerConnection.InvokeAsync<T>(id, seen.Document.Run!, method, arguments, cancellation).ConfigureAwait(false);
    }

    private static VirtException InvalidState(StateReader.Observation seen, string what, string action)
    {
        string reason = seen.Reason.Length > 0 ? $" ({seen.Reason.TrimEnd('.')})" : "";
        return new VirtException(ErrorIds.InvalidVMState, $"VM '{seen.Document.Configuration.Name}' is {seen.State}{reason}: it cannot {what}.", action, seen.Document.Configuration.Name);
    }
}
