using VirtPS.Engine.Logging;
using VirtPS.Sdk;

namespace VirtPS.Engine.Tests;

public class LoggingTests
{
    [Fact]
    public void A_flood_is_cut_and_the_number_left_out_is_said()
    {
        var list = new ListLog();
        long now = 0;
        var log = new RateLimitedLog(list, "com1", () => now);
        for (int i = 0; i < 1000; i++)
            log.Write(LogLevel.Warning, "odd");
        Assert.Equal(RateLimitedLog.Burst, list.Lines.Count);
        now += 1000;
        log.Write(LogLevel.Warning, "later");
        Assert.Equal($"com1: later ({1000 - RateLimitedLog.Burst} earlier lines left out)", list.Lines[^1]);
        log.Write(LogLevel.Warning, "again");
        Assert.Equal("com1: again", list.Lines[^1]);
    }

    [Fact]
    public void Errors_always_get_through()
    {
        var list = new ListLog();
        var log = new RateLimitedLog(list, "x", () => 0);
        for (int i = 0; i < 100; i++)
            log.Write(LogLevel.Error, "bad");
        Assert.Equal(100, list.Lines.Count);
    }
}
