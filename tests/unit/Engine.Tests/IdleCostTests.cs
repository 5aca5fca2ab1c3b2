using System.Globalization;

namespace VirtPS.Engine.Tests;

/// <summary>Tests that measure this process: nothing runs beside them.</summary>
[CollectionDefinition(nameof(Alone), DisableParallelization = true)]
public sealed class Alone;

/// <summary>What a guest costs that waits. Threads are found by their names, so that the machines of other tests would be counted, too.</summary>
[Collection(nameof(Alone))]
public sealed class IdleCostTests
{
    private const double Most = 0.02;

    [Fact]
    public void An_idle_guest_costs_less_than_two_percent_of_a_core()
    {
        var console = new PcMachineTests.CapturedConsole();
        using Machine machine = PcMachineTests.Builder(PcMachineTests.Configuration(), console).Build();
        machine.PowerOn();
        Assert.True(Make.Within(30, () => console.Text.Contains("serial input", StringComparison.Ordinal)), console.Text);
        // The machine's own threads: the compiler and the test runner are none of its cost.
        Assert.SkipUnless(OperatingSystem.IsLinux(), "Threads' processor time is read from /proc.");
        Assert.True(MachineThreadSeconds() > 0);
        // What else there is adds to it and takes nothing away: methods that the runtime has not yet compiled for speed, and what the host's other work costs in its caches. So the least of some stretches.
        double least = 1;
        for (int i = 0; i < 6 && least >= Most; i++)
            least = Math.Min(least, ShareOf(machine));
        Assert.InRange(least, 0, Most);
    }

    /// <summary>What the machine's threads take of a core during a second.</summary>
    private static double ShareOf(Machine machine)
    {
        double before = MachineThreadSeconds();
        ulong start = machine.Clock.Now;
        Thread.Sleep(1000);
        return (MachineThreadSeconds() - before) / ((machine.Clock.Now - start) / 1e9);
    }

    private static double MachineThreadSeconds()
    {
        double nanoseconds = 0;
        foreach (string task in Directory.EnumerateDirectories("/proc/self/task"))
        {
            string stat = File.ReadAllText(Path.Combine(task, "stat"));
            string name = stat[(stat.IndexOf('(', StringComparison.Ordinal) + 1)..stat.LastIndexOf(')')];
            // What the scheduler has given the thread, in nanoseconds. The times in stat are sampled by a tick, with which threads that a timer wakes are in step: they would seem to cost several times as much.
            if (name.StartsWith("vcpu", StringComparison.Ordinal) || name.StartsWith("vm-", StringComparison.Ordinal))
                nanoseconds += double.Parse(File.ReadAllText(Path.Combine(task, "schedstat")).Split(' ')[0], CultureInfo.InvariantCulture);
        }

        return nanoseconds / 1e9;
    }
}
