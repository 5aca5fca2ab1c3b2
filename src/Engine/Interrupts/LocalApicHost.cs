using VirtPS.Engine.Running;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Interrupts;
using VirtPS.X86;

namespace VirtPS.Engine.Interrupts;

/// <summary>What one vCPU's local APIC may do to its processor and to others.</summary>
internal sealed unsafe class LocalApicHost(VcpuRunner runner, Board board) : ILocalApicHost
{
    public int VcpuIndex => runner.Index;

    // LINT0 of the bootstrap processor alone: the others would only see an interrupt that they must leave to it.
    public IExternalInterruptSource? ExternalInterrupts => runner.Index == 0 ? board.ExternalInterrupts : null;

    public ulong GuestTsc => board.Clock.MachineTsc + runner.State->TscOffset;

    public void RequestProcess() => runner.Request(VcpuRequests.LocalApic);

    public void SetInterruptPending(bool pending) => runner.SetInterrupt(pending);

    public void RaiseNmi() => runner.Request(VcpuRequests.Nmi);

    public void Initialize()
    {
        runner.Vcpu.SynchronizeState();
        VcpuState.Reset(runner.State, init: true, bootstrap: runner.Index == 0);
        Interlocked.And(ref runner.State->Requests, ~(uint)VcpuRequests.Nmi);
        runner.Enlightenment?.Reset();
        runner.Vcpu.CommitState();
    }

    public void StartUp(byte vector)
    {
        VcpuState* state = runner.State;
        runner.Vcpu.SynchronizeState();
        if (state->MpState != MpState.WaitForSipi)
            return;
        // SDM Vol. 3A §8.4.3: CS:IP = VV00:0000.
        state->CS = new SegmentRegister((ushort)(vector << 8), (ulong)vector << 12, 0xFFFF, 0x9B);
        state->Rip = 0;
        state->MpState = MpState.Runnable;
        runner.Vcpu.CommitState();
    }

    public void SendIpi(DeliveryMode mode, byte vector, uint destination, bool logical, bool level, IpiShorthand shorthand) =>
        board.Apics.SendIpi(runner.Index, mode, vector, destination, logical, level, shorthand);

    public void BroadcastEoi(byte vector) => board.Apics.BroadcastEoi(vector);

    public ulong TscToNanoseconds(ulong guestTsc)
    {
        ulong now = board.Clock.MachineTsc, guestNow = now + runner.State->TscOffset;
        if (guestTsc <= guestNow)
            return board.Clock.Now;
        ulong target = now + (guestTsc - guestNow);
        return target < now ? ulong.MaxValue : board.Clock.Tsc.ToNanoseconds(target);
    }
}

/// <summary>The 8259 pair as vCPU 0 asks it: under the device lock.</summary>
internal sealed class LockedExternalInterrupts(IExternalInterruptSource source, DeviceLock gate) : IExternalInterruptSource
{
    public bool IsAsserted
    {
        get
        {
            using (gate.Hold())
                return source.IsAsserted;
        }
    }

    public byte Acknowledge()
    {
        using (gate.Hold())
            return source.Acknowledge();
    }
}

/// <summary>The 8259 pair's INTR wire: LINT0 of vCPU 0's local APIC, or its INTR pin where it has none.</summary>
internal sealed class InterruptOutput(Board board) : IInterruptOutput
{
    public void SetIntr(bool asserted)
    {
        VcpuRunner bootstrap = board.Vcpus[0];
        if (bootstrap.Host.LocalApic is null)
            bootstrap.SetInterrupt(asserted);
        else
            bootstrap.Request(VcpuRequests.LocalApic);
    }
}
