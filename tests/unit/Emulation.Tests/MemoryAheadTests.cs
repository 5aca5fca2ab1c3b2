using System.Diagnostics;
using System.Runtime.InteropServices;

namespace VirtPS.Emulation.Tests;

/// <summary>Memory is populated before it is touched, where and only where a run shows that it will be.</summary>
public sealed unsafe partial class MemoryAheadTests : IDisposable
{
    private const int Pieces = 16, PageSize = 4096;
    private const nuint PieceSize = (nuint)1 << MemoryAhead.PieceBits;

    private readonly MemoryAhead? _ahead = MemoryAhead.TryCreate();

    // SAFETY: freed in Dispose, after the region that watches it was stopped.
    private readonly byte* _memory = LargeMemory.Allocate(Pieces * PieceSize);

    [Fact]
    public void A_run_upwards_has_the_next_four_pieces()
    {
        MemoryAhead.Region region = Watch(inOrder: false);
        Touch(region, 3, 4);
        Until(5, 6, 7, 8);
        Touch(region, 5);
        Until(5, 6, 7, 8, 9);
    }

    [Fact]
    public void A_run_downwards_has_the_four_before_it()
    {
        MemoryAhead.Region region = Watch(inOrder: false);
        Touch(region, 9, 8);
        Until(4, 5, 6, 7);
    }

    [Fact]
    public void A_run_ends_with_the_memory()
    {
        MemoryAhead.Region region = Watch(inOrder: false);
        Touch(region, Pieces - 2, Pieces - 1);
        Touch(region, 1, 0);
        Assert.False(region.IsNew(Pieces * PieceSize));
        // Something that is seen, so that all before it is done.
        Touch(region, 6, 7);
        Until(8, 9, 10, 11);
    }

    [Fact]
    public void What_is_touched_here_and_there_has_nothing_ahead()
    {
        MemoryAhead.Region region = Watch(inOrder: false);
        Touch(region, 1, 14, 12);
        Touch(region, 4, 5);
        Until(6, 7, 8, 9);
    }

    [Fact]
    public void What_is_filled_in_order_has_two_pieces_from_the_one_wanted_soon()
    {
        MemoryAhead.Region region = Watch(inOrder: true);
        Assert.False(region.IsNew(0));
        Touch(region, 1);
        Until(1, 2);
        Touch(region, 2);
        Until(1, 2, 3);
    }

    [Fact]
    public void What_was_populated_reads_as_zero_and_keeps_what_was_written()
    {
        MemoryAhead.Region region = Watch(inOrder: false);
        _memory[6 * PieceSize] = 0x5A;
        Touch(region, 3, 4);
        Until(5, 6, 7, 8);
        Assert.Equal(0x5A, _memory[6 * PieceSize]);
        Assert.Equal(0, _memory[7 * PieceSize]);
    }

    [Fact]
    public void What_was_stopped_is_left_alone()
    {
        MemoryAhead.Region region = Watch(inOrder: false);
        region.Stop();
        Touch(region, 3, 4);
        MemoryAhead.Region other = Watch(inOrder: true);
        Touch(other, 1);
        Until(1, 2);
    }

    public void Dispose()
    {
        _ahead?.Dispose();
        LargeMemory.Free(_memory);
    }

    private MemoryAhead.Region Watch(bool inOrder)
    {
        Assert.SkipWhen(_ahead is null, "Nothing is populated ahead here: not Linux, or one processor.");
        Assert.SkipWhen(OperatingSystem.IsLinux() && Environment.OSVersion.Version < new Version(5, 14), "Linux populates memory since 5.14.");
        return _ahead.Add(_memory, Pieces * PieceSize, inOrder);
    }

    private static void Touch(MemoryAhead.Region region, params ReadOnlySpan<int> pieces)
    {
        foreach (int piece in pieces)
        {
            ulong offset = (ulong)piece << MemoryAhead.PieceBits;
            Assert.True(region.IsNew(offset));
            region.Touch(offset);
            Assert.False(region.IsNew(offset));
        }
    }

    /// <summary>Waits until just these pieces have their pages.</summary>
    private void Until(params int[] pieces)
    {
        long start = Stopwatch.GetTimestamp();
        while (!Populated().SequenceEqual(pieces) && Stopwatch.GetElapsedTime(start) < TimeSpan.FromSeconds(20))
            Thread.Sleep(1);
        Assert.Equal(pieces, Populated());
    }

    private int[] Populated() => [.. Enumerable.Range(0, Pieces).Where(IsPopulated)];

    /// <summary>All of it: the last page is populated last.</summary>
    private bool IsPopulated(int piece)
    {
        byte resident = 0;
        Assert.Equal(0, Resident(_memory + ((nuint)(piece + 1) * PieceSize) - PageSize, PageSize, &resident));
        return (resident & 1) != 0;
    }

    [LibraryImport("libc", EntryPoint = "mincore")]
    private static partial int Resident(void* address, nuint length, byte* pages);
}
