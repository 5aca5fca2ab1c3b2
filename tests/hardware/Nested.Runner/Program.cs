using System.Diagnostics;
using System.Globalization;
using VirtPS.Engine.Catalog;
using VirtPS.Lockstep;
using VirtPS.Sdk.Machine;
using VirtPS.Sdk.Plugins;
using VirtPS.Sdk.Testing.Conformance;
using VirtPS.X86;

namespace VirtPS.Nested.Runner;

/// <summary>
/// Runs inside a small Linux that has a real KVM: the strategy conformance suite, ringlab and a stock Linux kernel, on our engine in this process. One line per result
/// (<c>NESTED pass|FAIL seconds name: text</c>) on standard output; the number of failures, at most 100, goes to the debug-exit port when there is one.
/// Arguments: the folder of plugins, a kernel, an initrd; then <c>debug-exit</c> when QEMU's isa-debug-exit is at port 0x501, <c>bench</c> to measure instead, <c>guests</c> or
/// <c>processor</c> for one half of the run, <c>only=text</c> for what has the text in its name, and <c>seed=n</c> and <c>count=n</c> for other random sequences; several with commas between.
/// </summary>
internal static class Program
{
    private const ushort DebugExitPort = 0x501;

    private const uint Id = 0x802, Eoi = 0x80B;

    private const ulong RandomSeed = 1;

    private const int RandomCount = 300;

    /// <summary>They take some 15 s on an idle machine. What is asked for is all of them, not how soon: a busy one may take its time.</summary>
    private static readonly TimeSpan s_randomLimit = TimeSpan.FromSeconds(200);

    private static int s_failures;

    private static string s_only = "";

    private static int Main(string[] arguments)
    {
        // One word of the emulated host's command line may hold several.
        arguments = [.. arguments.SelectMany(a => a.Split(','))];
        s_only = Option(arguments, "only") ?? "";
        if (arguments.Length < 3)
        {
            Console.Error.WriteLine("usage: VirtPS.Nested.Runner <plugins> <kernel> <initrd> [debug-exit]");
            return 2;
        }

        var registry = new PluginRegistry(Path.Combine(Path.GetTempPath(), "plugins.json"));
        var catalog = new PluginCatalog([new PluginRoot(arguments[0], PluginSource.Module)], registry);
        Report("probe", () =>
        {
            HostSupport support = catalog.GetStrategy("Hardware", new Dictionary<string, string>()).Probe();
            return support.IsSupported ? support.Reason : throw new InvalidOperationException(support.Reason);
        });
        (string kernel, string initrd) = (arguments[1], arguments[2]);
        if (arguments.Contains("bench"))
        {
            Report("boot beside QEMU", () => BootBench.Run(catalog, kernel, initrd));
            return End(arguments);
        }

        if (!arguments.Contains("processor"))
            WholeGuests(catalog, kernel, initrd);
        if (!arguments.Contains("guests"))
            Processor(catalog, arguments);
        return End(arguments);
    }

    private static string? Option(string[] arguments, string name) => arguments.FirstOrDefault(a => a.StartsWith(name + "=", StringComparison.Ordinal))?[(name.Length + 1)..];

    private static void WholeGuests(PluginCatalog catalog, string kernel, string initrd)
    {
        foreach (string irqchip in (ReadOnlySpan<string>)["kernel", "software"])
        {
            Report($"ringlab, irqchip={irqchip}", () => Guests.Ringlab(catalog, irqchip));
            Report($"TSC over a pause, irqchip={irqchip}", () => TimeGuest.Run(catalog, irqchip));
            Report($"linux bzImage, 1 vCPU, irqchip={irqchip}", () => Guests.Linux(catalog, BootKind.Linux, kernel, initrd, 1, irqchip));
            Report($"linux PVH, 2 vCPUs, irqchip={irqchip}", () => Guests.Linux(catalog, BootKind.Pvh, kernel, initrd, 2, irqchip));
        }

        foreach (string irqchip in (ReadOnlySpan<string>)["kernel", "software"])
            Report($"exact rings by single-step, irqchip={irqchip}", () => Guests.ExactRings(catalog, irqchip));
    }

    private static void Processor(PluginCatalog catalog, string[] arguments)
    {
        Report("privileged instructions, ours beside the processor's", () => Told(Suite(catalog).RunPrivileged([.. KnownDifferences.LeftOut.Select(c => c.Name)])));
        Report("random instructions, ours beside the processor's", () =>
        {
            (ulong seed, int count) = (Option(arguments, "seed") is { } s ? ulong.Parse(s, CultureInfo.InvariantCulture) : RandomSeed, Option(arguments, "count") is { } n ? int.Parse(n, CultureInfo.InvariantCulture) : RandomCount);
            LockstepResult result = Suite(catalog).RunRandom(seed, count, s_randomLimit);
            string text = Told(result);
            return result.Cases == count ? text : throw new InvalidOperationException($"only {text} in {s_randomLimit.TotalSeconds} s");
        });
        foreach (LockstepCase guest in (IEnumerable<LockstepCase>)[.. KnownDifferences.LeftOut, KnownDifferences.ResumeFlag])
            Report($"differs: {guest.Name}", () => Suite(catalog).RunToEnd(guest) ?? throw new InvalidOperationException("it does not"));
        Report("x2APIC MSRs reach the machine", () => X2Apic(catalog));
        Conformance(catalog, "software");
        Conformance(catalog, "kernel");
    }

    private static int End(string[] arguments)
    {
        Console.WriteLine($"NESTED done {s_failures}");
        Console.Out.Flush();
        if (arguments.Contains("debug-exit"))
            DebugExit.Write(DebugExitPort, (byte)Math.Min(s_failures, 100));
        return Math.Min(s_failures, 100);
    }

    /// <summary>Throws when there are differences.</summary>
    private static string Told(LockstepResult result)
    {
        string text = $"{result.Cases} guests, {result.Steps} instructions";
        return result.Differences.Count == 0 ? text : throw new InvalidOperationException($"{text}; differences: " + string.Join(" || ", result.Differences));
    }

    private static LockstepSuite Suite(PluginCatalog catalog)
    {
        var none = new Dictionary<string, string>();
        return new LockstepSuite(catalog.GetStrategy("Full", none), catalog.GetStrategy("Hardware", none)) { NoResumeFlag = true };
    }

    private static void Conformance(PluginCatalog catalog, string irqchip)
    {
        var options = new Dictionary<string, string> { ["irqchip"] = irqchip, ["enlightenment"] = "None" };
        var strategy = new StrategyWithOptions(catalog.GetStrategy("Hardware", options), options);
        bool own = irqchip == "kernel";
        foreach (ConformanceCheck check in own ? StrategyConformance.ChecksWithPartitionControllers : StrategyConformance.Checks)
        {
            Report($"check {check}, irqchip={irqchip}", () =>
            {
                check.Run(strategy, own);
                return "";
            });
        }
    }

    /// <summary>Reading the id (802h) and writing EOI (80Bh): KVM has no local APIC here and must hand them on.</summary>
    private static string X2Apic(PluginCatalog catalog)
    {
        using var machine = new ConformanceMachine(catalog.GetStrategy("Hardware", new Dictionary<string, string>()));
        machine.EnterLongMode(c => c.Mov(Gpr.Rcx, Id).Rdmsr().Mov(Gpr.Rbx, 1).Wrmsr(Eoi, 0x11).Hlt());
        machine.Host.Msrs[Id] = 7;
        machine.Host.Msrs[Eoi] = 0;
        machine.RunToHalt();
        string[] seen = [.. machine.Host.Accesses.Select(a => a.ToString())];
        string expected = $"rdmsr 0x{Id:X}/8 0x7, wrmsr 0x{Eoi:X}/8 0x11";
        return string.Join(", ", seen) == expected ? expected : throw new InvalidOperationException($"expected {expected}, found {string.Join(", ", seen)}");
    }

    /// <summary>A check may fail in any way; each failure is one line and never ends the others.</summary>
    private static void Report(string name, Func<string> body)
    {
        if (!name.Contains(s_only, StringComparison.Ordinal))
            return;
        var watch = Stopwatch.StartNew();
        string verdict = "pass", text;
        try
        {
            text = body();
        }
        catch (Exception e)
        {
            s_failures++;
            (verdict, text) = ("FAIL", e.GetType().Name + ": " + e.Message.ReplaceLineEndings(" | "));
        }

        Console.WriteLine(FormattableString.Invariant($"NESTED {verdict} {watch.Elapsed.TotalSeconds:0.0} {name} = {text}"));
        Console.Out.Flush();
    }
}
