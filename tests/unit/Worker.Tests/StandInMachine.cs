using System.Diagnostics;
using System.Globalization;
using System.Text;
using System.Text.Json.Nodes;
using VirtPS.Client.Protocol;
using VirtPS.Engine;
using VirtPS.Sdk;
using VirtPS.Sdk.Backends;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Machine;
using VirtPS.Sdk.Rings;
using VirtPS.Worker.Machines;
using VirtPS.X86;

namespace VirtPS.Worker.Tests;

/// <summary>A machine without a guest, whose behaviour the VM's command line says: <c>refuse</c>, <c>exit=7</c>, <c>die</c>, <c>flood=bytes</c>, <c>echo</c>, <c>deaf</c>, <c>events</c>, <c>say=text</c>, <c>spots</c>.</summary>
internal sealed class StandInMachineFactory : IWorkerMachineFactory
{
    public void Prepare(WorkerOptions options)
    {
    }

    public IWorkerMachine Create(VmConfiguration configuration, ICharBackend console, ILog log, WorkerOptions options) => new StandInMachine(configuration, console);

    public IReadOnlyList<ProbedStrategy> Probe(ILog log, WorkerOptions options) => [new("Full", true, "It is a stand-in.", null, null)];
}

internal sealed class StandInMachine(VmConfiguration configuration, ICharBackend console) : IWorkerMachine
{
    private readonly TaskCompletionSource<MachineEnd> _completion = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly Dictionary<string, string> _behaviour = configuration.Boot.CommandLine.Split(' ', StringSplitOptions.RemoveEmptyEntries)
        .ToDictionary(w => w.Split('=')[0], w => w.Contains('=', StringComparison.Ordinal) ? w[(w.IndexOf('=', StringComparison.Ordinal) + 1)..] : "");

    public string Tier => "StandIn";

    public VmState State { get; private set; }

    public string StatusReason { get; private set; } = "";

    public int? ExitCode { get; private set; }

    public int VcpuCount => configuration.ProcessorCount;

    public ulong MemoryAssigned => configuration.Memory;

    public RingFidelity RingFidelity => RingFidelity.Exact;

    public Task<MachineEnd> Completion => _completion.Task;

    public IReadOnlyList<JsonObject> PlatformDevices => [new JsonObject { ["model"] = "standin/serial", ["name"] = "com1" }];

    public void PowerOn()
    {
        if (_behaviour.ContainsKey("refuse"))
            throw new VirtException("ImageInvalid", "The stand-in's image is bad at offset 3.", "Take another.", "image");
        State = VmState.Running;
        console.InputAvailable = Echo;
        if (_behaviour.TryGetValue("say", out string? text))
            Say(text.Replace('_', ' ') + "\r\n");
        if (_behaviour.TryGetValue("flood", out string? bytes))
            new Thread(() => Flood(long.Parse(bytes, CultureInfo.InvariantCulture))) { IsBackground = true }.Start();
        if (_behaviour.TryGetValue("exit", out string? code))
            Task.Delay(100).ContinueWith(_ => End(VmState.Off, "The guest switched itself off.", int.Parse(code, CultureInfo.InvariantCulture)), TaskScheduler.Default);
        if (_behaviour.ContainsKey("die"))
            new Thread(() => { Thread.Sleep(200); throw new InvalidOperationException("A defect."); }).Start();
    }

    public void Pause() => Change(VmState.Running, VmState.Paused);

    public void Resume() => Change(VmState.Paused, VmState.Running);

    public void Reset(string reason) => Say("reset\r\n");

    public void PowerOff(string reason) => End(VmState.Off, reason, null);

    public bool PressPowerButton()
    {
        if (!_behaviour.ContainsKey("deaf"))
            End(VmState.Off, "The guest obeyed its power button.", null);
        return true;
    }

    public IReadOnlyList<CapturedVcpu> CaptureRings() => _behaviour.ContainsKey("spots") ? [Spot(_captures++ % 10)] : InRing3();

    private int _captures;

    /// <summary>Of ten times the processor is six times in the kernel, twice in a program and twice halted.</summary>
    private CapturedVcpu Spot(int turn)
    {
        CapturedVcpu v = InRing3()[0];
        RingState state = turn < 6 ? v.State with { GuestRing = 0, Cr3 = 0x5000, Rip = 0x2000 } : v.State with { Cr3 = 0x6000, MpState = turn < 8 ? MpState.Runnable : MpState.Halted };
        return v with { State = state, LinearRip = turn < 6 ? 0x2000u : 0x1000u };
    }

    private IReadOnlyList<CapturedVcpu> InRing3() => [.. Enumerable.Range(0, VcpuCount).Select(i => new CapturedVcpu(
        new RingState
        {
            VMName = configuration.Name, VMId = configuration.Id, Vcpu = i, Strategy = "Full", GuestRing = 3, ClassicalRing = "3", Execution = ExecutionKind.Interpreted, HostRing = 3,
            Mode = CpuMode.Long, Iopl = 0, Rip = 0x1000, Cr3 = null, Fidelity = RingFidelity.Exact, MpState = MpState.Runnable, CapturedAt = DateTimeOffset.Now,
        },
        new byte[] { 0x0F, 0x05 }, 0x1000, 64))];

    public IReadOnlyList<RingMeasurement> MeasureRings() => [new RingMeasurement
    {
        VMName = configuration.Name, VMId = configuration.Id, Vcpu = 0, Fidelity = RingFidelity.Exact, Instructions = [1, 0, 0, _behaviour.ContainsKey("ring3") ? 1ul : 0], Time = null,
        RunTime = TimeSpan.Zero, HaltedTime = TimeSpan.Zero, Transitions = new Dictionary<string, ulong> { ["Syscall"] = 5 }, SameRingEvents = new Dictionary<string, ulong>(),
        Exits = new Dictionary<string, ulong>(), Counters = new Dictionary<string, ulong>(), CapturedAt = DateTimeOffset.Now,
    }];

    public MachineRegisters CaptureRegisters(int vcpu) => Registers(vcpu, Xcr0.X87 | Xcr0.Sse | Xcr0.Avx | Xcr0.Avx512);

    /// <summary>The save area's bytes tell their place, by 16.</summary>
    internal static MachineRegisters Registers(int vcpu, ulong xcr0) => new()
    {
        Vcpu = vcpu, Gpr = [.. Enumerable.Range(0, 16).Select(i => (ulong)i)], Rip = 0x1000, Rflags = Rflags.IF | Rflags.Fixed1, Cpl = 3, Mode = CpuMode.Long, MpState = MpState.Runnable,
        Segments = [.. Enumerable.Repeat(SegmentRegister.Real(0), 8)], Gdtr = default, Idtr = default, Control = new Dictionary<string, ulong> { ["CR0"] = Cr0.PE, ["EFER"] = Efer.LMA, ["XCR0"] = xcr0 },
        Xsave = [.. Enumerable.Range(0, VcpuState.XsaveSize).Select(i => (byte)(i / 16))], Tsc = 1, InstructionsRetired = 1, CapturedAt = DateTimeOffset.Now,
    };

    public ITraceSession StartTrace(bool includeSameRing) => new EventSource(_behaviour.TryGetValue("events", out string? rate) ? long.Parse(rate, CultureInfo.InvariantCulture) : 0);

    public RingSteps StepRings(int vcpu, int count, bool includeSameRing, TimeSpan limit) => new([], count);

    public bool TryReadPhysical(ulong address, Span<byte> destination)
    {
        if (address + (ulong)destination.Length > MemoryAssigned)
            return false;
        for (int i = 0; i < destination.Length; i++)
            destination[i] = (byte)(address + (ulong)i);
        return true;
    }

    public int ReadLinear(int vcpu, ulong address, Span<byte> destination)
    {
        destination.Fill(0x90);
        return destination.Length;
    }

    public void Dispose() => End(VmState.Off, "Disposed.", null);

    private void Echo()
    {
        Span<byte> buffer = stackalloc byte[64];
        for (int n; (n = console.Read(buffer)) > 0;)
            console.Write(buffer[..n]);
    }

    private void Say(string text) => console.Write(Encoding.UTF8.GetBytes(text));

    private void Flood(long bytes)
    {
        byte[] line = Encoding.ASCII.GetBytes("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde\n");
        for (long sent = 0; sent < bytes; sent += line.Length)
        {
            // A guest is told nothing of a full buffer; this one is patient, so that the test knows what must be kept.
            for (int done = 0; done < line.Length;)
            {
                int n = console.Write(line.AsSpan(done));
                done += n;
                if (n == 0)
                    Thread.Sleep(1);
            }
        }

        Say("FLOOD-END\n");
    }

    private void Change(VmState from, VmState to)
    {
        if (State != from)
            throw new VirtException("InvalidVMState", $"VM '{configuration.Name}' is {State}.");
        State = to;
    }

    private void End(VmState state, string reason, int? exitCode)
    {
        if (_completion.Task.IsCompleted)
            return;
        (State, StatusReason, ExitCode) = (state, reason, exitCode);
        _completion.TrySetResult(new MachineEnd(state, reason, exitCode));
    }

    /// <summary>Ring events at a given rate, numbered in Detail.</summary>
    private sealed class EventSource(long perSecond) : ITraceSession
    {
        private readonly long _began = Stopwatch.GetTimestamp();
        private ulong _given;

        public ulong Dropped => 0;

        public int Read(Span<RingEvent> destination)
        {
            ulong due = (ulong)(Stopwatch.GetElapsedTime(_began).TotalSeconds * perSecond);
            int n = 0;
            for (; n < destination.Length && _given < due; n++)
                destination[n] = new RingEvent { Detail = _given++, FromRing = 3, ToRing = 0, Cause = RingCause.Syscall, FromMode = CpuMode.Long, ToMode = CpuMode.Long };
            return n;
        }

        public void Dispose()
        {
        }
    }
}
