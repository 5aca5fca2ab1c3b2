using System.Collections.Immutable;

namespace VirtPS.Strategy.Para.Store;

/// <summary>What a domain may do with a node. The first of a node's permissions names its owner, who may do everything, and what all others may do.</summary>
/// <param name="Access">'n' none, 'r' read, 'w' write, 'b' both.</param>
internal readonly record struct StorePermission(char Access, int Domain)
{
    public bool CanRead => Access is 'r' or 'b';

    public bool CanWrite => Access is 'w' or 'b';

    public override string ToString() => string.Create(System.Globalization.CultureInfo.InvariantCulture, $"{Access}{Domain}");
}

/// <summary>A node; never changed once made, so that a transaction's view is a reference to an old root.</summary>
/// <param name="Generation">Grows with each change of value, permissions or the set of children.</param>
internal sealed record StoreNode(ReadOnlyMemory<byte> Value, ImmutableArray<StorePermission> Permissions, ImmutableSortedDictionary<string, StoreNode> Children, ulong Generation)
{
    public static readonly ImmutableSortedDictionary<string, StoreNode> NoChildren = ImmutableSortedDictionary.Create<string, StoreNode>(StringComparer.Ordinal);

    public int Owner => Permissions[0].Domain;

    public bool Allows(int domain, bool read, bool write)
    {
        if (domain == 0 || domain == Owner)
            return true;
        StorePermission granted = Permissions[0];
        foreach (StorePermission p in Permissions.AsSpan()[1..])
        {
            if (p.Domain == domain)
            {
                granted = p;
                break;
            }
        }

        return (!read || granted.CanRead) && (!write || granted.CanWrite);
    }

    /// <summary>How many nodes in this subtree belong to a domain. Not recursive: guests decide how deep it is.</summary>
    public int CountOwnedBy(int domain)
    {
        int count = 0;
        var left = new Stack<StoreNode>([this]);
        while (left.TryPop(out StoreNode? node))
        {
            count += node.Owner == domain ? 1 : 0;
            foreach (StoreNode child in node.Children.Values)
                left.Push(child);
        }

        return count;
    }
}
