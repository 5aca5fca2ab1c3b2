using System.Text.Json.Nodes;
using VirtPS.Engine;
using VirtPS.Sdk.Backends;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Machine;
using VirtPS.Sdk.Rings;

namespace VirtPS.Worker.Machines;

/// <summary>The engine's machine as the worker drives it.</summary>
internal sealed class EngineMachine(Machine machine, IReadOnlyDictionary<string, IBlockBackend> disks) : IWorkerMachine
{
    private readonly Lazy<IReadOnlyList<JsonObject>> _platform = new(() => DescribePlatform(machine));

    public string Tier => machine.Tier;

    public VmState State => machine.State;

    public string StatusReason => machine.StatusReason;

    public int? ExitCode => machine.ExitCode;

    public int VcpuCount => machine.VcpuCount;

    public ulong MemoryAssigned => machine.Memory.TotalRam;

    public RingFidelity RingFidelity => machine.Capabilities.RingFidelity;

    public IReadOnlyList<string> HypercallNames { get; } =
        [.. Enumerable.Range(0, RingCounters.HypercallCount).Select(n => machine.Strategy.GuestInterface.HypercallName(n) ?? "").Reverse().SkipWhile(n => n.Length == 0).Reverse()];

    public Task<MachineEnd> Completion { get; } = CompleteAsync(machine);

    public IReadOnlyList<JsonObject> PlatformDevices => _platform.Value;

    public IReadOnlyDictionary<string, BlockCounters> Disks => disks.ToDictionary(d => d.Key, d => d.Value.Counters);

    public void PowerOn() => machine.PowerOn();

    public void Pause() => machine.Pause();

    public void Resume() => machine.Resume();

    public void Reset(string reason) => machine.Reset(reason);

    public void PowerOff(string reason) => machine.PowerOff(reason);

    public bool PressPowerButton() => machine.PressPowerButton();

    public IReadOnlyList<CapturedVcpu> CaptureRings() =>
        [.. machine.CaptureRings().Select(s => new CapturedVcpu(s.State, s.Code, s.LinearRip, s.CodeBitness))];

    public IReadOnlyList<RingMeasurement> MeasureRings() => machine.MeasureRings();

    public MachineRegisters CaptureRegisters(int vcpu) => machine.CaptureRegisters(vcpu);

    public ITraceSession StartTrace(bool includeSameRing) => new TraceSession(machine.StartTrace(new RingTraceOptions(IncludeSameRing: includeSameRing)));

    public RingSteps StepRings(int vcpu, int count, bool includeSameRing, TimeSpan limit) => machine.StepRings(vcpu, count, includeSameRing, limit);

    public bool TryReadPhysical(ulong address, Span<byte> destination) => machine.TryReadPhysical(address, destination);

    public int ReadLinear(int vcpu, ulong address, Span<byte> destination) => machine.TryReadLinear(vcpu, address, destination, out int read) ? read : 0;

    public void Dispose() => machine.Dispose();

    /// <summary>The layout's specs, of those devices that the machine really has.</summary>
    private static IReadOnlyList<JsonObject> DescribePlatform(Machine machine)
    {
        CpuidPolicy cpuid = machine.Strategy.CreateCpuidPolicy(machine.VcpuCount, machine.Configuration.StrategyOptions);
        IReadOnlyList<string> names = machine.DeviceNames;
        return [.. PlatformLayout.Pc(machine.VcpuCount, machine.Capabilities.HasInterruptController, cpuid).Where(d => names.Contains((string?)d["name"] ?? ""))];
    }

    private static async Task<MachineEnd> CompleteAsync(Machine machine)
    {
        MachineStateChange end = await machine.Completion.ConfigureAwait(false);
        return new MachineEnd(end.To, end.Reason, end.ExitCode);
    }

    private sealed class TraceSession(RingTraceSession session) : ITraceSession
    {
        public ulong Dropped => session.Dropped;

        public int Read(Span<RingEvent> destination) => session.Read(destination);

        public void Dispose() => session.Dispose();
    }
}
