using System.Globalization;
using System.Text.RegularExpressions;
using VirtPS.Engine;
using VirtPS.Guests.Ringlab;
using VirtPS.Sdk.Machine;

namespace VirtPS.Nested.Runner;

/// <summary>Whole guests; each method gives what is worth telling, or throws with the console's end.</summary>
internal static partial class Guests
{
    private static readonly TimeSpan s_limit = TimeSpan.FromSeconds(90);

    public static string Ringlab(IMachineParts parts, string irqchip)
    {
        var console = new TextConsole();
        using Machine machine = Build(parts, console, new BootConfiguration { Kind = BootKind.Ringlab, CommandLine = "exit" }, 64 << 20, 1, irqchip);
        machine.PowerOn();
        Require(machine.Completion.Wait(s_limit), "did not end", machine, console);
        Require(console.Text.Contains("RINGLAB-OK rings=0,1,2,3", StringComparison.Ordinal), "no RINGLAB-OK", machine, console);
        Require(machine.State == VmState.Off, "not off", machine, console);
        return console.Text.Split("\r\n").First(l => l.StartsWith("RINGLAB-OK", StringComparison.Ordinal));
    }

    /// <summary>Single-step misses no transition: each begins in the ring where the last one ended.</summary>
    public static string ExactRings(IMachineParts parts, string irqchip)
    {
        const int Count = 300, Spans = 40, Wanted = 10;
        var console = new TextConsole();
        using Machine machine = Build(parts, console, new BootConfiguration { Kind = BootKind.Ringlab, CommandLine = "bench" }, 64 << 20, 1, irqchip);
        machine.PowerOn();
        Require(console.WaitFor("RINGLAB-OK", machine, s_limit), "no RINGLAB-OK", machine, console);
        int seen = 0;
        // Its system calls begin a little later. Several spans: a transition that a kick hides is missing from one in thirty.
        for (int span = 0; span < Spans; span++)
        {
            RingSteps steps = machine.StepRings(0, Count, includeSameRing: false, s_limit);
            bool whole = steps.Events.Zip(steps.Events.Skip(1)).All(pair => pair.First.ToRing == pair.Second.FromRing);
            string text = $"{steps.Instructions} instructions, {steps.Events.Length} transitions: {string.Join(" ", steps.Events.Take(12).Select(e => $"{e.FromRing}>{e.ToRing} {e.Cause}"))}";
            Require(steps.Instructions == Count && whole, text, machine, console);
            if (steps.Events.Length < 10)
            {
                Thread.Sleep(100);
                continue;
            }

            if (++seen < Wanted)
                continue;
            // And the guest is none the worse for it.
            Thread.Sleep(200);
            Require(machine.State == VmState.Running, "ended after stepping", machine, console);
            return text;
        }

        Require(false, "no system calls seen", machine, console);
        return "";
    }

    /// <summary>To the shell; then a pause and a move to another machine, over which the guest's own clock must show what VM time shows, and its shell must answer.</summary>
    public static string Linux(IMachineParts parts, BootKind kind, string kernel, string initrd, int processors, string irqchip)
    {
        var console = new TextConsole();
        var boot = new BootConfiguration { Kind = kind, Kernel = kernel, Initrd = initrd, CommandLine = "console=ttyS0 quiet nokaslr mitigations=off panic=-1" };
        MachineState state;
        using var memory = new MemoryStream();
        Reading before;
        using (Machine machine = Build(parts, console, boot, 256 << 20, processors, irqchip))
        {
            machine.PowerOn();
            bool ready = console.WaitFor($"{processors} CPU(s)", machine, s_limit);
            Require(ready && console.Text.Contains("GUEST-READY", StringComparison.Ordinal), "not ready", machine, console);
            before = Uptime(machine, console);
            machine.Pause();
            Thread.Sleep(700);
            machine.Resume();
            Compare("a pause", before, Uptime(machine, console));
            machine.Pause();
            state = MachineState.FromJson(machine.Save().ToJson());
            machine.SaveMemory(memory);
        }

        string text = console.Text;
        console = new TextConsole();
        using (Machine machine = Build(parts, console, boot, 256 << 20, processors, irqchip))
        {
            memory.Position = 0;
            machine.RestoreMemory(memory);
            machine.Restore(state);
            machine.Resume();
            Compare("a move", before, Uptime(machine, console));
        }

        return string.Join("; ", text.Split("\r\n").Where(l => l.Contains("GUEST-READY", StringComparison.Ordinal) || l.StartsWith("clocksource", StringComparison.Ordinal) || l.Contains("unstable", StringComparison.Ordinal)));
    }

    /// <summary>The guest's own seconds since its boot, by its shell, and VM time before it was asked and after it has answered.</summary>
    private readonly record struct Reading(double Guest, double Earliest, double Latest);

    private static Reading Uptime(Machine machine, TextConsole console)
    {
        int start = console.Text.Length;
        double asked = machine.Clock.Now / 1e9;
        console.Send("echo up $(cut -d' ' -f1 /proc/uptime)\n");
        DateTime end = DateTime.UtcNow + s_limit;
        while (DateTime.UtcNow < end && !machine.Completion.IsCompleted)
        {
            Match match = UptimeLine().Match(console.Text, start);
            if (match.Success)
                return new Reading(double.Parse(match.Groups[1].ValueSpan, CultureInfo.InvariantCulture), asked, machine.Clock.Now / 1e9);
            Thread.Sleep(10);
        }

        Require(false, "no answer from the shell", machine, console);
        throw new InvalidOperationException();
    }

    /// <summary>The guest's clock must agree with VM time, as far as it is known when the guest looked.</summary>
    private static void Compare(string what, Reading before, Reading after)
    {
        const double Tolerance = 0.1;
        double guest = after.Guest - before.Guest, least = after.Earliest - before.Latest, most = after.Latest - before.Earliest;
        if (guest < least - Tolerance || guest > most + Tolerance)
            throw new InvalidOperationException(FormattableString.Invariant($"over {what} the guest counted {guest:0.00} s, VM time {least:0.00} to {most:0.00} s"));
    }

    [GeneratedRegex("^up ([0-9.]+)\r", RegexOptions.Multiline)]
    private static partial Regex UptimeLine();

    internal static Machine Build(IMachineParts parts, TextConsole console, BootConfiguration boot, ulong memory, int processors, string irqchip)
    {
        var configuration = new VmConfiguration
        {
            Name = "nested",
            Id = Guid.NewGuid(),
            CreationTime = DateTimeOffset.UtcNow,
            Strategy = "Hardware",
            // With the machine's own controllers the guest is not told of KVM: so both of its clocks are seen.
            StrategyOptions = new Dictionary<string, string> { ["irqchip"] = irqchip, ["enlightenment"] = irqchip == "kernel" ? "Kvm" : "None" },
            Memory = memory,
            ProcessorCount = processors,
            Boot = boot,
            OnReset = GuestResetAction.Stop,
        };
        var builder = new MachineBuilder(configuration, parts) { Starter = new GuestBootStarter(() => RinglabImage.Build()) };
        builder.Backends.Char[BackendRegistry.Console] = console;
        return builder.Build();
    }

    internal static void Require(bool condition, string what, Machine machine, TextConsole console)
    {
        if (condition)
            return;
        string place = "";
        if (machine.State == VmState.Running)
        {
            for (int i = 0; i < machine.VcpuCount; i++)
            {
                MachineRegisters r = machine.CaptureRegisters(i);
                place += $" vCPU {i}: RIP 0x{r.Rip:X} {r.Mode} {r.MpState} RFLAGS 0x{r.Rflags:X}";
            }
        }

        string text = console.Text;
        throw new InvalidOperationException($"{what}: {machine.State} {machine.StatusReason}{place} [console] {text[^Math.Min(text.Length, 1500)..]}");
    }
}
