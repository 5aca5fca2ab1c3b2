using System.Text;
using VirtPS.Client.Store;
using VirtPS.Sdk;

namespace VirtPS.Client.Tests;

public class TextTests
{
    [Theory]
    [InlineData("*", "anything", true)]
    [InlineData("a*c", "abbc", true)]
    [InlineData("a*c", "abbd", false)]
    [InlineData("?b", "ab", true)]
    [InlineData("?b", "b", false)]
    [InlineData("[a-c]x", "Bx", true)]
    [InlineData("[a-c]x", "dx", false)]
    [InlineData("a`*", "a*", true)]
    [InlineData("a`*", "ab", false)]
    [InlineData("", "", true)]
    public void Wildcards_are_PowerShells(string pattern, string name, bool matches) => Assert.Equal(matches, VmNames.Matches(pattern, name));

    [Fact]
    public void Lines_are_whole_however_the_bytes_are_cut()
    {
        byte[] bytes = Encoding.UTF8.GetBytes("eins\r\nzwei\r\r\ndräi\n\nEnde");
        for (int size = 1; size <= bytes.Length; size++)
        {
            var lines = new ConsoleLines();
            var all = new List<string>();
            for (int at = 0; at < bytes.Length; at += size)
                all.AddRange(lines.Add(bytes.AsSpan(at, Math.Min(size, bytes.Length - at))));
            Assert.Equal(["eins", "zwei", "dräi", ""], all);
            Assert.Equal("Ende", lines.Rest);
        }
    }

    [Fact]
    public void A_pattern_matches_over_pieces_and_behind_a_flood()
    {
        var matcher = new ConsoleMatcher("^log(in|out): $");
        byte[] noise = Encoding.ASCII.GetBytes(string.Concat(Enumerable.Repeat("noise and more noise\n", 20_000)));
        for (int at = 0; at < noise.Length; at += 1000)
            Assert.Null(matcher.Add(noise.AsSpan(at, Math.Min(1000, noise.Length - at))));
        Assert.Null(matcher.Add("lo"u8));
        Assert.Null(matcher.Add("gin:"u8));
        Assert.Equal("login: ", matcher.Add(" "u8));
    }

    [Fact]
    public void A_pattern_that_is_none_or_never_ends_is_an_error()
    {
        Assert.Equal(ErrorIds.ConfigurationInvalid, Assert.Throws<VirtException>(() => new ConsoleMatcher("(")).ErrorId);
        var endless = new ConsoleMatcher("^(a+)+$");
        Assert.Equal(ErrorIds.ConfigurationInvalid, Assert.Throws<VirtException>(() => endless.Add(Encoding.ASCII.GetBytes(new string('a', 60) + "!"))).ErrorId);
    }
}
