using System.Reflection;
using System.Text;
using VirtPS.Engine.Catalog;
using VirtPS.Guests.Ringlab;
using VirtPS.Sdk;
using VirtPS.Sdk.Backends;
using VirtPS.Sdk.Machine;
using VirtPS.Sdk.Plugins;
using VirtPS.Sdk.Rings;

namespace VirtPS.Engine.Tests;

/// <summary>Whole PCs: the module's own plugins from their folders, the embedded guest and small flat ones.</summary>
public sealed class PcMachineTests
{
    private static readonly string s_plugins = Path.Combine(typeof(PcMachineTests).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>().Single(a => a.Key == "Repository").Value!, "plugins");

    private static PluginCatalog Catalog() => new(
        Directory.EnumerateFiles(s_plugins, PluginManifest.FileName, SearchOption.AllDirectories)
            .Where(f => f.Replace('\\', '/').EndsWith("/bin/Release/net10.0/plugin.json", StringComparison.Ordinal))
            .Select(f => new PluginRoot(Path.GetDirectoryName(f)!, PluginSource.Module)),
        new PluginRegistry("unused"));

    internal static MachineBuilder Builder(VmConfiguration configuration, CapturedConsole console, ILog? log = null)
    {
        var builder = new MachineBuilder(configuration, Catalog()) { Starter = new GuestBootStarter(() => RinglabImage.Build()), Log = log ?? NullLog.Instance };
        builder.Backends.Char[BackendRegistry.Console] = console;
        return builder;
    }

    internal static VmConfiguration Configuration(int vcpus = 1, string strategy = "Full", string commandLine = "") =>
        Make.Configuration(vcpus, 64 << 20) with { Strategy = strategy, Boot = new BootConfiguration { Kind = BootKind.Ringlab, CommandLine = commandLine } };

    /// <summary>By single-step: what enters a ring is left from that ring, or something was missed.</summary>
    [Theory]
    [InlineData("Full", 1)]
    [InlineData("Full", 2)]
    public void Stepping_sees_every_transition(string strategy, int vcpus)
    {
        SkipUnlessSupported(strategy);
        var console = new CapturedConsole();
        using Machine machine = Builder(Configuration(vcpus, strategy), console).Build();
        machine.PowerOn();
        Assert.True(Make.Within(20, () => console.Text.Contains("RINGLAB-OK", StringComparison.Ordinal)));
        RingSteps steps = machine.StepRings(0, 30_000, includeSameRing: false, TimeSpan.FromSeconds(20));
        Assert.Equal(30_000, steps.Instructions);
        Assert.NotEmpty(steps.Events);
        Assert.All(steps.Events, e => Assert.NotEqual(e.FromRing, e.ToRing));
        Assert.All(steps.Events.Zip(steps.Events.Skip(1)), pair => Assert.Equal(pair.First.ToRing, pair.Second.FromRing));
        Assert.Equal(VmState.Running, machine.State);
        Assert.Throws<VirtException>(() => machine.StepRings(vcpus, 1, false, TimeSpan.FromSeconds(1)));
    }

    [Theory]
    [InlineData("Full", 1)]
    [InlineData("Full", 2)]
    [InlineData("Hardware", 1)]
    public void The_embedded_guest_uses_all_rings_and_switches_itself_off(string strategy, int vcpus)
    {
        SkipUnlessSupported(strategy);
        var console = new CapturedConsole();
        using Machine machine = Builder(Configuration(vcpus, strategy, "exit"), console).Build();
        machine.PowerOn();
        MachineStateChange end = WaitForEnd(machine, console);
        Assert.Equal(MachineCause.GuestPowerOff, end.Cause);
        Assert.Contains("RINGLAB-OK rings=0,1,2,3", console.Text);
        if (machine.Capabilities.CountsInstructions)
            Assert.All(machine.MeasureRings()[0].Instructions!, n => Assert.True(n > 0));
    }

    [Fact]
    public void Console_input_reaches_the_guest()
    {
        var console = new CapturedConsole();
        using Machine machine = Builder(Configuration(), console).Build();
        machine.PowerOn();
        Assert.True(Make.Within(30, () => console.Text.Contains("serial input", StringComparison.Ordinal)), console.Text);
        console.Type("xyz");
        Assert.True(Make.Within(10, () => console.Text.Contains('z', StringComparison.Ordinal) && console.Text.Contains("xyz", StringComparison.Ordinal)), console.Text);
        console.Type("q");
        Assert.Equal(MachineCause.GuestPowerOff, WaitForEnd(machine, console).Cause);
    }

    [Fact]
    public void The_guest_can_reset_itself_and_starts_anew()
    {
        var console = new CapturedConsole();
        using Machine machine = Builder(Configuration(), console).Build();
        machine.PowerOn();
        Assert.True(Make.Within(30, () => console.Text.Contains("serial input", StringComparison.Ordinal)), console.Text);
        console.Type("r");
        Assert.True(Make.Within(30, () => console.Text.Split("serial input").Length == 3), console.Text);
        Assert.Equal(VmState.Running, machine.State);
    }

    [Fact]
    public void Saved_at_any_moment_and_restored_into_fresh_machines_the_guest_goes_on_to_the_same_end()
    {
        var console = new CapturedConsole();
        Machine machine = Builder(Configuration(commandLine: "exit"), console).Build();
        machine.PowerOn();
        int moves = 0;
        while (machine.WaitForEnd(TimeSpan.FromMilliseconds(3 + (moves * 4))) is null && moves < 6)
        {
            try
            {
                machine.Pause();
            }
            catch (VirtException e) when (e.ErrorId == "InvalidVMState")
            {
                break;
            }

            byte[] state = machine.Save().ToJson();
            var memory = new MemoryStream();
            machine.SaveMemory(memory);
            machine.Dispose();
            memory.Position = 0;
            machine = Builder(Configuration(commandLine: "exit"), console).Build();
            machine.RestoreMemory(memory);
            machine.Restore(MachineState.FromJson(state));
            Assert.Equal(state, machine.Save().ToJson());
            machine.Resume();
            moves++;
        }

        using (machine)
        {
            Assert.Equal(MachineCause.GuestPowerOff, WaitForEnd(machine, console).Cause);
            Assert.True(moves > 2);
            Assert.Contains("RINGLAB-OK rings=0,1,2,3 gates=9 refused=19 int80=3 syscalls=3", console.Text);
            Assert.Single(console.Text.Split("protection rings at work").Skip(1));
        }
    }

    private static void SkipUnlessSupported(string strategy)
    {
        HostSupport support = Catalog().GetStrategy(strategy, new Dictionary<string, string>()).Probe();
        Assert.SkipUnless(support.IsSupported, support.Reason);
    }

    private static MachineStateChange WaitForEnd(Machine machine, CapturedConsole console)
    {
        MachineStateChange? end = machine.WaitForEnd(TimeSpan.FromSeconds(60));
        if (end is null)
            Assert.Fail($"Still running. {machine.CaptureRings()[0]}\n{console.Text}");
        return end;
    }

    internal sealed class CapturedConsole : ICharBackend
    {
        private readonly StringBuilder _text = new();
        private readonly Queue<byte> _input = new();

        public string Text
        {
            get
            {
                lock (_text)
                    return _text.ToString();
            }
        }

        public Action? InputAvailable { get; set; }

        public int Write(ReadOnlySpan<byte> data)
        {
            lock (_text)
                _text.Append(Encoding.Latin1.GetString(data));
            return data.Length;
        }

        public void Type(string text)
        {
            lock (_input)
            {
                foreach (char c in text)
                    _input.Enqueue((byte)c);
            }

            InputAvailable?.Invoke();
        }

        public int Read(Span<byte> buffer)
        {
            lock (_input)
            {
                int n = 0;
                while (n < buffer.Length && _input.TryDequeue(out byte b))
                    buffer[n++] = b;
                return n;
            }
        }

        public void Dispose()
        {
        }
    }
}
