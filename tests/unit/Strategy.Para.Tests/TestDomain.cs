using System.Text;
using VirtPS.Engine;
using VirtPS.Sdk;
using VirtPS.Sdk.Backends;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Machine;
using VirtPS.Sdk.Plugins;
using VirtPS.Strategy.Para.Mmu;
using VirtPS.X86;

namespace VirtPS.Strategy.Para.Tests;

/// <summary>A domain whose kernel is the test: its hypercalls are made on the vCPU's thread as the processor would make them, or it runs code of the test's.</summary>
internal sealed unsafe class TestDomain : IDisposable
{
    /// <summary>Frames of free RAM that the kernel has mapped writable: its own to play with.</summary>
    public const ulong Free = 0x380;

    private readonly CapturingStrategy _strategy = new();
    private readonly TextConsole _console = new();

    public TestDomain(byte[]? code = null, int processors = 1, bool run = false, ulong memory = 16, Action<Dictionary<uint, byte[]?>>? notes = null, string tier = "interpreter", string commandLine = "")
    {
        byte[] image = PvImage.Build(code ?? [0xEB, 0xFE], notes);
        var configuration = new VmConfiguration
        {
            Name = "guest",
            Id = Guid.NewGuid(),
            CreationTime = DateTimeOffset.UtcNow,
            Strategy = "Para",
            StrategyOptions = new Dictionary<string, string> { ["tier"] = tier },
            Memory = memory << 20,
            ProcessorCount = processors,
            Boot = new BootConfiguration { CommandLine = commandLine },
            OnReset = GuestResetAction.Stop,
        };
        var builder = new MachineBuilder(configuration, new ListedParts([_strategy], [])) { Log = Log, Starter = new GuestBootStarter(embeddedXenGuest: () => image) };
        builder.Backends.Char[BackendRegistry.Console] = _console;
        Machine = builder.Build();
        Machine.PowerOn(startPaused: !run);
    }

    public Machine Machine { get; }

    public TextLog Log { get; } = new();

    public XenDomain Domain => _strategy.Domain!;

    public XenVcpu Vcpu => Domain.Vcpus[0];

    public FrameTable Frames => Domain.Frames;

    public string Output => _console.Output;

    public ulong Root => Vcpu.KernelRoot;

    /// <summary>Linear address at which the first page tables map a frame.</summary>
    public static ulong Linear(ulong frame) => PvImage.VirtualBase + (frame << 12);

    /// <summary>One hypercall of the kernel on vCPU 0.</summary>
    public long Call(int number, params ulong[] arguments) => CallOn(0, number, arguments);

    public long CallOn(int vcpu, int number, params ulong[] arguments) => Machine.RunOnVcpu(vcpu, v =>
    {
        v.State->GuestKernel = 1;
        return Issue(Domain.Vcpus[vcpu], v.State, number, arguments);
    });

    private static long Issue(XenVcpu vcpu, VcpuState* s, int number, ulong[] arguments)
    {
        ReadOnlySpan<Gpr> order = [Gpr.Rdi, Gpr.Rsi, Gpr.Rdx, Gpr.R10, Gpr.R8];
        s->Gpr[(int)Gpr.Rax] = (ulong)number;
        for (int i = 0; i < order.Length; i++)
            s->Gpr[(int)order[i]] = i < arguments.Length ? arguments[i] : 0;
        ulong next = s->Rip + 2;
        for (int i = 0; i < 10_000; i++)
        {
            s->Rip = next;
            vcpu.SystemCall(s);
            // A call that is to be continued stands at its instruction again.
            if (s->Rip != next - 2)
                break;
        }

        long result = (long)s->Gpr[(int)Gpr.Rax];
        // Not committed: that would drop translations, which hypercalls have to do themselves.
        s->Rip = next - 2;
        return result;
    }

    /// <summary>mmu_update with one request.</summary>
    public long Update(ulong machine, ulong value)
    {
        Poke(Scratch, machine);
        Poke(Scratch + 8, value);
        return Call(Hypercall.MmuUpdate, ScratchLinear, 1, 0, XenAbi.Self);
    }

    /// <summary>mmuext_op with one operation.</summary>
    public long Extended(uint command, ulong first, ulong second = 0)
    {
        Poke(Scratch, command);
        Poke(Scratch + 8, first);
        Poke(Scratch + 16, second);
        return Call(Hypercall.MmuExtOp, ScratchLinear, 1, 0, XenAbi.Self);
    }

    /// <summary>Maps a frame again at its address of the first page tables, with these bits.</summary>
    public long Remap(ulong frame, ulong bits) => Call(Hypercall.UpdateVaMapping, Linear(frame), (frame << 12) | bits, 2);

    /// <summary>Physical address of a page for arguments.</summary>
    public static ulong Scratch => (Free - 1) << 12;

    public static ulong ScratchLinear => Linear(Free - 1);

    public void Poke(ulong physical, ulong value) => Assert.True(Domain.Memory.TryWrite(physical, value));

    public ulong Peek(ulong physical)
    {
        Assert.True(Domain.Memory.TryRead(physical, out ulong value));
        return value;
    }

    /// <summary>The L1 entry that maps a frame at its first address: machine address of the entry.</summary>
    public ulong EntryOf(ulong linear)
    {
        ulong table = Root;
        for (int shift = 39; shift > 12; shift -= 9)
            table = (Peek((table << 12) + (linear >> shift & 511) * 8) & PageBits.AddressMask) >> 12;
        return (table << 12) + (linear >> 12 & 511) * 8;
    }

    public FrameType TypeOf(ulong frame) => Frames.Find(frame)->Type;

    public uint UsesOf(ulong frame) => Frames.Find(frame)->TypeCount;

    /// <summary>Every use of every frame is what it should be.</summary>
    public void AssertSound() => Assert.Empty(PageTypeChecker.Check(Domain));

    public static bool WaitFor(Func<bool> condition, int seconds = 5)
    {
        DateTime end = DateTime.UtcNow.AddSeconds(seconds);
        while (!condition())
        {
            if (DateTime.UtcNow > end)
                return false;
            Thread.Sleep(1);
        }

        return true;
    }

    public override string ToString() => $"{Machine.State}: {Machine.StatusReason}\n{Log}\n{Output}";

    public void Dispose() => Machine.Dispose();

    /// <summary>The strategy, with its domain within reach.</summary>
    private sealed class CapturingStrategy : IStrategy, IGuestInterface
    {
        private readonly ParaStrategy _inner = new();

        public XenDomain? Domain { get; private set; }

        public StrategyInfo Info => _inner.Info;

        public IGuestInterface GuestInterface => this;

        public string Name => _inner.GuestInterface.Name;

        public bool IsPc => false;

        public HostSupport Probe() => _inner.Probe();

        public ICpuBackend CreateBackend(IReadOnlyDictionary<string, string> options, ILog log) => _inner.CreateBackend(options, log);

        public CpuidPolicy CreateCpuidPolicy(int vcpuCount, IReadOnlyDictionary<string, string> options) => _inner.CreateCpuidPolicy(vcpuCount, options);

        public IGuestPlatform CreatePlatform(GuestPlatformContext context) => Domain = new XenDomain(context);

        public bool Hypercall(IVcpu vcpu, VcpuState* state) => false;

        public string? HypercallName(int number) => _inner.GuestInterface.HypercallName(number);

        public int GuestRing(VcpuState* state) => _inner.GuestInterface.GuestRing(state);

        public string ClassicalRing(int guestRing) => _inner.GuestInterface.ClassicalRing(guestRing);
    }

    private sealed class TextConsole : ICharBackend
    {
        private readonly StringBuilder _output = new();

        public string Output
        {
            get
            {
                lock (_output)
                    return _output.ToString();
            }
        }

        public Action? InputAvailable { get; set; }

        public int Write(ReadOnlySpan<byte> data)
        {
            lock (_output)
                _output.Append(Encoding.Latin1.GetString(data));
            return data.Length;
        }

        public int Read(Span<byte> buffer) => 0;

        public void Dispose()
        {
            // Nothing is held.
        }
    }
}

/// <summary>Keeps what is logged.</summary>
internal sealed class TextLog : ILog
{
    private readonly StringBuilder _text = new();

    public bool IsEnabled(LogLevel level) => true;

    public void Write(LogLevel level, string message)
    {
        lock (_text)
            _text.AppendLine($"{level}: {message}");
    }

    public override string ToString()
    {
        lock (_text)
            return _text.ToString();
    }
}
