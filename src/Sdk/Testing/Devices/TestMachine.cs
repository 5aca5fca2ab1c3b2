using VirtPS.Sdk.Devices;
using VirtPS.Sdk.Interrupts;
using VirtPS.Sdk.Memory;
using VirtPS.Sdk.Time;

namespace VirtPS.Sdk.Testing;

/// <summary>
/// The smallest machine that a device model can be tested in: buses, lines, a fake clock, and a trace of everything that a guest could see. Single-threaded.
/// The test plays the guest with <see cref="In"/>, <see cref="Out"/>, <see cref="ReadMmio"/> and <see cref="WriteMmio"/>.
/// </summary>
public sealed partial class TestMachine : DeviceContext
{
    private readonly List<Region> _ports = [];
    private readonly List<Region> _mmio = [];
    private readonly Dictionary<(Type, string), object> _provided = [];
    private readonly Dictionary<Type, object> _services = [];
    private readonly Dictionary<string, TestCharBackend> _chars = [];
    private readonly Dictionary<int, TestLine> _isa = [], _gsi = [];
    private readonly Queue<Action> _posted = new();

    public override string Name => DeviceName;

    /// <summary>What the device under test is called.</summary>
    public string DeviceName { get; init; } = "device0";

    public override ILog Log => NullLog.Instance;

    /// <summary>Time, at the test's command.</summary>
    public FakeClock Time { get; init; } = new();

    public override VirtualClock Clock => Time;

    /// <summary>Empty until the test adds slots.</summary>
    public override GuestMemory Memory { get; } = new();

    /// <summary>MSIs sent so far.</summary>
    public List<MsiMessage> SentMsis { get; } = [];

    public override IMsiTarget Msi => new MsiRecorder(this);

    /// <summary>Everything observable since the last <see cref="ClearTrace"/>: accesses with their results, line changes, MSIs, output, each with its VM time.</summary>
    public IReadOnlyList<string> Trace => _trace;

    private readonly List<string> _trace = [];

    public void ClearTrace() => _trace.Clear();

    /// <summary>Adds a line of the test's own to the trace.</summary>
    public void Record(string what) => _trace.Add($"{Time.Now}: {what}");

    /// <summary>Reads a port as the guest would; unclaimed ports read as all ones.</summary>
    public uint In(int port, int size = 1)
    {
        uint value = 0;
        for (int done = 0; done < size;)
        {
            (Region? region, int step) = FindPort(port + done, size - done);
            uint part = region is null ? uint.MaxValue : ((IPortDevice)region.Device).ReadPort((int)((ulong)(port + done) - region.Start), step);
            value |= (step == 4 ? part : part & ((1u << (step * 8)) - 1)) << (done * 8);
            done += step;
        }

        Record($"in {port:X}/{size} = {value:X}");
        return value;
    }

    /// <summary>Writes a port as the guest would.</summary>
    public void Out(int port, uint value, int size = 1)
    {
        Record($"out {port:X}/{size} {value:X}");
        for (int done = 0; done < size;)
        {
            (Region? region, int step) = FindPort(port + done, size - done);
            uint part = value >> (done * 8);
            (region?.Device as IPortDevice)?.WritePort((int)((ulong)(port + done) - region!.Start), step, step == 4 ? part : part & ((1u << (step * 8)) - 1));
            done += step;
        }
    }

    public ulong ReadMmio(ulong gpa, int size)
    {
        Region? region = _mmio.Find(r => r.Contains(gpa));
        ulong value = region is null ? ulong.MaxValue : ((IMmioDevice)region.Device).ReadMmio(gpa - region.Start, size);
        if (size < 8)
            value &= (1ul << (size * 8)) - 1;
        Record($"read {gpa:X}/{size} = {value:X}");
        return value;
    }

    public void WriteMmio(ulong gpa, int size, ulong value)
    {
        Record($"write {gpa:X}/{size} {value:X}");
        Region? region = _mmio.Find(r => r.Contains(gpa));
        (region?.Device as IMmioDevice)?.WriteMmio(gpa - region!.Start, size, value);
    }

    /// <summary>Lets VM time pass.</summary>
    public void Advance(ulong nanoseconds) => Time.Advance(nanoseconds);

    /// <summary>The ISA interrupt as its controller sees it.</summary>
    public TestLine Isa(int irq) => Line(_isa, irq, "isa");

    public TestLine Gsi(int gsi) => Line(_gsi, gsi, "gsi");

    /// <summary>Names of all lines that are high, in order.</summary>
    public IReadOnlyList<string> Levels() => [.. _isa.Values.Concat(_gsi.Values).Where(l => l.Level).Select(l => l.Wire.Name).Order(StringComparer.Ordinal)];

    /// <summary>The byte stream of that name.</summary>
    public TestCharBackend Char(string name)
    {
        if (!_chars.TryGetValue(name, out TestCharBackend? backend))
            _chars[name] = backend = new TestCharBackend { Record = Record };
        return backend;
    }

    /// <summary>Gives the device a service of the machine.</summary>
    public void Offer<T>(T service) where T : class => _services[typeof(T)] = service;

    /// <summary>What the device provided; throws <see cref="KeyNotFoundException"/> when it did not.</summary>
    public T Provided<T>(string key = "") where T : class => (T)_provided[(typeof(T), key)];

    /// <summary>Runs what was posted, and what that posts in turn.</summary>
    public void RunPosted()
    {
        while (_posted.TryDequeue(out Action? work))
            work();
    }

    private (Region? Region, int Step) FindPort(int port, int left)
    {
        Region? region = _ports.Find(r => r.Contains((ulong)port));
        int step = left;
        while (step > 1 && (region is null || step > region.MaxAccess || step == 3 || !region.Contains((ulong)(port + step - 1))))
            step--;
        return (region, step);
    }

    private TestLine Line(Dictionary<int, TestLine> lines, int number, string kind)
    {
        if (!lines.TryGetValue(number, out TestLine? line))
            lines[number] = line = new TestLine($"{kind}{number}", Record);
        return line;
    }
}
