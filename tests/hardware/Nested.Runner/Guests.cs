using System.Text;
using VirtPS.Engine;
using VirtPS.Guests.Ringlab;
using VirtPS.Sdk;
using VirtPS.Sdk.Backends;
using VirtPS.Sdk.Machine;

namespace VirtPS.Nested.Runner;

/// <summary>Whole guests; each method gives what is worth telling, or throws with the console's end.</summary>
internal static class Guests
{
    private static readonly TimeSpan s_limit = TimeSpan.FromSeconds(60);

    public static string Ringlab(IMachineParts parts)
    {
        var console = new TextConsole();
        using Machine machine = Build(parts, console, new BootConfiguration { Kind = BootKind.Ringlab, CommandLine = "exit" }, 64 << 20, 1);
        machine.PowerOn();
        Require(machine.Completion.Wait(s_limit), "did not end", machine, console);
        Require(console.Text.Contains("RINGLAB-OK rings=0,1,2,3", StringComparison.Ordinal), "no RINGLAB-OK", machine, console);
        Require(machine.State == VmState.Off, "not off", machine, console);
        return console.Text.Split("\r\n").First(l => l.StartsWith("RINGLAB-OK", StringComparison.Ordinal));
    }

    public static string Linux(IMachineParts parts, BootKind kind, string kernel, string initrd, int processors)
    {
        var console = new TextConsole();
        var boot = new BootConfiguration { Kind = kind, Kernel = kernel, Initrd = initrd, CommandLine = "console=ttyS0 quiet nokaslr mitigations=off panic=-1" };
        using Machine machine = Build(parts, console, boot, 256 << 20, processors);
        machine.PowerOn();
        bool ready = console.WaitFor($"{processors} CPU(s)", machine, s_limit);
        Require(ready && console.Text.Contains("GUEST-READY", StringComparison.Ordinal), "not ready", machine, console);
        return string.Join("; ", console.Text.Split("\r\n").Where(l => l.Contains("GUEST-READY", StringComparison.Ordinal) || l.StartsWith("clocksource", StringComparison.Ordinal)));
    }

    private static Machine Build(IMachineParts parts, TextConsole console, BootConfiguration boot, ulong memory, int processors)
    {
        var configuration = new VmConfiguration
        {
            Name = "nested",
            Id = Guid.NewGuid(),
            CreationTime = DateTimeOffset.UtcNow,
            Strategy = "Hardware",
            Memory = memory,
            ProcessorCount = processors,
            Boot = boot,
            OnReset = GuestResetAction.Stop,
        };
        var builder = new MachineBuilder(configuration, parts) { Starter = new GuestBootStarter(() => RinglabImage.Build()) };
        builder.Backends.Char[BackendRegistry.Console] = console;
        return builder.Build();
    }

    private static void Require(bool condition, string what, Machine machine, TextConsole console)
    {
        if (condition)
            return;
        string place = "";
        if (machine.State == VmState.Running)
        {
            MachineRegisters r = machine.CaptureRegisters(0);
            place = $" RIP 0x{r.Rip:X} {r.Mode} {r.MpState} RFLAGS 0x{r.Rflags:X}";
        }

        string text = console.Text;
        throw new InvalidOperationException($"{what}: {machine.State} {machine.StatusReason}{place} [console] {text[^Math.Min(text.Length, 1500)..]}");
    }

    private sealed class TextConsole : ICharBackend
    {
        private readonly StringBuilder _output = new();

        public string Text
        {
            get
            {
                lock (_output)
                    return _output.ToString();
            }
        }

        public Action? InputAvailable { get; set; }

        public bool WaitFor(string text, Machine machine, TimeSpan limit)
        {
            DateTime end = DateTime.UtcNow + limit;
            while (!Text.Contains(text, StringComparison.Ordinal))
            {
                if (DateTime.UtcNow > end || machine.Completion.IsCompleted)
                    return Text.Contains(text, StringComparison.Ordinal);
                Thread.Sleep(20);
            }

            return true;
        }

        public int Write(ReadOnlySpan<byte> data)
        {
            lock (_output)
                _output.Append(Encoding.Latin1.GetString(data));
            return data.Length;
        }

        public int Read(Span<byte> buffer) => 0;

        public void Dispose()
        {
        }
    }
}
