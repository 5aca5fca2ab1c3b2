using System.Buffers.Binary;
using System.Text;

namespace VirtPS.Para.Backends.Tests;

/// <summary>A guest's requests, and what came back.</summary>
internal sealed class StoreClient(StoreService store, int domain)
{
    private readonly List<(string Path, string Token)> _events = [];

    public StoreConnection Connection { get; } = new(store, domain);

    /// <summary>Events since the last look.</summary>
    public IReadOnlyList<(string Path, string Token)> Events()
    {
        Drain();
        (string, string)[] seen = [.. _events];
        _events.Clear();
        return seen;
    }

    /// <summary>The reply's text; an error's name begins with an exclamation mark.</summary>
    public string Ask(StoreMessage type, string payload, uint transaction = 0)
    {
        Connection.Handle(type, 77, transaction, Encoding.Latin1.GetBytes(payload));
        return Drain();
    }

    public string Read(string path, uint transaction = 0) => Ask(StoreMessage.Read, path + "\0", transaction);

    public string Write(string path, string value, uint transaction = 0) => Ask(StoreMessage.Write, $"{path}\0{value}", transaction);

    public uint Begin() => uint.Parse(Ask(StoreMessage.TransactionStart, "\0").TrimEnd('\0'));

    public string End(uint transaction, bool commit = true) => Ask(StoreMessage.TransactionEnd, commit ? "T\0" : "F\0", transaction);

    private string Drain()
    {
        string reply = "";
        while (Connection.TakeOutput() is { } message)
        {
            uint type = BinaryPrimitives.ReadUInt32LittleEndian(message);
            string text = Encoding.Latin1.GetString(message.AsSpan(16));
            if (type == (uint)StoreMessage.WatchEvent)
                _events.Add((text.Split('\0')[0], text.Split('\0')[1]));
            else
                reply = type == (uint)StoreMessage.Error ? "!" + text.TrimEnd('\0') : text;
        }

        return reply;
    }
}
