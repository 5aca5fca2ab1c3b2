using VirtPS.Engine.Host;
using VirtPS.Engine.Running;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Interrupts;
using VirtPS.Sdk.Memory;
using VirtPS.X86;

namespace VirtPS.Engine.Enlightenments;

/// <summary>One vCPU's side of KVM's interface. On its thread or while it does not run, except <see cref="Kick"/>.</summary>
internal sealed unsafe class KvmVcpu
{
    private readonly KvmEnlightenment _machine;
    private readonly VcpuRunner _runner;
    private readonly PvClock _clock;
    private readonly StealTime _steal;
    private readonly PvEoi _eoi;
    private int _kicked;

    public KvmVcpu(KvmEnlightenment machine, VcpuRunner runner, Board board)
    {
        (_machine, _runner) = (machine, runner);
        _clock = new PvClock(board.Memory, board.Clock.Tsc.Frequency);
        _steal = new StealTime(board.Memory);
        _eoi = new PvEoi(board.Memory, runner.Host);
    }

    /// <summary>From now on its runner and host ask here.</summary>
    public void Attach() => _runner.Enlightenment = this;

    public ILocalApic? LocalApic => _runner.Host.LocalApic;

    /// <summary>On the vCPU's thread, when it begins: what the host tells of this thread.</summary>
    public void Begin(IHostPlatform platform) => _steal.Begin(platform.OpenRunDelay());

    public void End() => _steal.End();

    /// <summary>Before guest code is entered. <paramref name="now"/>: host nanoseconds.</summary>
    public void BeforeRun(ulong now)
    {
        _clock.Follow(_runner.State->TscOffset);
        _steal.Update(now);
        _eoi.Offer();
    }

    /// <summary>Guest code was left: what it did meanwhile with the end-of-interrupt word counts now.</summary>
    public void AfterRun() => _eoi.Settle();

    /// <summary>The guest is about to see or change its local APIC.</summary>
    public void BeforeApicAccess() => _eoi.Settle();

    /// <summary>An interrupt of the local APIC is being delivered.</summary>
    public void Delivered() => _eoi.Delivered();

    /// <summary>It halts: others need not wait for it.</summary>
    public void FallAsleep() => _steal.SetPreempted();

    /// <summary>It is about to run again: flushes what others left to it.</summary>
    public void WakeUp()
    {
        if (_steal.ClearPreempted() && _machine.Has(KvmFeatures.PvTlbFlush))
            Interlocked.Or(ref _runner.State->Requests, (uint)VcpuRequests.FlushTlb);
    }

    /// <summary>Any thread: ends its HLT, the present or the next one, even with interrupts off.</summary>
    public void Kick()
    {
        Volatile.Write(ref _kicked, 1);
        _runner.Request(VcpuRequests.Exit);
    }

    public bool TakeKick() => Volatile.Read(ref _kicked) != 0 && Interlocked.Exchange(ref _kicked, 0) != 0;

    public void Resumed()
    {
        _clock.SetStopped();
        _steal.Resumed();
    }

    /// <summary>RESET or INIT.</summary>
    public void Reset()
    {
        _clock.Set(0);
        _steal.Set(0);
        _eoi.Set(0);
        _kicked = 0;
    }

    /// <summary>True answered, false #GP(0); null: no register of this interface.</summary>
    public bool? ReadMsr(uint msr, out ulong value)
    {
        value = 0;
        switch (msr)
        {
            case KvmInterface.WallClock when _machine.Has(KvmFeatures.Clock):
                value = _machine.WallClock;
                return true;
            case KvmInterface.SystemTime when _machine.Has(KvmFeatures.Clock):
                value = _clock.Msr;
                return true;
            case KvmInterface.StealTime when _machine.Has(KvmFeatures.StealTime):
                value = _steal.Msr;
                return true;
            case KvmInterface.PvEoi when _machine.Has(KvmFeatures.PvEoi):
                value = _eoi.Msr;
                return true;
            default:
                return msr is >= KvmInterface.FirstMsr and <= KvmInterface.LastMsr ? false : null;
        }
    }

    /// <summary>True taken, false #GP(0) (not offered, reserved bits, no memory there); null: no register of this interface.</summary>
    public bool? WriteMsr(uint msr, ulong value)
    {
        switch (msr)
        {
            case KvmInterface.WallClock when _machine.Has(KvmFeatures.Clock):
                return _machine.WriteWallClock(value);
            case KvmInterface.SystemTime when _machine.Has(KvmFeatures.Clock):
                if (!IsPlace(value, alignment: 4, KvmInterface.SystemTimeSize))
                    return false;
                _clock.Set(value);
                _clock.Follow(_runner.State->TscOffset);
                return true;
            case KvmInterface.StealTime when _machine.Has(KvmFeatures.StealTime):
                if (!IsPlace(value, alignment: KvmInterface.StealTimeSize, KvmInterface.StealTimeSize))
                    return false;
                _steal.Set(value);
                return true;
            case KvmInterface.PvEoi when _machine.Has(KvmFeatures.PvEoi):
                if (!IsPlace(value, alignment: 4, KvmInterface.PvEoiSize))
                    return false;
                _eoi.Set(value);
                return true;
            default:
                return msr is >= KvmInterface.FirstMsr and <= KvmInterface.LastMsr ? false : null;
        }
    }

    /// <summary>VMCALL or VMMCALL: the number in RAX, arguments in RBX, RCX, RDX, RSI; outside 64-bit code their lower halves.</summary>
    public void Hypercall(VcpuState* state)
    {
        bool is64Bit = state->IsLongMode && state->CS.IsLong;
        ulong mask = is64Bit ? ulong.MaxValue : uint.MaxValue;
        ulong* gpr = state->Gpr;
        long result = state->Cpl != 0
            ? -KvmInterface.NotPermitted
            : KvmHypercalls.Call(_machine, gpr[(int)Gpr.Rax] & mask, gpr[(int)Gpr.Rbx] & mask, gpr[(int)Gpr.Rcx] & mask, gpr[(int)Gpr.Rdx] & mask, gpr[(int)Gpr.Rsi] & mask, is64Bit);
        gpr[(int)Gpr.Rax] = (ulong)result & mask;
    }

    public KvmVcpuState Save() => new(_clock.Msr, _steal.Msr, _eoi.Msr, Volatile.Read(ref _kicked) != 0);

    public void Restore(KvmVcpuState state)
    {
        _clock.Set(state.SystemTime);
        _steal.Set(state.StealTime);
        _eoi.Set(state.PvEoi);
        _kicked = state.Kicked ? 1 : 0;
    }

    /// <summary>Switched off, or an address in memory with nothing but the enable bit below its alignment.</summary>
    private bool IsPlace(ulong value, ulong alignment, int size)
    {
        if ((value & (alignment - 1) & ~KvmInterface.Enabled) != 0)
            return false;
        if ((value & KvmInterface.Enabled) == 0)
            return true;
        if (!_machine.Memory.TryLease(value & ~KvmInterface.Enabled, size, writable: true, out MemoryLease lease))
            return false;
        lease.Dispose();
        return true;
    }
}
