using System.Text.RegularExpressions;
using VirtPS.Engine;
using VirtPS.Sdk.Machine;
using VirtPS.Sdk.Rings;

namespace VirtPS.Guest.Tests;

/// <summary>Whole guests of the strategy Para: ringlab's Xen variant, and Debian's kernel as it is.</summary>
public class XenTests
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(120);

    [Theory]
    [InlineData("interpreter")]
    [InlineData("translator")]
    public void RinglabCallsDownAndPowersOff(string tier)
    {
        if (tier == "translator" && !VirtPS.Emulation.EngineOptions.CanTranslate)
            Assert.Skip("The translator does not run on this host.");
        using var guest = new GuestRun(new BootConfiguration { Kind = BootKind.Ringlab, CommandLine = "exit" }, 16 << 20, strategy: "Para", strategyOptions: new Dictionary<string, string> { ["tier"] = tier });
        guest.Machine.PowerOn();
        Assert.True(guest.WaitForEnd(Limit), guest.ToString());
        Assert.Equal(VmState.Off, guest.Machine.State);
        Assert.Matches(new Regex(@"RINGLAB-OK rings=0,3 hypercalls=\d+ refused=14 tablewrites=1 int80=1 syscalls=8 ticks=[1-9]\d* ring3ticks=[1-9]\d* pagefaults=3"), guest.Output);
        Assert.DoesNotContain("NOT refused", guest.Output, StringComparison.Ordinal);
    }

    [Fact]
    public void RinglabsHypercallsAreRingTransitionsByName()
    {
        using var guest = new GuestRun(new BootConfiguration { Kind = BootKind.Ringlab }, 16 << 20, strategy: "Para");
        guest.Machine.PowerOn();
        Assert.True(guest.WaitFor("q = power off", Limit), guest.ToString());
        guest.Machine.Pause();
        RingMeasurement m = guest.Machine.MeasureRings()[0];
        guest.Machine.Resume();
        Assert.Equal(3ul, m.Hypercalls["callback_op"]);
        Assert.Equal(1ul, m.Hypercalls["set_trap_table"]);
        Assert.Equal(m.Transitions["Hypercall"], m.Hypercalls.Values.Aggregate(0ul, (a, b) => a + b));
        Assert.True(m.Instructions![0] > 0 && m.Instructions[3] > 0);
        using RingTraceSession trace = guest.Machine.StartTrace(new RingTraceOptions());
        // A look may come when the guest has just been woken and has called nobody yet.
        var events = new RingEvent[64];
        bool called = false;
        for (DateTime end = DateTime.UtcNow + Limit; !called && DateTime.UtcNow < end; Thread.Sleep(5))
            called = events.Take(trace.Read(events)).Any(e => e.Cause == RingCause.Hypercall && (sbyte)e.ToRing == -1 && guest.Machine.Strategy.GuestInterface.HypercallName(e.Vector) is not null);
        Assert.True(called, "no hypercall in the trace");
        guest.Send("q");
        Assert.True(guest.WaitForEnd(Limit), guest.ToString());
    }

    [Fact]
    public void AResetStartsRinglabAnew()
    {
        using var guest = new GuestRun(new BootConfiguration { Kind = BootKind.Ringlab }, 16 << 20, strategy: "Para", onReset: GuestResetAction.Restart);
        guest.Machine.PowerOn();
        Assert.True(guest.WaitFor("q = power off", Limit), guest.ToString());
        guest.Send("r");
        Assert.True(guest.WaitFor("q = power off", Limit, 2), guest.ToString());
        guest.Send("q");
        Assert.True(guest.WaitForEnd(Limit), guest.ToString());
    }

    [Theory]
    [InlineData(1)]
    [InlineData(4)]
    [InlineData(8)]
    public async Task DebianReachesItsInitrd(int processors)
    {
        using DebianImages images = await DebianImages.FindAsync();
        var boot = new BootConfiguration { Kernel = images.Kernel, Initrd = images.Initrd, CommandLine = "console=hvc0 panic=-1" };
        using var guest = new GuestRun(boot, 512 << 20, processors, "Para");
        guest.Machine.PowerOn();
        Assert.True(guest.WaitFor("GUEST-READY", Limit), guest.ToString());
        Assert.True(guest.WaitFor($"{processors} CPU(s)", Limit), guest.ToString());
        // "APIC id mismatch" is what this kernel says of every processor but the first under Xen, there being no APIC.
        string output = Regex.Replace(guest.Output, @"\[Firmware Bug\]: CPU\d: APIC id mismatch", "");
        foreach (string complaint in (ReadOnlySpan<string>)["[Firmware Bug]", "Call Trace", "BUG:", "WARNING:"])
            Assert.DoesNotContain(complaint, output, StringComparison.Ordinal);
        Assert.True(guest.Machine.PressPowerButton());
        Assert.True(guest.WaitForEnd(Limit), guest.ToString());
    }
}
