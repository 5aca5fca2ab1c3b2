using System.Diagnostics;
using System.Globalization;
using System.Text.Json.Nodes;
using VirtPS.Engine;
using VirtPS.Sdk;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Devices;
using VirtPS.Sdk.Machine;
using VirtPS.Sdk.Plugins;
using VirtPS.Strategy.Hardware;

namespace VirtPS.Bench.Kvm;

/// <summary>
/// The KVM strategy on this host's /dev/kvm, a paravirtual one too. Prints name=value lines. Arguments: the C peer's executable, or nothing where there is no C compiler; seconds per measurement.
/// </summary>
internal static class Program
{
    // 16 bits, at 0x7C00: out 0x80, al; jmp to it
    private static readonly byte[] s_loop = [0xE6, 0x80, 0xEB, 0xFC];

    private static int Main(string[] arguments)
    {
        string? peer = arguments.Length > 0 && arguments[0].Length > 0 ? arguments[0] : null;
        double seconds = arguments.Length > 1 ? double.Parse(arguments[1], CultureInfo.InvariantCulture) : 1;
        string image = Path.GetTempFileName();
        try
        {
            File.WriteAllBytes(image, s_loop);
            Ports(image, peer, seconds);
            FirstInstruction(image);
            return 0;
        }
        finally
        {
            File.Delete(image);
        }
    }

    /// <summary>In turn, so that a busy moment of the host meets both.</summary>
    private static void Ports(string image, string? peer, double seconds)
    {
        List<double> ours = [], theirs = [], ratios = [];
        for (int round = 0; round < 7; round++)
        {
            double mine = OurRate(image, seconds);
            // What runs first has its code compiled.
            if (round == 0)
                continue;
            ours.Add(mine);
            if (peer is null)
                continue;
            theirs.Add(PeerRate(peer, seconds));
            ratios.Add(ours[^1] / theirs[^1]);
        }

        Print("ports.ours", Median(ours));
        if (peer is null)
            return;
        Print("ports.peer", Median(theirs));
        Print("ports.ratio", Median(ratios));
    }

    private static double OurRate(string image, double seconds)
    {
        var device = new PortDevice();
        using Machine machine = Build(image, device);
        machine.PowerOn();
        // The first exits are slower on both sides: memory is touched for the first time.
        Thread.Sleep(50);
        long start = device.Writes;
        var watch = Stopwatch.StartNew();
        Thread.Sleep(TimeSpan.FromSeconds(seconds));
        return (device.Writes - start) / watch.Elapsed.TotalSeconds;
    }

    private static double PeerRate(string peer, double seconds)
    {
        using var process = Process.Start(new ProcessStartInfo(peer, [seconds.ToString(CultureInfo.InvariantCulture)]) { RedirectStandardOutput = true })!;
        string output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        return double.Parse(output, CultureInfo.InvariantCulture);
    }

    /// <summary>From nothing to the guest's first port write: the device opened, partition, memory and vCPU made, the guest loaded and entered.</summary>
    private static void FirstInstruction(string image)
    {
        List<double> times = [];
        for (int round = 0; round < 12; round++)
        {
            var device = new PortDevice();
            long start = Stopwatch.GetTimestamp();
            using Machine machine = Build(image, device);
            machine.PowerOn();
            device.First.Wait();
            times.Add((device.FirstTimestamp - start) * 1000.0 / Stopwatch.Frequency);
        }

        Print("first.cold", times[0]);
        Print("first.median", Median([.. times.Skip(1)]));
    }

    private static Machine Build(string image, PortDevice device)
    {
        var configuration = new VmConfiguration
        {
            Name = "bench",
            Id = Guid.NewGuid(),
            CreationTime = DateTimeOffset.UtcNow,
            Strategy = "Hardware",
            Memory = 16 << 20,
            ProcessorCount = 1,
            Boot = new BootConfiguration { Kind = BootKind.Flat, Kernel = image, LoadAddress = 0x7C00, EntryMode = FlatEntryMode.Real16 },
        };
        var parts = new ListedParts([new AnyKvm(new HardwarePlugin().Strategies.Single())], [new("bench/port", new PortFactory(device))]);
        return new MachineBuilder(configuration, parts) { PlatformDevices = [new JsonObject { ["name"] = "port", ["model"] = "bench/port" }] }.Build();
    }

    private static double Median(List<double> values)
    {
        values.Sort();
        return values[(values.Count - 1) / 2];
    }

    private static void Print(string name, double value) => Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{name}={value:0.###}"));

    /// <summary>Real mode is all that is needed, and every KVM has it.</summary>
    private sealed class AnyKvm(IStrategy strategy) : IStrategy
    {
        public StrategyInfo Info => strategy.Info;

        public IGuestInterface GuestInterface => strategy.GuestInterface;

        public HostSupport Probe() => new(true, "");

        public ICpuBackend CreateBackend(IReadOnlyDictionary<string, string> options, ILog log) => strategy.CreateBackend(options, log);

        public CpuidPolicy CreateCpuidPolicy(int vcpuCount, IReadOnlyDictionary<string, string> options) => strategy.CreateCpuidPolicy(vcpuCount, options);
    }

    private sealed class PortFactory(PortDevice device) : IDeviceFactory
    {
        public string Model => "port";

        public IDevice Create(JsonObject spec, DeviceContext context)
        {
            context.MapPorts(0x80, 1, device);
            return device;
        }
    }

    /// <summary>Counts what is written to it.</summary>
    private sealed class PortDevice : IDevice, IPortDevice
    {
        private long _writes;

        public ManualResetEventSlim First { get; } = new();

        public long FirstTimestamp { get; private set; }

        public long Writes => Volatile.Read(ref _writes);

        public uint ReadPort(int offset, int size) => 0;

        public void WritePort(int offset, int size, uint value)
        {
            if (_writes++ != 0)
                return;
            FirstTimestamp = Stopwatch.GetTimestamp();
            First.Set();
        }

        public void Reset(ResetKind kind)
        {
        }

        public void Quiesce()
        {
        }

        public DeviceState Save() => DeviceState.From("bench/port", 1, 0);

        public void Restore(DeviceState state)
        {
        }

        public void Resume()
        {
        }

        public void Dispose() => First.Dispose();
    }
}
