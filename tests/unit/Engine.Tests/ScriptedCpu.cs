using System.Runtime.InteropServices;
using VirtPS.Sdk;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Interrupts;
using VirtPS.Sdk.Memory;
using VirtPS.Sdk.Plugins;
using VirtPS.Sdk.Rings;

namespace VirtPS.Engine.Tests;

/// <summary>A strategy whose "guest" is a piece of C# per vCPU.</summary>
internal sealed class ScriptedStrategy(Func<ScriptedVcpu, VcpuExit> script) : IStrategy
{
    public List<ScriptedVcpu> Vcpus { get; } = [];

    public bool Disposed { get; set; }

    public CpuidPolicy Cpuid { get; init; } = new([]);

    /// <summary>What its partitions bring themselves; null: nothing.</summary>
    public OwnParts? Own { get; init; }

    public Func<ScriptedVcpu, VcpuExit> Script { get; } = script;

    public StrategyInfo Info { get; } = new() { Name = "Scripted", Description = "", RingFidelity = RingFidelity.Exact, Preference = 0, RingModel = [] };

    public HostSupport Support { get; set; } = new(true, "");

    public HostSupport Probe() => Support;

    public IGuestInterface GuestInterface { get; } = new Guest();

    public ICpuBackend CreateBackend(IReadOnlyDictionary<string, string> options, ILog log) => new Backend(this);

    public CpuidPolicy CreateCpuidPolicy(int vcpuCount, IReadOnlyDictionary<string, string> options) => Cpuid;

    private sealed class Guest : IGuestInterface
    {
        public string Name => "Script";

        public bool IsPc => false;

        public unsafe bool Hypercall(IVcpu vcpu, VcpuState* state) => false;

        public unsafe int GuestRing(VcpuState* state) => state->Cpl;

        public string ClassicalRing(int guestRing) => $"Ring {guestRing}";
    }

    private sealed class Backend(ScriptedStrategy owner) : ICpuBackend
    {
        public string Tier => "Script";

        public BackendCapabilities Capabilities { get; } = new() { MaxVcpus = 8, RingFidelity = RingFidelity.Exact, Execution = ExecutionKind.Unknown, HostRing = 3 };

        public IPartition CreatePartition(PartitionOptions options) => new Partition(owner, options);

        public void Dispose() => owner.Disposed = true;
    }

    private sealed class Partition(ScriptedStrategy owner, PartitionOptions options) : IPartition
    {
        public PartitionOptions Options { get; } = options;

        public IPartitionInterruptController? InterruptController => owner.Own;

        public IPartitionDoorbells? Doorbells => owner.Own;

        public void Pause() => owner.Own?.Pause();

        public void Resume() => owner.Own?.Calls.Add("Resume");

        public byte[]? SaveState() => owner.Own is null ? null : [7];

        public void RestoreState(ReadOnlySpan<byte> state) => owner.Own!.Calls.Add($"RestoreState {state[0]}");

        public void MapMemory(MemorySlot slot)
        {
        }

        public void UnmapMemory(MemorySlot slot)
        {
        }

        public void RestartDirtyTracking(MemorySlot slot)
        {
        }

        public void CollectDirty(MemorySlot slot)
        {
        }

        public void InvalidateCode(MemorySlot slot, ulong offset, ulong length)
        {
        }

        public IVcpu CreateVcpu(int index, IVcpuHost host)
        {
            var vcpu = new ScriptedVcpu(index, host, owner.Script);
            owner.Vcpus.Add(vcpu);
            return vcpu;
        }

        public void Dispose()
        {
        }
    }
}

/// <summary>A vCPU that keeps the contract of <see cref="IVcpu"/> and executes a script.</summary>
internal sealed unsafe class ScriptedVcpu : IVcpu
{
    private readonly Func<ScriptedVcpu, VcpuExit> _script;
    private VcpuState* _state;

    public ScriptedVcpu(int index, IVcpuHost host, Func<ScriptedVcpu, VcpuExit> script)
    {
        (Index, Host, _script) = (index, host, script);
        _state = (VcpuState*)NativeMemory.AlignedAlloc((nuint)sizeof(VcpuState), 64);
        NativeMemory.Clear(_state, (nuint)sizeof(VcpuState));
        Counters = (RingCounters*)NativeMemory.AllocZeroed((nuint)sizeof(RingCounters));
        VcpuState.Reset(_state, init: false, bootstrap: index == 0);
    }

    public int Index { get; }

    public IVcpuHost Host { get; }

    public VcpuState* State => _state;

    public RingCounters* Counters { get; }

    public RingEventBuffer? Trace { get; set; }

    public List<byte> Injected { get; } = [];

    /// <summary>How often the script was entered: a request that was there before guest code does not count.</summary>
    public int Runs { get; private set; }

    /// <summary>What the script counts.</summary>
    public long Steps { get; set; }

    public uint Requests => Volatile.Read(ref _state->Requests);

    public bool InterruptsOn
    {
        get => (_state->Rflags & X86.Rflags.IF) != 0;
        set => _state->Rflags = value ? _state->Rflags | X86.Rflags.IF : _state->Rflags & ~X86.Rflags.IF;
    }

    public VcpuExit Run()
    {
        if (Boundary() is { } exit)
            return exit;
        Runs++;
        return _script(this);
    }

    /// <summary>What an instruction boundary gives: an exit that must be taken now, or null.</summary>
    public VcpuExit? Boundary()
    {
        uint requests = Requests;
        if ((requests & (uint)VcpuRequests.Exit) != 0)
        {
            Interlocked.And(ref _state->Requests, ~(uint)VcpuRequests.Exit);
            return VcpuExit.Kicked;
        }

        if ((requests & (uint)VcpuRequests.LocalApic) != 0)
            return VcpuExit.Kicked;
        return (requests & (uint)VcpuRequests.Interrupt) != 0 && InterruptsOn ? VcpuExit.InterruptWindow : null;
    }

    /// <summary>A guest that loops until something happens.</summary>
    public VcpuExit Spin()
    {
        while (true)
        {
            Steps++;
            if (Boundary() is { } exit)
                return exit;
            Thread.SpinWait(20);
        }
    }

    public VcpuExit Halt()
    {
        _state->MpState = MpState.Halted;
        return VcpuExit.Halt;
    }

    public void Out(ushort port, uint value, int size = 1) => Host.WritePort(port, size, (byte*)&value, 1);

    public uint In(ushort port, int size = 1)
    {
        uint value = 0;
        Host.ReadPort(port, size, (byte*)&value, 1);
        return value;
    }

    public void Kick()
    {
    }

    public void SynchronizeState()
    {
    }

    public void CommitState()
    {
    }

    public void InjectInterrupt(byte vector) => Injected.Add(vector);

    public VcpuExit SingleStep() => VcpuExit.SingleStep;

    public bool TryTranslate(ulong linear, out ulong gpa)
    {
        gpa = linear;
        return true;
    }

    public void Dispose()
    {
        NativeMemory.AlignedFree(_state);
        NativeMemory.Free(Counters);
        _state = null;
    }
}
