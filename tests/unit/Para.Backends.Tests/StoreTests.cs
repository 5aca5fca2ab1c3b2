namespace VirtPS.Para.Backends.Tests;

/// <summary>The store as a domU sees it (docs/misc/xenstore.txt).</summary>
public class StoreTests
{
    private const string Home = "/local/domain/1";

    private readonly StoreService _store = new();
    private readonly StoreClient _guest;

    public StoreTests()
    {
        _guest = new StoreClient(_store, 1);
        _store.Write(Home, "", new StorePermission('n', 0), new StorePermission('r', 1));
        _store.Write($"{Home}/data", "", new StorePermission('n', 1));
        _store.Write($"{Home}/name", "debian");
        _store.Write("/secret", "x");
    }

    [Fact]
    public void A_guest_reads_what_it_may_by_relative_and_absolute_paths()
    {
        Assert.Equal("debian", _guest.Read("name"));
        Assert.Equal("debian", _guest.Read($"{Home}/name"));
        Assert.Equal("data\0name\0", _guest.Ask(StoreMessage.Directory, Home + "\0"));
        Assert.Equal("!EACCES", _guest.Read("/secret"));
        Assert.Equal("!ENOENT", _guest.Read("nothing"));
        Assert.Equal("!EACCES", _guest.Read("/nothing"));
        Assert.Equal("n0\0r1\0", _guest.Ask(StoreMessage.GetPermissions, Home + "\0"));
        Assert.Equal("/local/domain/1\0", _guest.Ask(StoreMessage.GetDomainPath, "1\0"));
    }

    [Fact]
    public void A_guest_writes_only_where_it_may()
    {
        Assert.Equal("OK\0", _guest.Write("data/a/b", "1"));
        Assert.Equal("1", _guest.Read("data/a/b"));
        Assert.Equal("n1\0", _guest.Ask(StoreMessage.GetPermissions, "data/a\0"));
        Assert.Equal("!EACCES", _guest.Write("name", "mine"));
        Assert.Equal("!EACCES", _guest.Write("new", "mine"));
        Assert.Equal("!EACCES", _guest.Ask(StoreMessage.Remove, "name\0"));
        Assert.Equal("OK\0", _guest.Ask(StoreMessage.Remove, "data/a\0"));
        Assert.Equal("!ENOENT", _guest.Read("data/a/b"));
        Assert.Equal("OK\0", _guest.Ask(StoreMessage.Remove, "data/a\0"));
        Assert.Equal("!ENOENT", _guest.Ask(StoreMessage.Remove, "data/x/y\0"));
    }

    [Fact]
    public void Permissions_are_the_owners_and_owners_are_the_toolstacks()
    {
        _guest.Write("data/a", "1");
        Assert.Equal("OK\0", _guest.Ask(StoreMessage.SetPermissions, "data/a\0n1\0r0\0"));
        Assert.Equal("!EPERM", _guest.Ask(StoreMessage.SetPermissions, "data/a\0n0\0"));
        Assert.Equal("!EACCES", _guest.Ask(StoreMessage.SetPermissions, "name\0n1\0"));
        Assert.Equal("!EINVAL", _guest.Ask(StoreMessage.SetPermissions, "data/a\0x1\0"));
        Assert.Equal("!EINVAL", _guest.Ask(StoreMessage.SetPermissions, "data/a\0"));
    }

    [Fact]
    public void A_watch_fires_at_once_and_then_for_everything_below()
    {
        Assert.Equal("OK\0", _guest.Ask(StoreMessage.Watch, "data\0t\0"));
        Assert.Equal([("data", "t")], _guest.Events());
        _store.Write($"{Home}/data/x", "1");
        _store.Write($"{Home}/other", "1");
        Assert.Equal([("data/x", "t")], _guest.Events());
        Assert.Equal("!EEXIST", _guest.Ask(StoreMessage.Watch, "data\0t\0"));
        Assert.Equal("OK\0", _guest.Ask(StoreMessage.Unwatch, "data\0t\0"));
        Assert.Equal("!ENOENT", _guest.Ask(StoreMessage.Unwatch, "data\0t\0"));
        _guest.Events();
        _store.Write($"{Home}/data/x", "2");
        Assert.Empty(_guest.Events());
    }

    [Fact]
    public void Who_watches_a_node_hears_when_its_ancestor_goes()
    {
        _guest.Write("data/a/b", "1");
        _guest.Ask(StoreMessage.Watch, $"{Home}/data/a/b\0t\0");
        _guest.Events();
        _guest.Ask(StoreMessage.Remove, "data/a\0");
        Assert.Equal([($"{Home}/data/a/b", "t")], _guest.Events());
    }

    [Fact]
    public void A_watch_tells_nothing_of_what_the_guest_may_not_read()
    {
        _guest.Ask(StoreMessage.Watch, "/\0t\0");
        _guest.Events();
        _store.Write("/secret", "y");
        _store.Remove("/secret");
        _store.Write($"{Home}/name", "z");
        Assert.Equal([($"{Home}/name", "t")], _guest.Events());
    }

    [Fact]
    public void A_transaction_sees_itself_alone_and_others_see_it_when_it_is_whole()
    {
        _guest.Ask(StoreMessage.Watch, "data\0t\0");
        _guest.Events();
        uint t = _guest.Begin();
        _guest.Write("data/a", "1", t);
        _guest.Write("data/b", "2", t);
        Assert.Equal("1", _guest.Read("data/a", t));
        Assert.Equal("!ENOENT", _guest.Read("data/a"));
        Assert.Empty(_guest.Events());
        Assert.Equal("OK\0", _guest.End(t));
        Assert.Equal("2", _guest.Read("data/b"));
        Assert.Equal([("data/a", "t"), ("data/b", "t")], _guest.Events());
        Assert.Equal("!ENOENT", _guest.End(t));
    }

    [Fact]
    public void A_transaction_that_is_given_up_leaves_nothing()
    {
        uint t = _guest.Begin();
        _guest.Write("data/a", "1", t);
        Assert.Equal("OK\0", _guest.End(t, commit: false));
        Assert.Equal("!ENOENT", _guest.Read("data/a"));
    }

    [Theory]
    [InlineData("data/a", true)]
    [InlineData("name", true)]
    [InlineData("other", false)]
    public void A_transaction_fails_when_what_it_saw_has_changed(string changed, bool conflict)
    {
        _guest.Write("data/a", "0");
        uint t = _guest.Begin();
        _guest.Read("name", t);
        _guest.Write("data/a", "1", t);
        _store.Write($"{Home}/{changed}", "meanwhile");
        Assert.Equal(conflict ? "!EAGAIN" : "OK\0", _guest.End(t));
        Assert.Equal(conflict ? (changed == "name" ? "0" : "meanwhile") : "1", _guest.Read("data/a"));
    }

    [Fact]
    public void A_name_that_came_into_being_is_a_conflict_for_who_saw_it_missing()
    {
        uint t = _guest.Begin();
        Assert.Equal("!ENOENT", _guest.Read("data/fresh", t));
        _store.Write($"{Home}/data/fresh", "1");
        Assert.Equal("!EAGAIN", _guest.End(t));
        uint u = _guest.Begin();
        _guest.Ask(StoreMessage.Directory, "data\0", u);
        _store.Write($"{Home}/data/fresher", "1");
        Assert.Equal("!EAGAIN", _guest.End(u));
    }

    [Fact]
    public void What_a_guest_can_hold_is_bounded()
    {
        int nodes = 0;
        while (_guest.Write($"data/n{nodes}", "x") == "OK\0")
            nodes++;
        Assert.InRange(nodes, 900, StoreQuota.Nodes);
        Assert.Equal("!ENOSPC", _guest.Write($"data/n{nodes}", "x"));
        Assert.Equal("OK\0", _guest.Ask(StoreMessage.Remove, "data/n0\0"));
        Assert.Equal("OK\0", _guest.Write($"data/n{nodes}", "x"));
        Assert.Equal("!ENOSPC", _guest.Write("data/n1", new string('x', 2049)));

        int watches = 0;
        while (_guest.Ask(StoreMessage.Watch, $"data\0{watches}\0") == "OK\0")
            watches++;
        Assert.Equal(StoreQuota.Watches, watches);
        Assert.Equal("!E2BIG", _guest.Ask(StoreMessage.Watch, "data\0more\0"));

        for (int i = 0; i < StoreQuota.Transactions; i++)
            _guest.Begin();
        Assert.Equal("!ENOSPC", _guest.Ask(StoreMessage.TransactionStart, "\0"));
        Assert.Equal("OK\0", _guest.Ask(StoreMessage.ResetWatches, "\0"));
        _guest.Begin();
    }

    [Fact]
    public void A_transaction_is_bounded_too()
    {
        uint t = _guest.Begin();
        int changes = 0;
        while (_guest.Write("data/a", new string('x', 1000), t) == "OK\0")
            changes++;
        Assert.InRange(changes, 100, StoreQuota.TransactionBytes / 1000);
    }

    [Fact]
    public void Events_that_nobody_fetches_do_not_pile_up()
    {
        for (int i = 0; i < StoreQuota.Watches; i++)
            _guest.Connection.Handle(StoreMessage.Watch, 1, 0, System.Text.Encoding.ASCII.GetBytes($"data\0{new string('t', 1000)}{i}\0"));
        for (int i = 0; i < 5000; i++)
            _store.Write($"{Home}/data/{i % 50}", $"{i}");
        Assert.True(_guest.Connection.DroppedEvents > 0);
        int bytes = 0;
        while (_guest.Connection.TakeOutput() is { } message)
            bytes += message.Length;
        Assert.InRange(bytes, 1, 2 * StoreQuota.Events);
    }

    [Fact]
    public void An_event_that_waits_stands_for_those_that_follow()
    {
        _guest.Ask(StoreMessage.Watch, "data\0t\0");
        _guest.Events();
        for (int i = 0; i < 10; i++)
            _store.Write($"{Home}/data/x", $"{i}");
        Assert.Equal([("data/x", "t")], _guest.Events());
        _store.Write($"{Home}/data/x", "again");
        Assert.Single(_guest.Events());
    }

    [Theory]
    [InlineData((int)StoreMessage.Read, "")]
    [InlineData((int)StoreMessage.Read, "a//b\0")]
    [InlineData((int)StoreMessage.Read, "a/\0")]
    [InlineData((int)StoreMessage.Read, "a b\0")]
    [InlineData((int)StoreMessage.Read, "a\0b\0")]
    [InlineData((int)StoreMessage.Read, "@releaseDomain\0")]
    [InlineData((int)StoreMessage.Write, "no-terminator")]
    [InlineData((int)StoreMessage.Watch, "only-a-path\0")]
    [InlineData((int)StoreMessage.Watch, "p\0t")]
    [InlineData((int)StoreMessage.TransactionEnd, "X\0")]
    [InlineData((int)StoreMessage.DirectoryPart, "data\0-1\0")]
    [InlineData((int)StoreMessage.SetPermissions, "data\0n99999999999\0")]
    [InlineData((int)StoreMessage.GetDomainPath, "x\0")]
    public void What_makes_no_sense_is_EINVAL(int type, string payload) => Assert.Equal("!EINVAL", _guest.Ask((StoreMessage)type, payload));

    [Theory]
    [InlineData((int)StoreMessage.Control, "!EACCES")]
    [InlineData((int)StoreMessage.Introduce, "!EACCES")]
    [InlineData((int)StoreMessage.SetTarget, "!EACCES")]
    [InlineData(99, "!ENOSYS")]
    [InlineData((int)StoreMessage.WatchEvent, "!ENOSYS")]
    public void What_is_the_toolstacks_alone_or_unknown_is_refused(int type, string answer) => Assert.Equal(answer, _guest.Ask((StoreMessage)type, "1\0"));

    [Fact]
    public void A_transaction_that_is_none_is_ENOENT()
    {
        Assert.Equal("!ENOENT", _guest.Read("name", 1234));
        Assert.Equal("!ENOENT", _guest.End(0));
    }

    [Fact]
    public void A_long_directory_comes_in_parts()
    {
        for (int i = 0; i < 300; i++)
            _guest.Write($"data/{i:000}-{new string('n', 40)}", "");
        Assert.Equal("!E2BIG", _guest.Ask(StoreMessage.Directory, "data\0"));
        var names = new List<string>();
        int offset = 0;
        while (true)
        {
            string part = _guest.Ask(StoreMessage.DirectoryPart, $"data\0{offset}\0");
            string rest = part[(part.IndexOf('\0') + 1)..];
            bool last = rest.EndsWith("\0\0", StringComparison.Ordinal);
            names.AddRange(rest.TrimEnd('\0').Split('\0'));
            offset += rest.Length - (last ? 1 : 0);
            if (last)
                break;
        }

        Assert.Equal(300, names.Distinct().Count());
    }

    [Fact]
    public void The_host_asks_for_a_shutdown_and_the_guest_takes_note()
    {
        var control = new ControlNode(_store, 1);
        _guest.Ask(StoreMessage.Watch, "control/shutdown\0s\0");
        _guest.Events();
        Assert.False(control.RequestPowerOff());
        Assert.Equal("OK\0", _guest.Write("control/feature-poweroff", "1"));
        _guest.Events();
        Assert.True(control.RequestPowerOff());
        Assert.Equal([("control/shutdown", "s")], _guest.Events());
        uint t = _guest.Begin();
        Assert.Equal("poweroff", _guest.Read("control/shutdown", t));
        Assert.Equal("OK\0", _guest.Write("control/shutdown", "", t));
        Assert.Equal("OK\0", _guest.End(t));
        Assert.Equal("", control.Pending);
    }

    [Fact]
    public void Random_requests_hurt_nobody()
    {
        var random = new Random(4);
        byte[] payload = new byte[StoreQuota.Payload];
        const string Alphabet = "/@-_0aTF\0\0\0nrwb1dat";
        for (int i = 0; i < 200_000; i++)
        {
            int length = random.Next(10) == 0 ? random.Next(payload.Length) : random.Next(24);
            for (int k = 0; k < length; k++)
                payload[k] = random.Next(20) == 0 ? (byte)random.Next(256) : (byte)Alphabet[random.Next(Alphabet.Length)];
            _guest.Connection.Handle((StoreMessage)random.Next(26), (uint)i, (uint)random.Next(14), payload.AsSpan(0, length));
            while (!_guest.Connection.IsBacklogged && random.Next(3) == 0 && _guest.Connection.TakeOutput() is not null)
                continue;
            if (_guest.Connection.IsBacklogged)
                _guest.Events();
        }

        Assert.Equal("debian", _store.Read($"{Home}/name"));
        Assert.Equal("x", _store.Read("/secret"));
        Assert.InRange(_store.Tree.Root.CountOwnedBy(1), 1, StoreQuota.Nodes);
        Assert.Equal(_store.Tree.Root.CountOwnedBy(1), _store.Tree.Owned[1]);
    }
}
