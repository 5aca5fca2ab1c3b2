using System.Collections.Immutable;
using System.Text;

namespace VirtPS.Strategy.Para.Store;

/// <summary>Who hears of changes: a domain's watch, or a part of the host. Both are told after the change, the host outside of it.</summary>
internal interface IStoreWatcher
{
    /// <summary>The absolute path that is watched, with everything below it.</summary>
    string Path { get; }

    /// <summary>Whether the watcher may know of this node.</summary>
    bool MaySee(StoreTree tree, string path);

    void Changed(string path);
}

/// <summary>
/// The store: one tree, its watches, and what the host's side does in it (as domain 0). Domains come through <see cref="StoreConnection"/>. Under the device lock.
/// </summary>
internal sealed class StoreService
{
    private readonly List<IStoreWatcher> _watchers = [];
    private readonly Queue<Action> _calls = new();
    private bool _calling;
    private ulong _generation = 1;

    public StoreTree Tree { get; private set; } = StoreTree.Empty;

    /// <summary>An empty tree again; watches stay, and hear nothing of it.</summary>
    public void Clear()
    {
        _calls.Clear();
        Tree = StoreTree.Empty;
    }

    /// <summary>The value as text; null where there is no such node.</summary>
    public string? Read(string path) => Tree.Find(path) is { } node ? Encoding.Latin1.GetString(node.Value.Span) : null;

    public IReadOnlyList<string> List(string path) => Tree.Find(path) is { } node ? [.. node.Children.Keys] : [];

    /// <summary>Writes as domain 0. New nodes take their parent's permissions unless some are given (the first names the owner).</summary>
    public void Write(string path, string value, params ReadOnlySpan<StorePermission> permissions)
    {
        Apply(new StoreChange(StoreMessage.Write, path, Encoding.Latin1.GetBytes(value), default), 0);
        if (!permissions.IsEmpty)
            Apply(new StoreChange(StoreMessage.SetPermissions, path, null, [.. permissions]), 0);
    }

    public void Remove(string path) => Apply(new StoreChange(StoreMessage.Remove, path, null, default), 0);

    /// <summary>Has <paramref name="changed"/> called with the path of each change at or below <paramref name="path"/>, soon after it, until the result is disposed.</summary>
    public IDisposable Watch(string path, Action<string> changed)
    {
        var watcher = new HostWatcher(this, path, changed);
        _watchers.Add(watcher);
        return watcher;
    }

    public void Add(IStoreWatcher watcher) => _watchers.Add(watcher);

    public void Remove(IStoreWatcher watcher) => _watchers.Remove(watcher);

    /// <summary>Makes a change outside of any transaction, and tells of it.</summary>
    public StoreError Apply(StoreChange change, int domain)
    {
        StoreTree before = Tree;
        StoreError error = change.Apply(Tree, domain, ref _generation, out StoreTree changed);
        if (error != StoreError.None)
            return error;
        Tree = changed;
        Tell(change, before);
        RunCalls();
        return StoreError.None;
    }

    /// <summary>A change in a transaction's own view.</summary>
    public StoreError Apply(StoreChange change, int domain, StoreTransaction transaction) => transaction.Apply(change, domain, ref _generation);

    /// <summary>EAGAIN when something that it saw has changed; else all of it, or nothing with the error that stands against it.</summary>
    public StoreError Commit(StoreTransaction transaction, int domain)
    {
        if (transaction.ConflictsWith(Tree))
            return StoreError.EAGAIN;
        StoreTree before = Tree, tree = Tree;
        foreach (StoreChange change in transaction.Changes)
        {
            StoreError error = change.Apply(tree, domain, ref _generation, out tree);
            if (error != StoreError.None)
                return error;
        }

        Tree = tree;
        foreach (StoreChange change in transaction.Changes)
            Tell(change, before);
        RunCalls();
        return StoreError.None;
    }

    private void Tell(StoreChange change, StoreTree before)
    {
        // MKDIR of what is there, and RM of what is not, change nothing.
        if (before.Find(change.Path) is null ? change.Kind == StoreMessage.Remove : change.Kind == StoreMessage.MakeDirectory)
            return;
        foreach (IStoreWatcher watcher in _watchers.ToArray())
        {
            if (StorePath.IsAtOrBelow(change.Path, watcher.Path))
                TellOne(watcher, change.Path, before);
            else if (change.Kind == StoreMessage.Remove && StorePath.IsAtOrBelow(watcher.Path, change.Path) && before.Find(watcher.Path) is not null)
                TellOne(watcher, watcher.Path, before);
        }
    }

    // Of a node that is gone only those may hear who could see it.
    private void TellOne(IStoreWatcher watcher, string path, StoreTree before)
    {
        if (watcher.MaySee(Tree.Find(path) is null ? before : Tree, path))
            watcher.Changed(path);
    }

    private void RunCalls()
    {
        if (_calling)
            return;
        _calling = true;
        try
        {
            while (_calls.TryDequeue(out Action? call))
                call();
        }
        finally
        {
            _calling = false;
        }
    }

    private sealed class HostWatcher(StoreService store, string path, Action<string> changed) : IStoreWatcher, IDisposable
    {
        private bool _disposed;

        public string Path => path;

        public bool MaySee(StoreTree tree, string node) => true;

        public void Changed(string node) => store._calls.Enqueue(() =>
        {
            if (!_disposed)
                changed(node);
        });

        public void Dispose()
        {
            _disposed = true;
            store._watchers.Remove(this);
        }
    }
}
