using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Time;

namespace VirtPS.Strategy.Para.Time;

/// <summary>A vCPU's timers, which raise VIRQ_TIMER: one single shot and one periodic.</summary>
internal sealed class VcpuTimers : IDisposable
{
    private const ulong ShortestPeriod = 1_000_000;

    private readonly XenVcpu _vcpu;
    private readonly Alarm _single, _periodic, _poll;
    private ulong _period;

    public VcpuTimers(XenVcpu vcpu)
    {
        _vcpu = vcpu;
        _single = vcpu.Domain.Clock.CreateAlarm($"xen-timer{vcpu.Index}", Fire);
        _periodic = vcpu.Domain.Clock.CreateAlarm($"xen-periodic{vcpu.Index}", FirePeriodic);
        _poll = vcpu.Domain.Clock.CreateAlarm($"xen-poll{vcpu.Index}", () => vcpu.Control.Request(VcpuRequests.Interrupt));
    }

    public void Reset()
    {
        _single.Deadline = null;
        _poll.Deadline = null;
        StopPeriodic();
    }

    /// <summary>Absolute VM time in nanoseconds. A time that has passed fires at once. On the vCPU's own thread.</summary>
    public void SetSingle(ulong deadline)
    {
        if (deadline <= _vcpu.Domain.Clock.Now)
        {
            _single.Deadline = null;
            _vcpu.Domain.Ports.RaiseVirq(_vcpu.Index, XenAbi.VirqTimer, _vcpu.Index);
        }
        else
        {
            _single.Deadline = deadline;
        }
    }

    /// <summary>Wakes the vCPU at a VM time, without an interrupt; null: not.</summary>
    public void SetPoll(ulong? deadline) => _poll.Deadline = deadline;

    public void StopSingle() => _single.Deadline = null;

    /// <summary>Nanoseconds; false when too short.</summary>
    public bool SetPeriodic(ulong period)
    {
        if (period < ShortestPeriod || period > long.MaxValue)
            return false;
        Volatile.Write(ref _period, period);
        _periodic.Deadline = _vcpu.Domain.Clock.Now + period;
        return true;
    }

    public void StopPeriodic()
    {
        Volatile.Write(ref _period, 0);
        _periodic.Deadline = null;
    }

    public void Dispose()
    {
        _single.Dispose();
        _periodic.Dispose();
        _poll.Dispose();
    }

    private void Fire() => _vcpu.Domain.Ports.RaiseVirq(_vcpu.Index, XenAbi.VirqTimer, -1);

    private void FirePeriodic()
    {
        ulong period = Volatile.Read(ref _period);
        if (period == 0)
            return;
        _periodic.Deadline = _vcpu.Domain.Clock.Now + period;
        _vcpu.Domain.Ports.RaiseVirq(_vcpu.Index, XenAbi.VirqTimer, -1);
    }
}
