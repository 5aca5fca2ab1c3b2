using System.Collections.Immutable;
using VirtPS.Engine.Running;
using VirtPS.Sdk;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Machine;
using VirtPS.Sdk.Rings;
using VirtPS.X86;

namespace VirtPS.Engine;

public sealed unsafe partial class Machine
{
    private const int MaxInstructionLength = 15;

    private readonly Lock _traceGate = new();
    private RingTraceSession? _trace;

    /// <summary>Runs <paramref name="function"/> on a vCPU's thread between two instructions and gives back its result. A running guest stands still for that long.</summary>
    public T RunOnVcpu<T>(int vcpu, Func<IVcpu, T> function) => Runner(vcpu).Invoke(function);

    /// <summary>Where every vCPU stands: each is asked for itself, between two instructions, without a pause of the machine.</summary>
    public IReadOnlyList<VcpuSample> CaptureRings() => [.. _board.Vcpus.Select(r => r.Invoke(v => Sample(r, v)))];

    /// <summary>A copy of a vCPU's registers.</summary>
    public MachineRegisters CaptureRegisters(int vcpu) => Runner(vcpu).Invoke(Registers);

    /// <summary>Totals of every vCPU; no vCPU is interrupted, so counters of one snapshot may be some instructions apart.</summary>
    public IReadOnlyList<RingMeasurement> MeasureRings() => [.. _board.Vcpus.Select(Measure)];

    /// <summary>Starts recording ring transitions. One session at a time: <see cref="VirtException"/> <c>TraceInUse</c>.</summary>
    public RingTraceSession StartTrace(RingTraceOptions options)
    {
        lock (_traceGate)
        {
            if (_trace is not null)
                throw new VirtException("TraceInUse", $"VM '{Configuration.Name}' is being traced already.", "End the other trace first.", Configuration.Name);
            IEnumerable<int> vcpus = options.Vcpus ?? [.. Enumerable.Range(0, VcpuCount)];
            (int Vcpu, RingEventBuffer Buffer)[] buffers = [.. vcpus.Select(i => (Runner(i).Index, new RingEventBuffer(options.Capacity, options.IncludeSameRing)))];
            _trace = new RingTraceSession(this, buffers);
            foreach ((int i, RingEventBuffer buffer) in buffers)
                Runner(i).Invoke(v => v.Trace = buffer);
            return _trace;
        }
    }

    /// <summary>
    /// Executes so many instructions of one vCPU one at a time, while the others stand still, and gives every ring transition among them: exactly, also where a strategy does not report
    /// transitions. A halted vCPU waits for its interrupt. Ends early after <paramref name="limit"/>, or when the guest ends.
    /// </summary>
    public RingSteps StepRings(int vcpu, int count, bool includeSameRing, TimeSpan limit) => _control.Invoke(() =>
    {
        Require(VmState.Running);
        VcpuRunner runner = Runner(vcpu);
        int capacity = (int)System.Numerics.BitOperations.RoundUpToPowerOf2((uint)count + 1);
        using RingTraceSession trace = StartTrace(new RingTraceOptions(capacity, includeSameRing, [vcpu]));
        StopVcpus();
        runner.Step(count);
        bool paused = runner.WaitPaused(limit);
        if (!paused)
            StopVcpus();
        long left = runner.EndSteps();
        var events = new RingEvent[capacity];
        int read = trace.Read(events);
        // Paused with steps left: somebody else wants it to stand still, and says next what for.
        if (left == 0 || !paused)
        {
            foreach (VcpuRunner other in _board.Vcpus)
                other.Resume();
        }

        return new RingSteps(events[..read], count - left);
    });

    internal void EndTrace(RingTraceSession session, (int Vcpu, RingEventBuffer Buffer)[] buffers)
    {
        lock (_traceGate)
        {
            foreach ((int i, _) in buffers)
                Runner(i).Invoke<RingEventBuffer?>(v => v.Trace = null);
            if (_trace == session)
                _trace = null;
        }
    }

    /// <summary>Reads guest-physical memory; false where there is none.</summary>
    public bool TryReadPhysical(ulong gpa, Span<byte> destination) => Memory.TryRead(gpa, destination);

    /// <summary>
    /// Reads through a vCPU's page tables as a supervisor read would, without side effects, up to the first page that is not mapped. False when not even the first
    /// byte is; <paramref name="read"/> says how many there are.
    /// </summary>
    public bool TryReadLinear(int vcpu, ulong linear, Span<byte> destination, out int read)
    {
        int length = destination.Length;
        byte[] bytes = Runner(vcpu).Invoke(v => ReadLinear(v, linear, length));
        bytes.CopyTo(destination);
        read = bytes.Length;
        return read > 0 || length == 0;
    }

    private VcpuRunner Runner(int vcpu) => vcpu >= 0 && vcpu < VcpuCount
        ? _board.Vcpus[vcpu]
        : throw new VirtException("VcpuNotFound", $"VM '{Configuration.Name}' has no vCPU {vcpu}; it has 0 to {VcpuCount - 1}.", null, vcpu);

    private VcpuSample Sample(VcpuRunner runner, IVcpu vcpu)
    {
        vcpu.SynchronizeState();
        VcpuState* s = vcpu.State;
        int ring = Strategy.GuestInterface.GuestRing(s);
        ulong linear = LinearRip(s);
        var state = new RingState
        {
            VMName = Configuration.Name,
            VMId = Configuration.Id,
            Vcpu = vcpu.Index,
            Strategy = Strategy.Info.Name,
            GuestRing = ring,
            ClassicalRing = Strategy.GuestInterface.ClassicalRing(ring),
            Execution = Capabilities.Execution,
            HostRing = Capabilities.HostRing,
            Mode = s->Mode,
            Iopl = (int)((s->Rflags & Rflags.IoplMask) >> Rflags.IoplShift),
            Rip = s->Rip,
            Cr3 = s->Cr3,
            LastExit = runner.LastExit?.ToString(),
            Fidelity = Capabilities.RingFidelity,
            MpState = s->MpState,
            CapturedAt = DateTimeOffset.UtcNow,
        };
        return new VcpuSample(state, linear, Bitness(s), ReadLinear(vcpu, linear, MaxInstructionLength));
    }

    private byte[] ReadLinear(IVcpu vcpu, ulong linear, int length)
    {
        var bytes = new byte[length];
        int done = 0;
        while (done < length)
        {
            ulong at = linear + (ulong)done;
            int n = (int)Math.Min((ulong)(length - done), 4096 - (at & 4095));
            if (!vcpu.TryTranslate(at, out ulong gpa) || !Memory.TryRead(gpa, bytes.AsSpan(done, n)))
                break;
            done += n;
        }

        return done == length ? bytes : bytes[..done];
    }

    private static ulong LinearRip(VcpuState* s) => s->IsLongMode && s->CS.IsLong ? s->Rip : (uint)(s->CS.Base + s->Rip);

    private static int Bitness(VcpuState* s) => s->Mode switch
    {
        CpuMode.Long => 64,
        CpuMode.Protected32 => 32,
        CpuMode.Compatibility => s->CS.IsDefault32 ? 32 : 16,
        _ => 16,
    };

    private MachineRegisters Registers(IVcpu vcpu)
    {
        vcpu.SynchronizeState();
        VcpuSnapshot s = VcpuSnapshot.Take(vcpu.State);
        return new MachineRegisters
        {
            Vcpu = vcpu.Index,
            Gpr = s.Gpr,
            Rip = s.Rip,
            Rflags = s.Rflags,
            Cpl = s.Cpl,
            Mode = vcpu.State->Mode,
            MpState = s.MpState,
            Segments = s.Segments,
            Gdtr = s.Gdtr,
            Idtr = s.Idtr,
            Control = new Dictionary<string, ulong>(s.Registers) { ["CR8"] = TaskPriority(vcpu.Index) },
            Xsave = s.Xsave,
            Tsc = Clock.MachineTsc + vcpu.State->TscOffset,
            InstructionsRetired = s.InstructionsRetired,
            CapturedAt = DateTimeOffset.UtcNow,
        };
    }

    private ulong TaskPriority(int vcpu) =>
        _partition.InterruptController is { } controller ? (ulong)controller.GetTaskPriority(vcpu) >> 4 : Runner(vcpu).Host.ReadCr8();

    private RingMeasurement Measure(VcpuRunner runner)
    {
        RingCounters* c = runner.Vcpu.Counters;
        VcpuStatistics? statistics = runner.Vcpu.ReadStatistics();
        ulong[]? instructions = Capabilities.CountsInstructions ? new ReadOnlySpan<ulong>(c->Instructions, 4).ToArray() : null;
        ulong[]? nanoseconds = c->NanosecondsValid != 0 ? new ReadOnlySpan<ulong>(c->Nanoseconds, 4).ToArray() : null;
        ulong run = runner.RunNanoseconds;
        return new RingMeasurement
        {
            VMName = Configuration.Name,
            VMId = Configuration.Id,
            Vcpu = runner.Index,
            Fidelity = Capabilities.RingFidelity,
            Instructions = instructions,
            Time = nanoseconds is null ? null : [.. nanoseconds.Select(ToTime)],
            InstructionsPerSecond = instructions is null ? null : Rate(instructions.Aggregate(0ul, (a, b) => a + b), run),
            RingInstructionsPerSecond = instructions is null || nanoseconds is null ? null : [.. instructions.Zip(nanoseconds, Rate)],
            Engine = statistics?.Engine,
            RunTime = ToTime(run),
            HaltedTime = ToTime(runner.HaltedNanoseconds),
            Transitions = Named<RingCause>(c->Transitions),
            SameRingEvents = Named<RingCause>(c->SameRing),
            GuestTime = statistics?.GuestTime,
            KernelTime = statistics?.KernelTime,
            VmmTime = statistics?.VmmTime,
            Exits = statistics?.Exits ?? Named<VcpuExit>(c->Exits),
            Counters = Counters(c, statistics),
            Hypercalls = Hypercalls(c),
            CapturedAt = DateTimeOffset.UtcNow,
        };
    }

    private static Dictionary<string, ulong> Counters(RingCounters* c, VcpuStatistics? statistics)
    {
        var counters = new Dictionary<string, ulong>
        {
            ["PortReads"] = c->PortReads,
            ["PortWrites"] = c->PortWrites,
            ["MmioReads"] = c->MmioReads,
            ["MmioWrites"] = c->MmioWrites,
            ["MsrAccesses"] = c->MsrAccesses,
            ["PageFaults"] = c->PageFaults,
            ["TlbFlushes"] = c->TlbFlushes,
            ["CodeInvalidations"] = c->CodeInvalidations,
        };
        if (c->PrivilegedInstructions + c->PageTableWrites != 0)
        {
            counters["PrivilegedInstructions"] = c->PrivilegedInstructions;
            counters["PageTableWrites"] = c->PageTableWrites;
        }

        foreach ((string name, ulong value) in statistics?.Counters ?? ImmutableDictionary<string, ulong>.Empty)
            counters[name] = value;
        return counters;
    }

    private Dictionary<string, ulong> Hypercalls(RingCounters* c)
    {
        var result = new Dictionary<string, ulong>();
        for (int i = 0; i < RingCounters.HypercallCount; i++)
        {
            if (c->Hypercalls[i] != 0)
                result[Strategy.GuestInterface.HypercallName(i) ?? $"hypercall {i}"] = c->Hypercalls[i];
        }

        return result;
    }

    private static double? Rate(ulong count, ulong nanoseconds) => nanoseconds == 0 ? null : count * 1e9 / nanoseconds;

    private static TimeSpan ToTime(ulong nanoseconds) => TimeSpan.FromTicks((long)(nanoseconds / 100));

    private static Dictionary<string, ulong> Named<TEnum>(ulong* counts) where TEnum : struct, Enum
    {
        var result = new Dictionary<string, ulong>();
        foreach (TEnum value in Enum.GetValues<TEnum>())
        {
            int i = Convert.ToInt32(value, System.Globalization.CultureInfo.InvariantCulture);
            if (counts[i] != 0)
                result[value.ToString()] = counts[i];
        }

        return result;
    }
}
