using System.Buffers.Binary;
using System.Collections.Immutable;
using System.Globalization;
using System.Text;

namespace VirtPS.Strategy.Para.Store;

/// <summary>
/// One domain's conversation with the store: requests in, replies and watch events out (docs/misc/xenstore.txt, xs_wire.h). Everything in a request comes from the guest: nothing is
/// believed, and what a domain may hold is bounded by <see cref="StoreQuota"/>. Under the device lock.
/// </summary>
internal sealed class StoreConnection(StoreService store, int domain)
{
    public const int HeaderBytes = 16;

    private readonly Dictionary<uint, StoreTransaction> _transactions = [];
    private readonly Dictionary<(string Path, string Token), DomainWatch> _watches = [];
    private readonly Queue<byte[]> _replies = new();
    private readonly Queue<(byte[] Message, string Path, string Token)> _events = new();
    private readonly HashSet<(string Path, string Token)> _waiting = [];
    private int _replyBytes, _eventBytes;
    private uint _lastTransaction;

    /// <summary>Replies wait for room in the ring: no more requests are taken.</summary>
    public bool IsBacklogged => _replyBytes > StoreQuota.Backlog;

    /// <summary>Watch events that were dropped because the guest did not fetch them.</summary>
    public long DroppedEvents { get; private set; }

    /// <summary>The domain was asked something it may hear of at any time: there is output.</summary>
    public Action? OutputAvailable { get; set; }

    /// <summary>The next whole message for the guest; null when there is none. Replies go before events: they are answered one by one.</summary>
    public byte[]? TakeOutput()
    {
        if (_replies.TryDequeue(out byte[]? reply))
        {
            _replyBytes -= reply.Length;
            return reply;
        }

        if (!_events.TryDequeue(out (byte[] Message, string Path, string Token) next))
            return null;
        _eventBytes -= next.Message.Length;
        _waiting.Remove((next.Path, next.Token));
        return next.Message;
    }

    /// <summary>Forgets all: the guest has begun anew.</summary>
    public void Reset()
    {
        DropWatches();
        _transactions.Clear();
        _replies.Clear();
        _events.Clear();
        _waiting.Clear();
        (_replyBytes, _eventBytes) = (0, 0);
    }

    /// <summary>Answers one request. <paramref name="payload"/> is the worker's own copy, at most <see cref="StoreQuota.Payload"/> bytes.</summary>
    public void Handle(StoreMessage type, uint requestId, uint transactionId, ReadOnlySpan<byte> payload)
    {
        StoreTransaction? transaction = null;
        if (transactionId != 0 && !_transactions.TryGetValue(transactionId, out transaction))
        {
            Fail(requestId, transactionId, StoreError.ENOENT);
            return;
        }

        byte[]? reply;
        StoreError error;
        DomainWatch? fresh = null;
        switch (type)
        {
            case StoreMessage.Directory:
                error = List(payload, transaction, out reply);
                break;
            case StoreMessage.DirectoryPart:
                error = ListPart(payload, transaction, out reply);
                break;
            case StoreMessage.Read:
                error = Read(payload, transaction, out reply);
                break;
            case StoreMessage.GetPermissions:
                error = GetPermissions(payload, transaction, out reply);
                break;
            case StoreMessage.Write:
                error = Write(payload, transaction, out reply);
                break;
            case StoreMessage.MakeDirectory:
                error = Change(payload, transaction, p => new StoreChange(StoreMessage.MakeDirectory, p, null, default), out reply);
                break;
            case StoreMessage.Remove:
                error = Change(payload, transaction, p => new StoreChange(StoreMessage.Remove, p, null, default), out reply);
                break;
            case StoreMessage.SetPermissions:
                error = SetPermissions(payload, transaction, out reply);
                break;
            case StoreMessage.Watch:
                error = AddWatch(payload, out reply, out fresh);
                break;
            case StoreMessage.Unwatch:
                error = RemoveWatch(payload, out reply);
                break;
            case StoreMessage.TransactionStart:
                error = StartTransaction(transaction, out reply);
                break;
            case StoreMessage.TransactionEnd:
                error = EndTransaction(payload, transaction, out reply);
                break;
            case StoreMessage.GetDomainPath:
                error = GetDomainPath(payload, out reply);
                break;
            case StoreMessage.ResetWatches:
                DropWatches();
                _transactions.Clear();
                (error, reply) = (StoreError.None, Ok);
                break;
            // What only the toolstack's domain may ask.
            case StoreMessage.Control or StoreMessage.Introduce or StoreMessage.Release or StoreMessage.IsDomainIntroduced or StoreMessage.Resume or StoreMessage.SetTarget:
                (error, reply) = (StoreError.EACCES, null);
                break;
            default:
                (error, reply) = (StoreError.ENOSYS, null);
                break;
        }

        if (error == StoreError.None && reply!.Length > StoreQuota.Payload)
            error = StoreError.E2BIG;
        if (error == StoreError.None)
            Reply(type, requestId, transactionId, reply!);
        else
            Fail(requestId, transactionId, error);
        // A new watch fires once at once, after it was confirmed.
        fresh?.Fire(fresh.Given);
    }

    private static byte[] Ok => "OK\0"u8.ToArray();

    /// <summary>A NUL-terminated string that is the whole payload; some clients leave the NUL away.</summary>
    private static bool TryGetOnly(ReadOnlySpan<byte> payload, out string text)
    {
        int end = payload.IndexOf((byte)0);
        text = Encoding.Latin1.GetString(end < 0 ? payload : payload[..end]);
        return end < 0 || end == payload.Length - 1;
    }

    private static bool TryTake(ref ReadOnlySpan<byte> payload, out string text)
    {
        int end = payload.IndexOf((byte)0);
        text = "";
        if (end < 0)
            return false;
        text = Encoding.Latin1.GetString(payload[..end]);
        payload = payload[(end + 1)..];
        return true;
    }

    private StoreError Find(string text, StoreTransaction? transaction, bool read, out string path, out StoreNode node)
    {
        node = store.Tree.Root;
        path = StorePath.Canonicalize(text, domain) ?? "";
        if (path.Length == 0 || StorePath.IsSpecial(text))
            return StoreError.EINVAL;
        if (transaction is not null && !transaction.Touch(path))
            return StoreError.ENOSPC;
        return (transaction?.View ?? store.Tree).Get(path, domain, read, write: false, out node);
    }

    private StoreError Read(ReadOnlySpan<byte> payload, StoreTransaction? transaction, out byte[]? reply)
    {
        reply = null;
        if (!TryGetOnly(payload, out string text))
            return StoreError.EINVAL;
        StoreError error = Find(text, transaction, read: true, out _, out StoreNode node);
        if (error == StoreError.None)
            reply = node.Value.ToArray();
        return error;
    }

    private StoreError List(ReadOnlySpan<byte> payload, StoreTransaction? transaction, out byte[]? reply)
    {
        reply = null;
        if (!TryGetOnly(payload, out string text))
            return StoreError.EINVAL;
        StoreError error = Find(text, transaction, read: true, out _, out StoreNode node);
        if (error == StoreError.None)
            reply = Names(node);
        return error;
    }

    private static byte[] Names(StoreNode node) => Encoding.Latin1.GetBytes(string.Concat(node.Children.Keys.Select(k => k + "\0")));

    /// <summary>path, offset → generation, then names from that byte on; the last part ends with an empty name.</summary>
    private StoreError ListPart(ReadOnlySpan<byte> payload, StoreTransaction? transaction, out byte[]? reply)
    {
        reply = null;
        if (!TryTake(ref payload, out string text) || !TryGetOnly(payload, out string number) || !int.TryParse(number, NumberStyles.None, CultureInfo.InvariantCulture, out int offset))
            return StoreError.EINVAL;
        StoreError error = Find(text, transaction, read: true, out _, out StoreNode node);
        if (error != StoreError.None)
            return error;
        byte[] names = Names(node), head = Encoding.Latin1.GetBytes(string.Create(CultureInfo.InvariantCulture, $"{node.Generation}\0"));
        ReadOnlySpan<byte> rest = names.AsSpan(Math.Min(offset, names.Length));
        int room = StoreQuota.Payload - head.Length - 1;
        bool last = rest.Length <= room;
        // Only whole names.
        ReadOnlySpan<byte> part = last ? rest : rest[..(rest[..room].LastIndexOf((byte)0) + 1)];
        reply = last ? [.. head, .. part, 0] : [.. head, .. part];
        return StoreError.None;
    }

    private StoreError GetPermissions(ReadOnlySpan<byte> payload, StoreTransaction? transaction, out byte[]? reply)
    {
        reply = null;
        if (!TryGetOnly(payload, out string text))
            return StoreError.EINVAL;
        StoreError error = Find(text, transaction, read: true, out _, out StoreNode node);
        if (error == StoreError.None)
            reply = Encoding.Latin1.GetBytes(string.Concat(node.Permissions.Select(p => $"{p}\0")));
        return error;
    }

    private StoreError Write(ReadOnlySpan<byte> payload, StoreTransaction? transaction, out byte[]? reply)
    {
        reply = null;
        if (!TryTake(ref payload, out string text))
            return StoreError.EINVAL;
        byte[] value = payload.ToArray();
        return Change(text, transaction, p => new StoreChange(StoreMessage.Write, p, value, default), out reply);
    }

    private StoreError SetPermissions(ReadOnlySpan<byte> payload, StoreTransaction? transaction, out byte[]? reply)
    {
        reply = null;
        if (!TryTake(ref payload, out string text))
            return StoreError.EINVAL;
        var permissions = ImmutableArray.CreateBuilder<StorePermission>();
        while (!payload.IsEmpty)
        {
            if (!TryTake(ref payload, out string one) || one.Length < 2 || one[0] is not ('n' or 'r' or 'w' or 'b')
                || !int.TryParse(one.AsSpan(1), NumberStyles.None, CultureInfo.InvariantCulture, out int who) || who > ushort.MaxValue)
                return StoreError.EINVAL;
            permissions.Add(new StorePermission(one[0], who));
            if (permissions.Count > StoreQuota.PermissionsPerNode)
                return StoreError.ENOSPC;
        }

        ImmutableArray<StorePermission> all = permissions.ToImmutable();
        return all.IsEmpty ? StoreError.EINVAL : Change(text, transaction, p => new StoreChange(StoreMessage.SetPermissions, p, null, all), out reply);
    }

    private StoreError Change(ReadOnlySpan<byte> payload, StoreTransaction? transaction, Func<string, StoreChange> make, out byte[]? reply)
    {
        reply = null;
        return TryGetOnly(payload, out string text) ? Change(text, transaction, make, out reply) : StoreError.EINVAL;
    }

    private StoreError Change(string text, StoreTransaction? transaction, Func<string, StoreChange> make, out byte[]? reply)
    {
        reply = Ok;
        if (StorePath.Canonicalize(text, domain) is not { } path || StorePath.IsSpecial(text))
            return StoreError.EINVAL;
        return transaction is null ? store.Apply(make(path), domain) : store.Apply(make(path), domain, transaction);
    }

    private StoreError AddWatch(ReadOnlySpan<byte> payload, out byte[]? reply, out DomainWatch? fresh)
    {
        (reply, fresh) = (Ok, null);
        if (!TryTake(ref payload, out string given) || !TryTake(ref payload, out string token))
            return StoreError.EINVAL;
        string? path = StorePath.IsSpecial(given) ? given : StorePath.Canonicalize(given, domain);
        if (path is null)
            return StoreError.EINVAL;
        if (_watches.ContainsKey((given, token)))
            return StoreError.EEXIST;
        if (_watches.Count == StoreQuota.Watches)
            return StoreError.E2BIG;
        fresh = new DomainWatch(this, path, given, token);
        _watches.Add((given, token), fresh);
        store.Add(fresh);
        return StoreError.None;
    }

    private StoreError RemoveWatch(ReadOnlySpan<byte> payload, out byte[]? reply)
    {
        reply = Ok;
        if (!TryTake(ref payload, out string given) || !TryTake(ref payload, out string token))
            return StoreError.EINVAL;
        if (!_watches.Remove((given, token), out DomainWatch? watch))
            return StoreError.ENOENT;
        store.Remove(watch);
        return StoreError.None;
    }

    private StoreError StartTransaction(StoreTransaction? within, out byte[]? reply)
    {
        reply = null;
        if (within is not null)
            return StoreError.EBUSY;
        if (_transactions.Count == StoreQuota.Transactions)
            return StoreError.ENOSPC;
        do
            _lastTransaction++;
        while (_lastTransaction == 0 || _transactions.ContainsKey(_lastTransaction));
        _transactions.Add(_lastTransaction, new StoreTransaction(_lastTransaction, store.Tree));
        reply = Encoding.Latin1.GetBytes(string.Create(CultureInfo.InvariantCulture, $"{_lastTransaction}\0"));
        return StoreError.None;
    }

    private StoreError EndTransaction(ReadOnlySpan<byte> payload, StoreTransaction? transaction, out byte[]? reply)
    {
        reply = Ok;
        if (!TryGetOnly(payload, out string verdict) || verdict is not ("T" or "F"))
            return StoreError.EINVAL;
        if (transaction is null)
            return StoreError.ENOENT;
        _transactions.Remove(transaction.Id);
        return verdict == "T" ? store.Commit(transaction, domain) : StoreError.None;
    }

    private static StoreError GetDomainPath(ReadOnlySpan<byte> payload, out byte[]? reply)
    {
        reply = null;
        if (!TryGetOnly(payload, out string number) || !int.TryParse(number, NumberStyles.None, CultureInfo.InvariantCulture, out int who) || who > ushort.MaxValue)
            return StoreError.EINVAL;
        reply = Encoding.Latin1.GetBytes(StorePath.HomeOf(who) + "\0");
        return StoreError.None;
    }

    private void DropWatches()
    {
        foreach (DomainWatch watch in _watches.Values)
            store.Remove(watch);
        _watches.Clear();
    }

    private void Fail(uint requestId, uint transactionId, StoreError error) => Reply(StoreMessage.Error, requestId, transactionId, Encoding.Latin1.GetBytes($"{error}\0"));

    private void Reply(StoreMessage type, uint requestId, uint transactionId, byte[] payload)
    {
        byte[] message = Message(type, requestId, transactionId, payload);
        _replyBytes += message.Length;
        _replies.Enqueue(message);
        OutputAvailable?.Invoke();
    }

    private static byte[] Message(StoreMessage type, uint requestId, uint transactionId, ReadOnlySpan<byte> payload)
    {
        byte[] message = new byte[HeaderBytes + payload.Length];
        BinaryPrimitives.WriteUInt32LittleEndian(message, (uint)type);
        BinaryPrimitives.WriteUInt32LittleEndian(message.AsSpan(4), requestId);
        BinaryPrimitives.WriteUInt32LittleEndian(message.AsSpan(8), transactionId);
        BinaryPrimitives.WriteUInt32LittleEndian(message.AsSpan(12), (uint)payload.Length);
        payload.CopyTo(message.AsSpan(HeaderBytes));
        return message;
    }

    private void QueueEvent(string path, string token)
    {
        // An event says "look again": one that waits says so for all that follow.
        if (_waiting.Contains((path, token)))
            return;
        byte[] payload = Encoding.Latin1.GetBytes($"{path}\0{token}\0");
        if (payload.Length > StoreQuota.Payload || _eventBytes + payload.Length > StoreQuota.Events)
        {
            DroppedEvents++;
            return;
        }

        byte[] message = Message(StoreMessage.WatchEvent, 0, 0, payload);
        _eventBytes += message.Length;
        _events.Enqueue((message, path, token));
        _waiting.Add((path, token));
        OutputAvailable?.Invoke();
    }

    /// <summary>A domain's watch. Events of one that was given relative to the domain's folder carry relative paths.</summary>
    private sealed class DomainWatch(StoreConnection owner, string path, string given, string token) : IStoreWatcher
    {
        public string Path => path;

        public string Given => given;

        public bool MaySee(StoreTree tree, string node) => tree.Find(node)?.Allows(owner.Domain, read: true, write: false) ?? false;

        public void Changed(string node) => Fire(given.StartsWith('/') ? node : node[(StorePath.HomeOf(owner.Domain).Length + 1)..]);

        public void Fire(string relative) => owner.QueueEvent(relative, token);
    }

    private int Domain => domain;
}
