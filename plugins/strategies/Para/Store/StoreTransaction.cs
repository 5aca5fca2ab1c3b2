using System.Collections.Immutable;

namespace VirtPS.Strategy.Para.Store;

/// <summary>A change as it was asked for: what a transaction does again when it is committed, and what watches hear of.</summary>
/// <param name="Permissions">Of SET_PERMS only.</param>
internal sealed record StoreChange(StoreMessage Kind, string Path, ReadOnlyMemory<byte>? Value, ImmutableArray<StorePermission> Permissions)
{
    public StoreError Apply(StoreTree tree, int domain, ref ulong generation, out StoreTree changed) => Kind switch
    {
        StoreMessage.Remove => tree.Remove(Path, domain, ref generation, out changed),
        StoreMessage.SetPermissions => tree.SetPermissions(Path, domain, Permissions, ref generation, out changed),
        _ => tree.Write(Path, domain, Value, ref generation, out changed),
    };
}

/// <summary>
/// A transaction of one domain: a view of the tree as it was at the start with the domain's own changes, and a note of every node that was looked at or changed. It can
/// be committed when none of those has changed meanwhile.
/// </summary>
internal sealed class StoreTransaction
{
    private readonly StoreTree _start;
    private readonly Dictionary<string, ulong> _touched = new(StringComparer.Ordinal);
    private readonly List<StoreChange> _changes = [];
    private int _bytes;

    public StoreTransaction(uint id, StoreTree start) => (Id, _start, View) = (id, start, start);

    public uint Id { get; }

    public StoreTree View { get; private set; }

    public IReadOnlyList<StoreChange> Changes => _changes;

    /// <summary>Notes that the outcome depends on this node; false when there are too many.</summary>
    public bool Touch(string path)
    {
        if (_touched.ContainsKey(path))
            return true;
        if (_touched.Count == StoreQuota.TransactionNodes)
            return false;
        _touched.Add(path, GenerationOf(_start, path));
        return true;
    }

    public StoreError Apply(StoreChange change, int domain, ref ulong generation)
    {
        int bytes = _bytes + change.Path.Length + (change.Value?.Length ?? 0);
        if (!Touch(change.Path) || _changes.Count == StoreQuota.TransactionNodes || bytes > StoreQuota.TransactionBytes)
            return StoreError.ENOSPC;
        StoreError error = change.Apply(View, domain, ref generation, out StoreTree changed);
        if (error != StoreError.None)
            return error;
        _bytes = bytes;
        _changes.Add(change);
        View = changed;
        return StoreError.None;
    }

    /// <summary>Whether something that this transaction depends on is different now.</summary>
    public bool ConflictsWith(StoreTree now) => !ReferenceEquals(now, _start) && _touched.Any(t => GenerationOf(now, t.Key) != t.Value);

    private static ulong GenerationOf(StoreTree tree, string path) => tree.Find(path)?.Generation ?? 0;
}
