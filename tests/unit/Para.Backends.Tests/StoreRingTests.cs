using System.Buffers.Binary;
using VirtPS.Sdk;
using VirtPS.Sdk.Memory;

namespace VirtPS.Para.Backends.Tests;

/// <summary>The store's page: whole messages in pieces, and guests that break the rules.</summary>
public sealed class StoreRingTests : IDisposable
{
    private readonly GuestMemory _memory = new();
    private readonly SharedPage _page;
    private readonly StoreService _store = new();
    private readonly StoreRing _ring;
    private int _notified;

    public StoreRingTests()
    {
        _memory.Add(new MemorySlot("ram", 0, new TestMemory(1 << 16)));
        _page = new SharedPage(_memory, 0x3000);
        _store.Write("/local/domain/1", "", new StorePermission('n', 0), new StorePermission('r', 1));
        _store.Write("/local/domain/1/name", new string('v', 2000));
        _ring = new StoreRing(_page, new StoreConnection(_store, 1), () => _notified++, NullLog.Instance);
    }

    public void Dispose() => _memory.Dispose();

    [Fact]
    public void A_reply_longer_than_the_ring_comes_in_pieces()
    {
        Send(Message(StoreMessage.Read, 5, "name\0"u8));
        var got = new List<byte>();
        for (int i = 0; i < 10 && got.Count < 2016; i++)
        {
            got.AddRange(Receive());
            _ring.Pump();
        }

        Assert.Equal(2016, got.Count);
        Assert.Equal(5u, BinaryPrimitives.ReadUInt32LittleEndian(got.ToArray().AsSpan(4)));
        Assert.All(got.Skip(16), b => Assert.Equal((byte)'v', b));
        Assert.True(_notified > 0);
    }

    [Fact]
    public void A_request_comes_byte_by_byte_and_around_the_ring()
    {
        for (int i = 0; i < 100; i++)
        {
            foreach (byte b in Message(StoreMessage.GetDomainPath, 9, "1\0"u8))
                Send([b]);
            byte[] reply = Receive();
            Assert.Equal("/local/domain/1\0"u8.ToArray(), reply[16..]);
        }
    }

    [Theory]
    [InlineData(2052)]
    [InlineData(2056)]
    public void An_index_that_cannot_be_ends_the_service_until_the_guest_reconnects(int index)
    {
        if (index == 2056)
            Send(Message(StoreMessage.Read, 1, "name\0"u8));
        _page.Write32(index, 0x8000_0000);
        _ring.Pump();
        Assert.Equal(2u, _page.Read32(2072));
        Send(Message(StoreMessage.GetDomainPath, 1, "1\0"u8));
        uint before = _page.Read32(2060);
        _ring.Pump();
        Assert.Equal(before, _page.Read32(2060));

        _page.Write32(2068, 1);
        _ring.Pump();
        Assert.Equal((0u, 0u, 0u), (_page.Read32(2068), _page.Read32(2072), _page.Read32(2060)));
        Send(Message(StoreMessage.GetDomainPath, 1, "1\0"u8));
        Assert.Equal("/local/domain/1\0"u8.ToArray(), Receive()[16..]);
    }

    [Fact]
    public void A_message_that_is_too_long_ends_the_service()
    {
        byte[] message = Message(StoreMessage.Read, 1, "name\0"u8);
        BinaryPrimitives.WriteUInt32LittleEndian(message.AsSpan(12), 4097);
        Send(message);
        Assert.Equal(3u, _page.Read32(2072));
    }

    [Fact]
    public void Random_rings_hurt_nobody()
    {
        var random = new Random(11);
        byte[] noise = new byte[4096];
        for (int i = 0; i < 20_000; i++)
        {
            random.NextBytes(noise);
            // Near what could be: small messages of known types.
            for (int k = 0; k + 16 < 1024; k += 32)
            {
                BinaryPrimitives.WriteUInt32LittleEndian(noise.AsSpan(k), (uint)random.Next(24));
                BinaryPrimitives.WriteUInt32LittleEndian(noise.AsSpan(k + 12), (uint)random.Next(24));
            }

            _page.Write(0, noise.AsSpan(0, 1024));
            _page.Write32(2052, _page.Read32(2048) + (uint)random.Next(random.Next(50) == 0 ? 5000 : 1025));
            _page.Write32(2056, random.Next(50) == 0 ? (uint)random.Next() : _page.Read32(2060));
            if (random.Next(20) == 0)
                _page.Write32(2068, 1);
            _ring.Pump();
        }

        Assert.Equal(2000, _store.Read("/local/domain/1/name")!.Length);
    }

    private static byte[] Message(StoreMessage type, uint id, ReadOnlySpan<byte> payload)
    {
        byte[] message = new byte[16 + payload.Length];
        BinaryPrimitives.WriteUInt32LittleEndian(message, (uint)type);
        BinaryPrimitives.WriteUInt32LittleEndian(message.AsSpan(4), id);
        BinaryPrimitives.WriteUInt32LittleEndian(message.AsSpan(12), (uint)payload.Length);
        payload.CopyTo(message.AsSpan(16));
        return message;
    }

    private void Send(ReadOnlySpan<byte> bytes)
    {
        uint producer = _page.Read32(2052);
        foreach (byte b in bytes)
            _page.Write((int)(producer++ % 1024), [b]);
        _page.Write32(2052, producer);
        _ring.Pump();
    }

    private byte[] Receive()
    {
        uint consumer = _page.Read32(2056), producer = _page.Read32(2060);
        byte[] bytes = new byte[producer - consumer];
        for (int i = 0; i < bytes.Length; i++)
            _page.Read(1024 + (int)((consumer + (uint)i) % 1024), bytes.AsSpan(i, 1));
        _page.Write32(2056, producer);
        return bytes;
    }
}
