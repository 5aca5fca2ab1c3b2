using System.Diagnostics;
using VirtPS.Sdk.Cpu;
using VirtPS.X86;

namespace VirtPS.Strategy.Hardware;

/// <summary>
/// Ties the guest's TSC, which the processor counts, to the machine's, which stands still while the machine is paused. One per partition: all vCPUs have the same base, so
/// that their TSCs agree. Thread-safe.
/// </summary>
internal sealed class TscBase(ulong frequency)
{
    private readonly Lock _gate = new();
    private ulong _machine;
    private long _host;

    /// <summary>KVM's TSC offset with which the guest's TSC equals the machine's; valid with <see cref="Epoch"/> above 0.</summary>
    public ulong Offset { get; private set; }

    /// <summary>Counts changes of <see cref="Offset"/>.</summary>
    public int Epoch { get; private set; }

    /// <summary>
    /// Looks whether the machine's time has been stopped, set or restored since the base was taken: then it differs from what the host's clock, which it follows, makes of it. Only
    /// that difference moves the base, so that the processor's own drift against the host's clock never becomes a step, least of all one backwards. <paramref name="vcpu"/> is the
    /// calling thread's. Returns the epoch.
    /// </summary>
    public int Check(KvmTsc vcpu, IVcpuHost machine)
    {
        lock (_gate)
        {
            (ulong now, long host, ulong doubt) = Sample(machine);
            ulong expected = _machine + (ulong)((UInt128)(ulong)(host - _host) * frequency / (ulong)Stopwatch.Frequency);
            ulong tolerance = frequency / 1000 + doubt;
            if (Epoch != 0 && expected - now + tolerance <= 2 * tolerance)
                return Epoch;
            Offset = Epoch == 0 ? vcpu.OffsetFor(machine) : Offset + (now - expected);
            (_machine, _host) = (now, host);
            return ++Epoch;
        }
    }

    /// <summary>
    /// Both clocks at one moment, and by how many ticks they may be apart: of several tries the closest, since a thread may lose its processor in between. A difference that this explains
    /// is none.
    /// </summary>
    private (ulong Machine, long Host, ulong Doubt) Sample(IVcpuHost machine)
    {
        long limit = Stopwatch.Frequency / 20_000, closest = long.MaxValue;
        (ulong Machine, long Host) best = default;
        for (int attempt = 0; attempt < 10 && closest > limit; attempt++)
        {
            long before = Stopwatch.GetTimestamp();
            ulong now = machine.ReadMachineTsc();
            long host = Stopwatch.GetTimestamp();
            if (host - before < closest)
                (closest, best) = (host - before, (now, host));
        }

        return (best.Machine, best.Host, (ulong)((UInt128)(ulong)closest * frequency / (ulong)Stopwatch.Frequency));
    }
}

/// <summary>One vCPU's TSC. Called on its own thread.</summary>
internal sealed unsafe class KvmTsc
{
    private readonly int _fd;
    private readonly KvmMsrs _msrs;
    private readonly TscBase _base;
    private readonly IVcpuHost _machine;
    private readonly bool _hasOffset;
    private ulong _baseOffset;
    private int _epoch;

    public KvmTsc(int fd, KvmMsrs msrs, TscBase tscBase, IVcpuHost machine)
    {
        (_fd, _msrs, _base, _machine) = (fd, msrs, tscBase, machine);
        ulong unused;
        KvmDeviceAttr attr = OffsetAttribute(&unused);
        // Linux 5.16; before, the only way is to write the counter itself, which KVM synchronizes with the last write of any vCPU.
        _hasOffset = LinuxCalls.Ioctl(fd, Kvm.HasDeviceAttr, &attr) == 0;
    }

    /// <summary>Before guest code is entered: follows the machine's time when that was stopped or set.</summary>
    public void Follow()
    {
        if (!_hasOffset)
            return;
        int epoch = _base.Check(this, _machine);
        if (epoch == _epoch)
            return;
        ulong own = _epoch == 0 ? 0 : Offset - _baseOffset;
        (_epoch, _baseOffset) = (epoch, _base.Offset);
        Offset = _baseOffset + own;
    }

    /// <summary>Takes the guest's own offset (IA32_TSC writes) into the state.</summary>
    public void Read(VcpuState* state)
    {
        if (_hasOffset && _epoch != 0)
            state->TscOffset = Offset - _baseOffset;
    }

    public void Write(VcpuState* state)
    {
        if (_hasOffset)
        {
            Follow();
            Offset = _baseOffset + state->TscOffset;
        }
        else
        {
            _ = _msrs.TrySet(Msr.Tsc, _machine.ReadMachineTsc() + state->TscOffset);
        }
    }

    /// <summary>The offset that makes the guest's TSC the machine's; of several tries the one that took least time, so that a lost processor does not spoil it.</summary>
    internal ulong OffsetFor(IVcpuHost machine)
    {
        ulong offset = Offset, best = offset;
        long shortest = long.MaxValue;
        for (int attempt = 0; attempt < 5; attempt++)
        {
            long before = Stopwatch.GetTimestamp();
            ulong wanted = machine.ReadMachineTsc();
            if (!_msrs.TryGet(Msr.Tsc, out ulong now))
                return offset;
            long took = Stopwatch.GetTimestamp() - before;
            if (took < shortest)
                (shortest, best) = (took, offset + (wanted - now));
        }

        return best;
    }

    private ulong Offset
    {
        get
        {
            ulong value;
            KvmDeviceAttr attr = OffsetAttribute(&value);
            KvmDevice.Must(LinuxCalls.Ioctl(_fd, Kvm.GetDeviceAttr, &attr), "to tell the TSC offset");
            return value;
        }

        set
        {
            ulong argument = value;
            KvmDeviceAttr attr = OffsetAttribute(&argument);
            KvmDevice.Must(LinuxCalls.Ioctl(_fd, Kvm.SetDeviceAttr, &attr), "the TSC offset");
        }
    }

    private static KvmDeviceAttr OffsetAttribute(ulong* value) => new() { Group = Kvm.VcpuTscControl, Attr = Kvm.VcpuTscOffset, Addr = (ulong)value };
}
