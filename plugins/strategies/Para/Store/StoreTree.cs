using System.Collections.Immutable;

namespace VirtPS.Strategy.Para.Store;

/// <summary>
/// The tree as it is seen at one time: an immutable root with the number of nodes that each domain owns. Changes give a new tree. Domain 0 may do
/// everything and has no quota.
/// </summary>
internal sealed record StoreTree(StoreNode Root, ImmutableDictionary<int, int> Owned)
{
    public static readonly StoreTree Empty = new(new StoreNode(default, [new StorePermission('n', 0)], StoreNode.NoChildren, 1), ImmutableDictionary<int, int>.Empty);

    public StoreNode? Find(string path)
    {
        StoreNode? node = Root;
        foreach (string part in StorePath.Split(path))
        {
            if (!node.Children.TryGetValue(part, out node))
                return null;
        }

        return node;
    }

    /// <summary>The node, when the domain may use it so. What is missing is ENOENT only for those who may read the nearest ancestor: others learn nothing.</summary>
    public StoreError Get(string path, int domain, bool read, bool write, out StoreNode node)
    {
        node = Root;
        if (Find(path) is { } found)
        {
            node = found;
            return found.Allows(domain, read, write) ? StoreError.None : StoreError.EACCES;
        }

        return NearestAncestor(path).Allows(domain, read: true, write: false) ? StoreError.ENOENT : StoreError.EACCES;
    }

    /// <summary>Sets a value, making the node and its ancestors where they are missing. <paramref name="value"/> null: MKDIR, which leaves an existing node as it is.</summary>
    public StoreError Write(string path, int domain, ReadOnlyMemory<byte>? value, ref ulong generation, out StoreTree changed)
    {
        changed = this;
        if (path == "/")
            return domain == 0 || value is null ? StoreError.None : StoreError.EACCES;
        if (domain != 0 && value is { Length: > StoreQuota.NodeBytes - (StoreQuota.PermissionsPerNode * 8) })
            return StoreError.ENOSPC;
        if (Find(path) is { } existing)
        {
            if (!existing.Allows(domain, read: false, write: true))
                return StoreError.EACCES;
            if (value is { } v)
                changed = Replace(path, existing with { Value = v, Generation = ++generation });
            return StoreError.None;
        }

        StoreNode nearest = NearestAncestor(path);
        if (!nearest.Allows(domain, read: false, write: true))
            return StoreError.EACCES;
        ImmutableArray<StorePermission> permissions = domain == 0 ? nearest.Permissions : nearest.Permissions.SetItem(0, nearest.Permissions[0] with { Domain = domain });
        int made = 0;
        ulong now = ++generation;
        string[] parts = StorePath.Split(path);
        StoreNode root = Create(Root, parts, 0, value ?? default(ReadOnlyMemory<byte>), permissions, now, ref made);
        return Count(permissions[0].Domain, made, domain, root, out changed);
    }

    public StoreError Remove(string path, int domain, ref ulong generation, out StoreTree changed)
    {
        changed = this;
        if (path == "/")
            return StoreError.EINVAL;
        if (Find(path) is not { } node)
        {
            // Removing what is not there succeeds when the place where it would be is there (xenstore.txt, RM).
            StoreNode? parent = Find(StorePath.ParentOf(path));
            return parent is null ? StoreError.ENOENT : parent.Allows(domain, read: false, write: true) ? StoreError.None : StoreError.EACCES;
        }

        if (!node.Allows(domain, read: false, write: true))
            return StoreError.EACCES;
        ImmutableDictionary<int, int> owned = Owned;
        foreach ((int owner, int count) in Owned)
        {
            int gone = node.CountOwnedBy(owner);
            if (gone > 0)
                owned = owned.SetItem(owner, count - gone);
        }

        ulong now = ++generation;
        string parentPath = StorePath.ParentOf(path);
        StoreNode parentNode = Find(parentPath)!;
        changed = Replace(parentPath, parentNode with { Children = parentNode.Children.Remove(path[(path.LastIndexOf('/') + 1)..]), Generation = now }) with { Owned = owned };
        return StoreError.None;
    }

    /// <summary>Only the owner may, and only domain 0 may give a node to another owner.</summary>
    public StoreError SetPermissions(string path, int domain, ImmutableArray<StorePermission> permissions, ref ulong generation, out StoreTree changed)
    {
        changed = this;
        StoreError error = Get(path, domain, read: false, write: false, out StoreNode node);
        if (error != StoreError.None)
            return error;
        if (domain != 0 && node.Owner != domain)
            return StoreError.EACCES;
        if (domain != 0 && permissions[0].Domain != node.Owner)
            return StoreError.EPERM;
        ImmutableDictionary<int, int> owned = Owned;
        if (permissions[0].Domain != node.Owner)
            owned = Add(Add(owned, node.Owner, -1), permissions[0].Domain, 1);
        changed = Replace(path, node with { Permissions = permissions, Generation = ++generation }) with { Owned = owned };
        return StoreError.None;
    }

    private StoreError Count(int owner, int made, int domain, StoreNode root, out StoreTree changed)
    {
        changed = this;
        if (domain != 0 && Owned.GetValueOrDefault(owner) + made > StoreQuota.Nodes)
            return StoreError.ENOSPC;
        changed = new StoreTree(root, Add(Owned, owner, made));
        return StoreError.None;
    }

    private static ImmutableDictionary<int, int> Add(ImmutableDictionary<int, int> owned, int owner, int count) =>
        owner == 0 ? owned : owned.SetItem(owner, owned.GetValueOrDefault(owner) + count);

    private StoreNode NearestAncestor(string path)
    {
        StoreNode node = Root;
        foreach (string part in StorePath.Split(path))
        {
            if (!node.Children.TryGetValue(part, out StoreNode? child))
                break;
            node = child;
        }

        return node;
    }

    private static StoreNode Create(StoreNode node, string[] parts, int depth, ReadOnlyMemory<byte> value, ImmutableArray<StorePermission> permissions, ulong generation, ref int made)
    {
        bool last = depth == parts.Length - 1;
        if (node.Children.TryGetValue(parts[depth], out StoreNode? child))
            return node with { Children = node.Children.SetItem(parts[depth], Create(child, parts, depth + 1, value, permissions, generation, ref made)) };
        made++;
        var fresh = new StoreNode(last ? value : default, permissions, StoreNode.NoChildren, generation);
        if (!last)
            fresh = Create(fresh, parts, depth + 1, value, permissions, generation, ref made);
        return node with { Children = node.Children.Add(parts[depth], fresh), Generation = generation };
    }

    private StoreTree Replace(string path, StoreNode node) => this with { Root = Replace(Root, StorePath.Split(path), 0, node) };

    private static StoreNode Replace(StoreNode at, string[] parts, int depth, StoreNode node) =>
        depth == parts.Length ? node : at with { Children = at.Children.SetItem(parts[depth], Replace(at.Children[parts[depth]], parts, depth + 1, node)) };
}
