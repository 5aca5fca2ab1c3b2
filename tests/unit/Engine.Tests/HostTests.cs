using System.Diagnostics;
using VirtPS.Engine.Host;
using VirtPS.Sdk.Memory;

namespace VirtPS.Engine.Tests;

public unsafe class HostTests
{
    private static readonly IHostPlatform s_platform = HostPlatform.Create();

    [Fact]
    public void Guest_memory_is_zero_costs_nothing_untouched_and_can_be_given_back()
    {
        using IHostMemoryRegion region = s_platform.AllocateGuestMemory("test", 64 << 20);
        if (s_platform.Name == "Linux")
            Assert.Equal(0ul, region.ResidentBytes);

        region.Address[5 << 20] = 1;
        region.Address[6 << 20] = 2;
        ulong before = region.ResidentBytes;
        region.Discard(5 << 20, 4096);
        Assert.Equal(0, region.Address[5 << 20]);
        Assert.Equal(2, region.Address[6 << 20]);
        if (s_platform.Name == "Linux")
            Assert.InRange(before, 8192ul, 8ul << 20);
        Assert.Throws<ArgumentOutOfRangeException>(() => region.Discard(64 << 20, 4096));
    }

    [Fact]
    public void More_memory_than_addresses_is_one_clear_error()
    {
        var e = Assert.Throws<Sdk.VirtException>(() => s_platform.AllocateGuestMemory("huge", 1ul << 60));
        Assert.Equal("MemoryUnavailable", e.ErrorId);
    }

    [Fact]
    public void An_event_remembers_a_signal_and_times_out_not_early()
    {
        using HostEvent e = s_platform.CreateEvent();
        e.Set();
        e.Set();
        Assert.True(e.Wait(0));
        long start = Stopwatch.GetTimestamp();
        Assert.False(e.Wait(3_000_000));
        Assert.True(Stopwatch.GetElapsedTime(start) >= TimeSpan.FromMilliseconds(3));
    }

    [Fact]
    public void An_event_loses_no_signal_between_two_threads()
    {
        const int Rounds = 20_000;
        using HostEvent ping = s_platform.CreateEvent(), pong = s_platform.CreateEvent();
        int missed = 0;
        var other = new Thread(() =>
        {
            for (int i = 0; i < Rounds; i++)
            {
                if (!ping.Wait(5_000_000_000))
                    Interlocked.Increment(ref missed);
                pong.Set();
            }
        });
        other.Start();
        for (int i = 0; i < Rounds; i++)
        {
            ping.Set();
            if (!pong.Wait(5_000_000_000))
                missed++;
        }

        other.Join();
        Assert.Equal(0, missed);
    }

    [Fact]
    public void Leases_keep_a_removed_slot_alive_and_dirty_trackers_do_not_disturb_each_other()
    {
        using var memory = new GuestMemory();
        var slot = new MemorySlot("ram", 0, s_platform.AllocateGuestMemory("ram", 1 << 20));
        memory.Add(slot);
        using DirtyTracker a = memory.CreateDirtyTracker("a"), b = memory.CreateDirtyTracker("b");
        Assert.True(memory.TryWrite(0x5000, (byte)1));
        var bitmap = new ulong[4];
        a.Harvest(slot, bitmap);
        Assert.Equal(1ul << 5, bitmap[0]);
        Array.Clear(bitmap);
        a.Harvest(slot, bitmap);
        Assert.Equal(0ul, bitmap[0]);
        b.Harvest(slot, bitmap);
        Assert.Equal(1ul << 5, bitmap[0]);

        Assert.True(memory.TryLease(0, 16, writable: true, out MemoryLease lease));
        var remover = new Thread(() => memory.Remove(slot));
        remover.Start();
        Assert.False(remover.Join(50));
        Assert.False(memory.TryRead(0x5000, out byte _));
        lease.Span[0] = 1;
        lease.Dispose();
        Assert.True(remover.Join(5000));
        slot.Dispose();
    }
}
