using VirtPS.Engine.Buses;
using VirtPS.Sdk;
using VirtPS.Sdk.Devices;

namespace VirtPS.Engine.Tests;

public class BusTests
{
    private static TestDevice Recorder(List<string> log) => new()
    {
        OnRead = (o, s) =>
        {
            log.Add($"r{o}/{s}");
            return 0x44332211u >> (o * 8);
        },
        OnWrite = (o, s, v) => log.Add($"w{o}/{s}={v:X}"),
    };

    [Fact]
    public void Unclaimed_ports_read_all_ones_and_swallow_writes()
    {
        var bus = new PortBus();
        Assert.Equal(0xFFu, bus.Read(0x80, 1));
        Assert.Equal(0xFFFFu, bus.Read(0x80, 2));
        Assert.Equal(0xFFFFFFFFu, bus.Read(0xFFFF, 4));
        bus.Write(0xFFFF, 4, 1);
    }

    [Theory]
    [InlineData(1, "r0/1 r1/1 r2/1 r3/1")]
    [InlineData(2, "r0/2 r2/2")]
    [InlineData(4, "r0/4")]
    public void Wide_reads_are_split_to_what_the_device_takes(int maxAccess, string expected)
    {
        var bus = new PortBus();
        List<string> log = [];
        bus.Map("d", 0x100, 8, Recorder(log), maxAccess);
        Assert.Equal(0x44332211u, bus.Read(0x100, 4));
        Assert.Equal(expected, string.Join(' ', log));
    }

    [Fact]
    public void An_access_over_the_end_of_a_region_reaches_both_sides()
    {
        var bus = new PortBus();
        List<string> a = [], b = [];
        bus.Map("a", 0x100, 2, Recorder(a), 4);
        bus.Map("b", 0x102, 1, Recorder(b), 1);
        Assert.Equal(0xFF112211u, bus.Read(0x100, 4));
        bus.Write(0x101, 2, 0xBBAA);
        Assert.Equal(["r0/2", "w1/1=AA"], a);
        Assert.Equal(["r0/1", "w0/1=BB"], b);
    }

    [Fact]
    public void A_device_cannot_give_more_bits_than_were_asked_for()
    {
        var bus = new PortBus();
        bus.Map("d", 0x10, 1, new TestDevice { Value = 0xABCD }, 1);
        Assert.Equal(0xCDu, bus.Read(0x10, 1));
    }

    [Fact]
    public void Overlap_names_both_owners_and_changes_nothing()
    {
        var bus = new PortBus();
        bus.Map("com1", 0x3F8, 8, new TestDevice(), 1);
        VirtException e = Assert.Throws<VirtException>(() => bus.Map("thief", 0x3FF, 4, new TestDevice(), 1));
        Assert.Equal("DeviceConflict", e.ErrorId);
        Assert.Contains("com1", e.Message);
        Assert.Contains("thief", e.Message);
        Assert.Equal("com1", bus.OwnerOf(0x3FF));
        Assert.Null(bus.OwnerOf(0x400));
    }

    [Fact]
    public void Regions_come_go_and_move()
    {
        var bus = new PortBus();
        IBusRegion region = bus.Map("bar", 0xC000, 0x20, new TestDevice { Value = 7 }, 4);
        region.Move(0xC010);
        Assert.Null(bus.OwnerOf(0xC000));
        Assert.Equal(7u, bus.Read(0xC02F, 1));
        Assert.Equal(0xC010ul, region.Start);
        region.Move(null);
        Assert.Null(bus.OwnerOf(0xC010));
        region.Move(0xC100);
        Assert.Equal("bar", bus.OwnerOf(0xC100));
        region.Dispose();
        Assert.Equal(0xFFu, bus.Read(0xC100, 1));
    }

    [Fact]
    public void A_move_onto_another_region_fails_and_leaves_the_region_where_it_was()
    {
        var bus = new MmioBus();
        bus.Map("a", 0x1000, 0x1000, new TestDevice(), 8);
        IBusRegion b = bus.Map("b", 0x3000, 0x1000, new TestDevice(), 8);
        Assert.Throws<VirtException>(() => b.Move(0x1800));
        Assert.Equal(0x3000ul, b.Start);
        Assert.Equal("b", bus.OwnerOf(0x3000));
    }

    [Fact]
    public void Mmio_finds_the_right_one_of_many_regions()
    {
        var bus = new MmioBus();
        for (uint i = 0; i < 50; i++)
            bus.Map($"d{i}", 0xC000_0000ul + (i * 0x2000), 0x1000, new TestDevice { Value = i }, 8);
        for (uint i = 0; i < 50; i++)
        {
            Assert.Equal(i, bus.Read(0xC000_0000ul + (i * 0x2000) + 0xFF8, 8));
            Assert.Equal(ulong.MaxValue, bus.Read(0xC000_0000ul + (i * 0x2000) + 0x1000, 8));
        }
    }

    [Fact]
    public void Mmio_splits_what_is_too_wide_or_not_aligned()
    {
        var bus = new MmioBus();
        List<string> log = [];
        bus.Map("d", 0x1000, 0x10, Recorder(log), 4);
        bus.Read(0x1000, 8);
        bus.Write(0x1002, 4, 0xDDCCBBAA);
        bus.Write(0x1001, 4, 0xDDCCBBAA);
        Assert.Equal(["r0/4", "r4/4", "w2/2=BBAA", "w4/2=DDCC", "w1/1=AA", "w2/2=CCBB", "w4/1=DD"], log);
    }

    [Fact]
    public void The_last_address_can_be_claimed()
    {
        var bus = new MmioBus();
        bus.Map("top", ulong.MaxValue - 0xFFF, 0x1000, new TestDevice { Value = 5 }, 8);
        Assert.Equal(5ul, bus.Read(ulong.MaxValue, 1));
        Assert.Throws<ArgumentOutOfRangeException>(() => bus.Map("beyond", ulong.MaxValue - 0xFF, 0x1000, new TestDevice(), 8));
    }
}
