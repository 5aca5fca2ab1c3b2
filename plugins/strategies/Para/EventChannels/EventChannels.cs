using VirtPS.Sdk.Cpu;

namespace VirtPS.Strategy.Para.EventChannels;

/// <summary>What a port is bound to (public/event_channel.h, EVTCHNSTAT_*).</summary>
internal enum PortState : byte
{
    Free = 0,
    Unbound = 1,
    Interdomain = 2,
    Virq = 4,
    Ipi = 5,
}

/// <summary>
/// The domain's event channels with the 2-level ABI: a bit per port in the shared page says "pending", one says "masked", and the notified vCPU's <c>vcpu_info</c> says where to look.
/// Bits are changed with atomic operations on any thread; the port table under a lock that is never held for long.
/// </summary>
internal sealed unsafe class EventChannelTable(XenDomain domain)
{
    private const int PendingOffset = 2048, MaskOffset = 2560;

    private struct Port
    {
        public PortState State;
        public byte Vcpu;
        public ushort RemoteDomain;
        public uint Virq;
        public BackendChannel? Backend;
    }

    private readonly Lock _gate = new();
    private readonly Port[] _ports = new Port[XenAbi.PortCount];
    private int _pollers;

    private ulong* Pending => (ulong*)(domain.SharedInfo + PendingOffset);

    private ulong* Mask => (ulong*)(domain.SharedInfo + MaskOffset);

    /// <summary>At start of day: all ports free, ends of backends closed.</summary>
    public void Reset()
    {
        lock (_gate)
        {
            foreach (ref Port p in _ports.AsSpan())
            {
                p.Backend?.Detach();
                p = default;
            }
        }
    }

    /// <summary>A port that is connected to the VMM from the start (store, console). <paramref name="notified"/> runs under the device lock, soon after the guest has sent.</summary>
    public BackendChannel CreateChannel(Action notified)
    {
        lock (_gate)
        {
            uint port = FreePort();
            if (port == 0)
                throw new InvalidOperationException("No event channel is free.");
            var channel = new BackendChannel(this, domain, port, notified);
            _ports[port] = new Port { State = PortState.Interdomain, RemoteDomain = XenAbi.BackendDomain, Backend = channel };
            return channel;
        }
    }

    /// <summary>Binds a backend to a port that the guest has left unbound for it (its store key <c>event-channel</c>); null when the port is not that.</summary>
    public BackendChannel? Bind(uint port, Action notified)
    {
        lock (_gate)
        {
            if (port == 0 || port >= XenAbi.PortCount)
                return null;
            ref Port p = ref _ports[port];
            if (p.State != PortState.Unbound || p.RemoteDomain != XenAbi.BackendDomain)
                return null;
            var channel = new BackendChannel(this, domain, port, notified);
            p.State = PortState.Interdomain;
            p.Backend = channel;
            return channel;
        }
    }

    /// <summary>The backend's end is closed: the guest's becomes unbound.</summary>
    internal void Unbind(BackendChannel channel)
    {
        lock (_gate)
        {
            ref Port p = ref _ports[channel.Port];
            if (p.Backend != channel)
                return;
            p.Backend = null;
            p.State = PortState.Unbound;
        }
    }

    /// <summary>EVTCHNOP_alloc_unbound; the port, or a negative error.</summary>
    public long AllocateUnbound(ushort remote)
    {
        lock (_gate)
        {
            uint port = FreePort();
            if (port == 0)
                return Errno.ENOSPC;
            _ports[port] = new Port { State = PortState.Unbound, RemoteDomain = remote };
            return port;
        }
    }

    public long BindVirq(uint virq, uint vcpu)
    {
        if (virq >= XenAbi.VirqCount)
            return Errno.EINVAL;
        if (vcpu >= domain.VcpuCount)
            return Errno.ENOENT;
        lock (_gate)
        {
            if (FindVirq(virq, vcpu) != 0)
                return Errno.EEXIST;
            uint port = FreePort();
            if (port == 0)
                return Errno.ENOSPC;
            _ports[port] = new Port { State = PortState.Virq, Vcpu = (byte)vcpu, Virq = virq };
            Volatile.Write(ref domain.Vcpus[vcpu].VirqPorts[virq], port);
            return port;
        }
    }

    public long BindIpi(uint vcpu)
    {
        if (vcpu >= domain.VcpuCount)
            return Errno.ENOENT;
        lock (_gate)
        {
            uint port = FreePort();
            if (port == 0)
                return Errno.ENOSPC;
            _ports[port] = new Port { State = PortState.Ipi, Vcpu = (byte)vcpu };
            return port;
        }
    }

    /// <summary>EVTCHNOP_bind_vcpu: VIRQs that belong to a vCPU, and IPIs, stay where they are.</summary>
    public long BindVcpu(uint port, uint vcpu)
    {
        if (vcpu >= domain.VcpuCount)
            return Errno.ENOENT;
        lock (_gate)
        {
            if (port == 0 || port >= XenAbi.PortCount || _ports[port].State is not (PortState.Unbound or PortState.Interdomain))
                return Errno.EINVAL;
            _ports[port].Vcpu = (byte)vcpu;
            return 0;
        }
    }

    public long Close(uint port)
    {
        lock (_gate)
        {
            if (port == 0 || port >= XenAbi.PortCount || _ports[port].State == PortState.Free)
                return Errno.EINVAL;
            ref Port p = ref _ports[port];
            if (p.State == PortState.Virq)
                Volatile.Write(ref domain.Vcpus[p.Vcpu].VirqPorts[p.Virq], 0);
            p.Backend?.Detach();
            p = default;
            Interlocked.And(ref Pending[port >> 6], ~(1ul << (int)(port & 63)));
            return 0;
        }
    }

    /// <summary>EVTCHNOP_send.</summary>
    public long Send(uint port, int sender)
    {
        if (port == 0 || port >= XenAbi.PortCount)
            return Errno.EINVAL;
        switch (_ports[port].State)
        {
            case PortState.Interdomain:
                _ports[port].Backend?.Signal();
                return 0;
            case PortState.Ipi:
                SetPending(port, sender);
                return 0;
            case PortState.Unbound:
                return 0;
            default:
                return Errno.EINVAL;
        }
    }

    /// <summary>EVTCHNOP_status; false for a number that is no port.</summary>
    public bool Status(uint port, out PortState state, out uint vcpu, out uint detail)
    {
        (state, vcpu, detail) = (PortState.Free, 0, 0);
        if (port >= XenAbi.PortCount)
            return false;
        lock (_gate)
        {
            Port p = _ports[port];
            (state, vcpu, detail) = (p.State, p.Vcpu, p.State == PortState.Virq ? p.Virq : p.RemoteDomain);
            return true;
        }
    }

    /// <summary>EVTCHNOP_unmask.</summary>
    public long Unmask(uint port, int caller)
    {
        if (port == 0 || port >= XenAbi.PortCount)
            return Errno.EINVAL;
        ulong bit = 1ul << (int)(port & 63);
        Interlocked.And(ref Mask[port >> 6], ~bit);
        if ((Volatile.Read(ref Pending[port >> 6]) & bit) != 0)
            Notify(port, caller);
        return 0;
    }

    /// <summary>Any thread: raises a port. <paramref name="caller"/>: the vCPU whose thread this is, which looks for itself; else -1.</summary>
    public void SetPending(uint port, int caller)
    {
        ulong bit = 1ul << (int)(port & 63);
        if ((Interlocked.Or(ref Pending[port >> 6], bit) & bit) != 0)
            return;
        if ((Volatile.Read(ref Mask[port >> 6]) & bit) == 0)
            Notify(port, caller);
        if (Volatile.Read(ref _pollers) != 0)
            WakePollers();
    }

    public bool IsPending(uint port) => (Volatile.Read(ref Pending[port >> 6]) >> (int)(port & 63) & 1) != 0;

    /// <summary>Raises a vCPU's virtual interrupt where the guest has bound it.</summary>
    public void RaiseVirq(int vcpu, uint virq, int caller)
    {
        uint port = Volatile.Read(ref domain.Vcpus[vcpu].VirqPorts[virq]);
        if (port != 0)
            SetPending(port, caller);
    }

    /// <summary>A vCPU sleeps until some port is pending, masked or not.</summary>
    public void BeginPoll() => Interlocked.Increment(ref _pollers);

    public void EndPoll() => Interlocked.Decrement(ref _pollers);

    private void WakePollers()
    {
        foreach (XenVcpu v in domain.Vcpus)
        {
            if (v.IsPolling)
                v.Control.Request(VcpuRequests.Interrupt);
        }
    }

    private void Notify(uint port, int caller)
    {
        XenVcpu v = domain.Vcpus[_ports[port].Vcpu];
        VcpuInfo* info = v.Info;
        ulong word = 1ul << (int)(port >> 6);
        if ((Interlocked.Or(ref info->PendingSelector, word) & word) != 0 && Volatile.Read(ref info->UpcallPending) != 0)
            return;
        Volatile.Write(ref info->UpcallPending, 1);
        if (v.Index != caller)
            v.Control.Request(VcpuRequests.Interrupt);
    }

    private uint FreePort()
    {
        for (uint i = 1; i < XenAbi.PortCount; i++)
        {
            if (_ports[i].State == PortState.Free)
                return i;
        }

        return 0;
    }

    private uint FindVirq(uint virq, uint vcpu)
    {
        for (uint i = 1; i < XenAbi.PortCount; i++)
        {
            if (_ports[i].State == PortState.Virq && _ports[i].Virq == virq && _ports[i].Vcpu == vcpu)
                return i;
        }

        return 0;
    }
}
