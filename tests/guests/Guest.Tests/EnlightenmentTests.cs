using System.Globalization;
using System.Text.RegularExpressions;
using VirtPS.Sdk.Machine;

namespace VirtPS.Guest.Tests;

/// <summary>Debian's own kernel under Full, told that it runs on KVM: what it says that it found, and that what it uses then works.</summary>
public partial class EnlightenmentTests
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(240);

    private const string Script = "dmesg | grep -i -e kvm -e spinlocks -e 'PV IPI' -e tsc -e clocksource -e smpboot";

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(4)]
    public async Task The_stock_kernel_uses_KVMs_interface(int processors)
    {
        using DebianImages images = await DebianImages.FindAsync(Script);
        var boot = new BootConfiguration { Kind = BootKind.Pvh, Kernel = images.Kernel, Initrd = images.Initrd, CommandLine = "console=ttyS0 panic=-1 quiet clocksource=kvm-clock" };
        using var guest = new GuestRun(boot, 512 << 20, processors, strategyOptions: new Dictionary<string, string> { ["enlightenment"] = "Kvm" });
        guest.Machine.PowerOn();
        Assert.True(guest.WaitFor($"{processors} CPU(s)", Limit), guest.ToString());
        TestContext.Current.TestOutputHelper?.WriteLine(guest.Output);
        string[] expected = ["Hypervisor detected: KVM", "kvm-clock: Using msrs 4b564d01 and 4b564d00", "Booting paravirtualized kernel on KVM", "KVM setup pv remote TLB flush", "setup PV IPIs", "PV spinlocks enabled"];
        foreach (string text in processors > 1 ? expected : [.. expected[..3], "PV spinlocks disabled, single CPU"])
            Assert.Contains(text, guest.Output, StringComparison.Ordinal);

        // Its clock is VM time, also over a pause.
        (double Guest, double Earliest, double Latest) first = Uptime(guest);
        guest.Machine.Pause();
        Thread.Sleep(500);
        guest.Machine.Resume();
        (double Guest, double Earliest, double Latest) second = Uptime(guest);
        Assert.InRange(second.Guest - first.Guest, second.Earliest - first.Latest - 0.1, second.Latest - first.Earliest + 0.1);

        // Busy guests on a busy host lose time, and know it.
        ulong before = Steal(guest);
        guest.Send($"for i in $(seq {processors}); do timeout 2 sh -c 'while :; do :; done' & done; wait; echo all over\n");
        BurnHost(TimeSpan.FromSeconds(2));
        Assert.True(guest.WaitFor("\nall over", Limit), guest.ToString());
        ulong stolen = Steal(guest) - before;
        Assert.True(stolen > 0, $"no steal time: {guest}");
        foreach (string complaint in (ReadOnlySpan<string>)["Call Trace", "BUG:", "WARNING:", "rcu: INFO"])
            Assert.DoesNotContain(complaint, guest.Output, StringComparison.Ordinal);
    }

    /// <summary>The guest's own seconds, and VM time before it was asked and after it has answered.</summary>
    private static (double Guest, double Earliest, double Latest) Uptime(GuestRun guest)
    {
        double asked = guest.Machine.Clock.Now / 1e9;
        Match match = Ask(guest, "echo up $(cut -d' ' -f1 /proc/uptime)", UptimeLine());
        return (double.Parse(match.Groups[1].ValueSpan, CultureInfo.InvariantCulture), asked, guest.Machine.Clock.Now / 1e9);
    }

    /// <summary>Hundredths of a second, all processors together (proc(5), /proc/stat, the eighth column).</summary>
    private static ulong Steal(GuestRun guest) =>
        ulong.Parse(Ask(guest, "echo stolen $(grep '^cpu ' /proc/stat | tr -s ' ' | cut -d' ' -f9)", StealLine()).Groups[1].ValueSpan, CultureInfo.InvariantCulture);

    private static Match Ask(GuestRun guest, string command, Regex answer)
    {
        int start = guest.Output.Length;
        guest.Send(command + "\n");
        Match match = Match.Empty;
        Assert.True(SpinWait.SpinUntil(() => (match = answer.Match(guest.Output, start)).Success, Limit), guest.ToString());
        return match;
    }

    /// <summary>Two threads to a processor.</summary>
    private static void BurnHost(TimeSpan time)
    {
        DateTime end = DateTime.UtcNow + time;
        Thread[] threads = [.. Enumerable.Range(0, 2 * Environment.ProcessorCount).Select(_ => new Thread(() =>
        {
            while (DateTime.UtcNow < end)
                Thread.SpinWait(1000);
        }))];
        foreach (Thread thread in threads)
            thread.Start();
        foreach (Thread thread in threads)
            thread.Join();
    }

    [GeneratedRegex("^up ([0-9.]+)\\r", RegexOptions.Multiline)]
    private static partial Regex UptimeLine();

    [GeneratedRegex("^stolen ([0-9]+)\\r", RegexOptions.Multiline)]
    private static partial Regex StealLine();
}
