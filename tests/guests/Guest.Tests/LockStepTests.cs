using System.Globalization;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Machine;
using VirtPS.Sdk.Rings;

namespace VirtPS.Guest.Tests;

/// <summary>
/// Whole guests with interpreter and translator in lock-step: any difference ends the machine. Of Debian the first instructions; VIRTPS_TEST_LOCKSTEP=boot goes on to user space (some minutes).
/// </summary>
public class LockStepTests
{
    private static readonly Dictionary<string, string> s_lockStep = new() { ["lockstep"] = "true" };

    [Fact]
    public void Ringlab()
    {
        Assert.SkipUnless(VirtPS.Emulation.EngineOptions.CanTranslate, "The translator does not run on this host.");
        using var guest = new GuestRun(new BootConfiguration { Kind = BootKind.Ringlab, CommandLine = "exit" }, strategyOptions: s_lockStep);
        guest.Machine.PowerOn();
        Assert.True(guest.WaitForEnd(TimeSpan.FromSeconds(120)), guest.ToString());
        Assert.True(guest.Output.Contains("RINGLAB-OK", StringComparison.Ordinal), guest.ToString());
        Assert.Equal(VmState.Off, guest.Machine.State);
        guest.Machine.Dispose();
        Show(guest);
    }

    [Fact]
    public async Task Debian()
    {
        Assert.SkipUnless(VirtPS.Emulation.EngineOptions.CanTranslate, "The translator does not run on this host.");
        bool whole = Environment.GetEnvironmentVariable("VIRTPS_TEST_LOCKSTEP") == "boot";
        const ulong Enough = 30_000_000;
        using DebianImages images = await DebianImages.FindAsync();
        using var guest = new GuestRun(new BootConfiguration { Kind = BootKind.Linux, Kernel = images.Kernel, Initrd = images.Initrd, CommandLine = "console=ttyS0 panic=-1" },
            512 << 20, strategyOptions: s_lockStep);
        guest.Machine.PowerOn();
        DateTime start = DateTime.UtcNow, end = start + TimeSpan.FromMinutes(whole ? 30 : 3);
        ulong executed = 0;
        while (DateTime.UtcNow < end && !guest.Machine.Completion.IsCompleted && (whole ? !guest.Output.Contains("GUEST-READY", StringComparison.Ordinal) : executed < Enough))
        {
            Thread.Sleep(50);
            RingMeasurement m = guest.Machine.MeasureRings()[0];
            executed = m.Instructions!.Aggregate(0ul, (a, b) => a + b);
        }

        Assert.True(!guest.Machine.Completion.IsCompleted && (whole ? guest.Output.Contains("GUEST-READY", StringComparison.Ordinal) : executed >= Enough), guest.ToString());
        guest.Machine.Dispose();
        TestContext.Current.TestOutputHelper?.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{executed:N0} instructions in {(DateTime.UtcNow - start).TotalSeconds:F1} s"));
        Show(guest);
    }

    private static void Show(GuestRun guest)
    {
        string line = guest.Log.ToString().Split('\n').Single(l => l.Contains("Lock-step", StringComparison.Ordinal));
        TestContext.Current.TestOutputHelper?.WriteLine(line);
        Assert.Contains("instructions compared", line, StringComparison.Ordinal);
    }
}
