using System.Text.RegularExpressions;
using VirtPS.Sdk;
using VirtPS.Sdk.Machine;

namespace VirtPS.Guest.Tests;

public class RinglabTests
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(30);

    [Fact]
    public void UsesAllFourRingsAndPowersOff()
    {
        using var guest = new GuestRun(new BootConfiguration { Kind = BootKind.Ringlab, CommandLine = "exit" });
        guest.Machine.PowerOn();
        Assert.True(guest.WaitForEnd(Limit), guest.ToString());
        Assert.Contains("RINGLAB-OK rings=0,1,2,3", guest.Output, StringComparison.Ordinal);
        Assert.Equal(VmState.Off, guest.Machine.State);
        Assert.Matches(new Regex(@"refused=19 int80=3 syscalls=\d+ ticks=\d\d+ ring3ticks=\d\d+ apicticks=[1-9]\d* pagefaults=4"), guest.Output);
    }

    [Fact]
    public void EchoesInputAndEndsOnQ()
    {
        using var guest = new GuestRun(new BootConfiguration { Kind = BootKind.Ringlab });
        guest.Machine.PowerOn();
        Assert.True(guest.WaitFor("q = power off", Limit), guest.ToString());
        guest.Send("xyz");
        Assert.True(guest.WaitFor("xyz", Limit), guest.ToString());
        guest.Send("q");
        Assert.True(guest.WaitForEnd(Limit), guest.ToString());
        Assert.EndsWith("[ring 0] q: power off\r\n", guest.Output, StringComparison.Ordinal);
    }

    /// <summary>There is no firmware: the loader must put everything into place again, over what the former run has left.</summary>
    [Fact]
    public void AResetStartsItAnew()
    {
        using var guest = new GuestRun(new BootConfiguration { Kind = BootKind.Ringlab }, onReset: GuestResetAction.Restart);
        guest.Machine.PowerOn();
        for (int run = 1; run <= 3; run++)
        {
            Assert.True(guest.WaitFor("q = power off", Limit, run), guest.ToString());
            guest.Send("r");
        }

        Assert.True(guest.WaitFor("q = power off", Limit, 4), guest.ToString());
        string[] summaries = [.. guest.Output.Split("\r\n").Where(l => l.StartsWith("RINGLAB-OK", StringComparison.Ordinal)).Select(l => l.Split(" syscalls")[0])];
        Assert.Equal(4, summaries.Length);
        Assert.Single(summaries.Distinct()); // counters began at zero each time
    }

    /// <summary>Bad images are refused before anything runs, and the machine has ended.</summary>
    [Fact]
    public void ABadImageIsTheStartersError()
    {
        using var guest = new GuestRun(new BootConfiguration { Kernel = typeof(RinglabTests).Assembly.Location });
        VirtException e = Assert.Throws<VirtException>(() => guest.Machine.PowerOn());
        Assert.Equal("ImageInvalid", e.ErrorId);
        Assert.Equal(VmState.Off, guest.Machine.State);
    }
}
