using System.Buffers.Binary;
using VirtPS.Sdk.Backends;
using VirtPS.Sdk.Devices;
using VirtPS.Strategy.Para.Block;

namespace VirtPS.Para.Backends.Tests;

/// <summary>The blkback side of blkif, with a frontend that keeps the rules and with frontends that do not.</summary>
public sealed class BlockTests : IDisposable
{
    private readonly Frontend _front = new();

    public void Dispose() => _front.Dispose();

    [Fact]
    public void Both_ends_come_together_by_the_store()
    {
        Assert.Equal("2", _front.BackendState);
        Assert.Equal("1", _front.Store.Read($"{Frontend.Folder}/state"));
        Assert.Equal(Frontend.Backend, _front.Guest.Read("device/vbd/51712/backend"));
        Assert.Equal("2048", _front.Guest.Read($"{Frontend.Backend}/sectors"));
        Assert.Equal("!EACCES", _front.Guest.Write($"{Frontend.Backend}/sectors", "1"));
        _front.Connect();
        Assert.Equal("4", _front.BackendState);
        Assert.True(_front.IsBound);
        _front.Say("state", "4");
        _front.Say("state", "5");
        Assert.Equal("5", _front.BackendState);
        Assert.False(_front.IsBound);
        Assert.Empty(_front.Mapped);
        _front.Say("state", "6");
        Assert.Equal("6", _front.BackendState);
        _front.Say("state", "1");
        Assert.Equal("2", _front.BackendState);
        _front.Connect();
        Assert.Equal("4", _front.BackendState);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(2)]
    public void Data_goes_both_ways_through_rings_of_several_pages(int order)
    {
        _front.Connect(order);
        for (int round = 0; round < 200; round++)
        {
            byte[] data = [.. Enumerable.Range(0, 1024).Select(i => (byte)(i + round))];
            _front.WriteData(0, 512, data.AsSpan(0, 512));
            _front.WriteData(1, 0, data.AsSpan(512));
            Assert.Equal(0, _front.Ask(Frontend.Request(BlockAbi.Write, (ulong)round, (Frontend.Data(0), 1, 1), (Frontend.Data(1), 0, 0))));
            Assert.Equal(data, _front.Disk.Content[(round * 512)..((round * 512) + 1024)]);
            Assert.Equal(0, _front.Ask(Frontend.Request(BlockAbi.Read, (ulong)round, (Frontend.Data(2), 6, 7))));
            Assert.Equal(data, _front.ReadData(2, 3072, 1024));
        }

        Assert.Equal(0xABCD_0000ul + 199, _front.Response(_front.Responses - 1).Id);
    }

    [Fact]
    public void Indirect_requests_are_answered_as_what_they_stand_for()
    {
        _front.Connect();
        byte[] table = new byte[40 * 8];
        for (int i = 0; i < 40; i++)
        {
            BinaryPrimitives.WriteUInt32LittleEndian(table.AsSpan(i * 8), Frontend.Data(10 + i));
            table[(i * 8) + 5] = 7;
            _front.WriteData(10 + i, 0, [.. Enumerable.Repeat((byte)(i + 1), 4096)]);
        }

        _front.WriteData(0, 0, table);
        Assert.Equal(0, _front.Ask(Indirect(BlockAbi.Write, 40)));
        Assert.Equal(BlockAbi.Write, _front.Response(0).Operation);
        Assert.All(Enumerable.Range(0, 40), i => Assert.Equal((byte)(i + 1), _front.Disk.Content[i * 4096]));
        Assert.Equal(-1, _front.Ask(Indirect(BlockAbi.Write, 65)));
        Assert.Equal(-1, _front.Ask(Indirect(BlockAbi.Write, 0)));
        Assert.Equal(-2, _front.Ask(Indirect(BlockAbi.Indirect, 4)));
        _front.Revoke(Frontend.Data(0));
        Assert.Equal(-1, _front.Ask(Indirect(BlockAbi.Read, 4)));

        static byte[] Indirect(byte operation, int count)
        {
            byte[] entry = new byte[112];
            (entry[0], entry[1]) = (BlockAbi.Indirect, operation);
            BinaryPrimitives.WriteUInt16LittleEndian(entry.AsSpan(2), (ushort)count);
            BinaryPrimitives.WriteUInt32LittleEndian(entry.AsSpan(28), Frontend.Data(0));
            return entry;
        }
    }

    [Fact]
    public void Flush_and_discard_reach_the_disk()
    {
        _front.Connect();
        Array.Fill(_front.Disk.Content, (byte)9);
        // As Linux asks: nothing at sector -1.
        Assert.Equal(0, _front.Ask(Frontend.Request(BlockAbi.FlushCache, ulong.MaxValue)));
        Assert.Equal(1, _front.Disk.Flushes);
        byte[] discard = Frontend.Request(BlockAbi.Discard, 8);
        BinaryPrimitives.WriteUInt64LittleEndian(discard.AsSpan(24), 16);
        Assert.Equal(0, _front.Ask(discard));
        Assert.Equal((9, 0, 0, 9), (_front.Disk.Content[4095], _front.Disk.Content[4096], _front.Disk.Content[12287], _front.Disk.Content[12288]));
        BinaryPrimitives.WriteUInt64LittleEndian(discard.AsSpan(24), ulong.MaxValue);
        Assert.Equal(-1, _front.Ask(discard));
        Assert.Equal(-2, _front.Ask(Frontend.Request(BlockAbi.WriteBarrier, 0, (Frontend.Data(0), 0, 7))));
        Assert.Equal(-2, _front.Ask(Frontend.Request(77, 0, (Frontend.Data(0), 0, 7))));
    }

    [Fact]
    public void What_cannot_be_is_an_error_of_that_request_alone()
    {
        _front.Connect();
        foreach (byte[] bad in (byte[][])
        [
            Frontend.Request(BlockAbi.Read, 0),
            Frontend.Request(BlockAbi.Read, 0, [.. Enumerable.Repeat((Frontend.Data(0), 0, 7), 12)]),
            Frontend.Request(BlockAbi.Read, 0, (Frontend.Data(0), 5, 4)),
            Frontend.Request(BlockAbi.Read, 0, (Frontend.Data(0), 0, 8)),
            Frontend.Request(BlockAbi.Read, 0, (4711, 0, 7)),
            Frontend.Request(BlockAbi.Read, 2048, (Frontend.Data(0), 0, 7)),
            Frontend.Request(BlockAbi.Read, ulong.MaxValue, (Frontend.Data(0), 0, 7)),
            Frontend.Request(BlockAbi.Write, ulong.MaxValue / 512, (Frontend.Data(0), 0, 7)),
        ])
        {
            Assert.Equal(-1, _front.Ask(bad));
        }

        _front.SetGrant(50, 0x100000, writable: false);
        Assert.Equal(-1, _front.Ask(Frontend.Request(BlockAbi.Read, 0, (50, 0, 7))));
        Assert.Equal(0, _front.Ask(Frontend.Request(BlockAbi.Write, 0, (50, 0, 7))));
        _front.SetGrant(51, 0x4000_0000, writable: true);
        Assert.Equal(-1, _front.Ask(Frontend.Request(BlockAbi.Write, 0, (51, 0, 7))));
        Assert.True(_front.IsBound);
    }

    [Theory]
    [InlineData(BlockFault.NoSpace)]
    [InlineData(BlockFault.Io)]
    public void The_hosts_failure_is_an_io_error_and_no_more(BlockFault fault)
    {
        _front.Connect();
        _front.Disk.Fault = fault;
        Assert.Equal(-1, _front.Ask(Frontend.Request(BlockAbi.Write, 0, (Frontend.Data(0), 0, 7))));
        Assert.Equal(-1, _front.Ask(Frontend.Request(BlockAbi.FlushCache, 0)));
        _front.Disk.Fault = null;
        Assert.Equal(0, _front.Ask(Frontend.Request(BlockAbi.Write, 0, (Frontend.Data(0), 0, 7))));
    }

    [Fact]
    public void A_read_only_disk_says_so_and_keeps_to_it()
    {
        using var front = new Frontend(new MemoryDisk(readOnly: true));
        Assert.Equal(("4", "r"), (front.Store.Read($"{Frontend.Backend}/info"), front.Store.Read($"{Frontend.Backend}/mode")));
        front.Connect();
        Assert.Equal(-1, front.Ask(Frontend.Request(BlockAbi.Write, 0, (Frontend.Data(0), 0, 7))));
        Assert.Equal(0, front.Ask(Frontend.Request(BlockAbi.Read, 0, (Frontend.Data(0), 0, 7))));
    }

    [Theory]
    [InlineData(33u)]
    [InlineData(0x8000_0000u)]
    public void A_ring_index_that_cannot_be_closes_the_device_until_the_frontend_starts_anew(uint producer)
    {
        _front.Connect();
        _front.SetProducer(producer);
        _front.Kick();
        Assert.Equal("5", _front.BackendState);
        Assert.False(_front.IsBound);
        Assert.Empty(_front.Mapped);
        _front.Say("state", "6");
        _front.Say("state", "1");
        _front.Connect();
        Assert.Equal(0, _front.Ask(Frontend.Request(BlockAbi.Read, 0, (Frontend.Data(0), 0, 7))));
    }

    [Theory]
    [InlineData("ring-ref", "x")]
    [InlineData("ring-ref", "4711")]
    [InlineData("event-channel", "9")]
    [InlineData("protocol", "x86_32-abi")]
    [InlineData("ring-page-order", "3")]
    public void A_frontend_that_names_what_is_not_there_is_not_connected(string key, string value)
    {
        _front.SetGrant(8, 0x1000, writable: true);
        _front.Say("ring-ref", "8");
        _front.Say("event-channel", "5");
        _front.Say(key, value);
        _front.Say("state", "3");
        Assert.Equal("5", _front.BackendState);
        Assert.Empty(_front.Mapped);
    }

    [Fact]
    public void The_guest_is_told_when_it_wants_to_be()
    {
        _front.Connect();
        _front.SetResponseEvent(2);
        _front.Ask(Frontend.Request(BlockAbi.Read, 0, (Frontend.Data(0), 0, 7)));
        Assert.Equal(0, _front.Notified);
        _front.Ask(Frontend.Request(BlockAbi.Read, 0, (Frontend.Data(0), 0, 7)));
        Assert.Equal(1, _front.Notified);
    }

    [Fact]
    public void A_full_ring_is_served_whole_by_one_event()
    {
        _front.Connect();
        for (int i = 0; i < 32; i++)
            _front.Put(Frontend.Request(BlockAbi.Write, (ulong)i * 8, (Frontend.Data(i), 0, 7)));
        _front.Kick();
        Assert.Equal(32u, _front.Responses);
        Assert.All(Enumerable.Range(0, 32), i => Assert.Equal(0, _front.Response((uint)i).Status));
    }

    [Fact]
    public async Task A_reset_waits_for_the_disk_and_what_comes_late_touches_no_page()
    {
        _front.Connect();
        _front.WriteData(0, 0, [.. Enumerable.Repeat((byte)0x55, 4096)]);
        _front.Disk.Gate = new TaskCompletionSource();
        _front.Put(Frontend.Request(BlockAbi.Read, 0, (Frontend.Data(0), 0, 7)));
        _front.Kick();
        Task reset = Task.Run(() => _front.Device.Reset(ResetKind.Warm));
        await Task.Delay(50);
        Assert.False(reset.IsCompleted);
        _front.Disk.Gate.SetResult();
        await reset.WaitAsync(TimeSpan.FromSeconds(5));
        _front.Settle();
        Assert.Equal(0x55, _front.ReadData(0, 0, 1)[0]);
        Assert.Equal("2", _front.BackendState);
        _front.Disk.Gate = null;
        _front.Connect();
        Assert.Equal(0, _front.Ask(Frontend.Request(BlockAbi.Read, 0, (Frontend.Data(0), 0, 7))));
    }

    [Fact]
    public void A_saved_connection_goes_on_where_it_was()
    {
        _front.Connect();
        _front.Ask(Frontend.Request(BlockAbi.Write, 3, (Frontend.Data(0), 0, 7)));
        _front.Device.Quiesce();
        DeviceState saved = _front.Device.Save();
        _front.Device.Restore(saved);
        _front.Device.Resume();
        _front.Settle();
        Assert.Equal(0, _front.Ask(Frontend.Request(BlockAbi.Read, 3, (Frontend.Data(1), 0, 7))));
        Assert.Equal(2u, _front.Responses);
    }

    [Fact]
    public void Closing_the_machine_closes_the_disk()
    {
        using var front = new Frontend();
        front.Connect();
        front.Device.Dispose();
        Assert.True(front.Disk.Disposed);
        Assert.False(front.IsBound);
    }

    [Fact]
    public void Random_entries_hurt_nobody()
    {
        var random = new Random(7);
        byte[] entry = new byte[112];
        _front.Connect();
        for (int i = 0; i < 20_000; i++)
        {
            random.NextBytes(entry);
            if (random.Next(4) != 0)
            {
                (entry[0], entry[1]) = ((byte)random.Next(8), (byte)random.Next(13));
                BinaryPrimitives.WriteUInt64LittleEndian(entry.AsSpan(16), (ulong)random.Next(3000));
                for (int s = 24; s < 112; s += 8)
                {
                    BinaryPrimitives.WriteUInt32LittleEndian(entry.AsSpan(s), (uint)random.Next(90, 170));
                    (entry[s + 4], entry[s + 5]) = ((byte)random.Next(9), (byte)random.Next(9));
                }
            }

            uint before = _front.Responses;
            _front.Put(entry);
            _front.Kick();
            Assert.Equal(before + 1, _front.Responses);
        }
    }
}
