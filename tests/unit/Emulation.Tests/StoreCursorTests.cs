namespace VirtPS.Emulation.Tests;

/// <summary>Which stored blocks are looked at first.</summary>
public class StoreCursorTests
{
    private static uint[] Expected(in StoreCursor cursor) => [cursor.Next(0), cursor.Next(1), cursor.Next(2), cursor.Next(3)];

    [Fact]
    public void What_was_expected_leads_to_the_next()
    {
        var cursor = default(StoreCursor);
        Assert.Equal([0u, 0, 0, 0], Expected(cursor));
        cursor.Advance(2);
        cursor.Advance(2);
        Assert.Equal([0u, 0, 2, 0], Expected(cursor));
    }

    [Fact]
    public void What_was_not_moves_a_place_that_is_a_little_behind_or_takes_the_oldest_s()
    {
        var cursor = default(StoreCursor);
        cursor.Follow(1000);
        cursor.Follow(2000);
        Assert.Equal([1001u, 2001, 0, 0], Expected(cursor));
        // Passed over a few, then too many, then went back.
        cursor.Follow(1030);
        cursor.Follow(1031 + 32);
        cursor.Follow(1990);
        Assert.Equal([1031u, 2001, 1064, 1991], Expected(cursor));
        cursor.Follow(5000);
        Assert.Equal([5001u, 2001, 1064, 1991], Expected(cursor));
    }
}
