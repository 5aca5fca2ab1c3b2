using System.Runtime.CompilerServices;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Plugins;
using VirtPS.Strategy.Para.Time;
using VirtPS.X86;

namespace VirtPS.Strategy.Para;

/// <summary>What the VMM keeps for one virtual processor of the domain, and what the processor's traps into the VMM do. Its own thread changes it, except where said.</summary>
internal sealed unsafe partial class XenVcpu : IGuestSupervisor, IDisposable
{
    private nint _info;
    private bool _polling;

    public XenVcpu(XenDomain domain, IVcpuControl control)
    {
        (Domain, Control) = (domain, control);
        Cpu = control.Vcpu as IDeprivilegedVcpu
            ?? throw new Sdk.VirtException("StrategyUnavailable", "The CPU backend cannot run a guest kernel in ring 3, as Xen PV needs it.", "Use -Strategy Full.");
        Cpu.Supervisor = this;
        Timers = new VcpuTimers(this);
    }

    public XenDomain Domain { get; }

    public IVcpuControl Control { get; }

    public IDeprivilegedVcpu Cpu { get; }

    public int Index => Cpu.Index;

    public VcpuTimers Timers { get; }

    /// <summary>Port by virtual interrupt; 0 where none is bound. Changed under the port table's lock.</summary>
    public uint[] VirqPorts { get; } = new uint[XenAbi.VirqCount];

    /// <summary>Host address of its vcpu_info: in the shared page, later where the guest wants it. Any thread reads it.</summary>
    public VcpuInfo* Info
    {
        get => (VcpuInfo*)Volatile.Read(ref _info);
        set => Volatile.Write(ref _info, (nint)value);
    }

    /// <summary>It sleeps in SCHEDOP_poll. Any thread reads it.</summary>
    public bool IsPolling
    {
        get => Volatile.Read(ref _polling);
        set => Volatile.Write(ref _polling, value);
    }

    /// <summary>Frames of the two top-level tables; the user's is 0 where there is none.</summary>
    public ulong KernelRoot { get; set; }

    public ulong UserRoot { get; set; }

    /// <summary>An interrupt of the guest's, or an NMI, can be taken now.</summary>
    private bool EventIsDue
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => (Volatile.Read(ref Info->UpcallPending) != 0 && Info->UpcallMask == 0) || NmiIsDue;
    }

    private bool NmiIsDue
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => Volatile.Read(ref _nmiPending) && !_inNmi;
    }

    /// <summary>At start of day, all vCPUs stopped.</summary>
    public void Reset()
    {
        Array.Clear(VirqPorts);
        Timers.Reset();
        IsPolling = false;
        Info = (VcpuInfo*)Domain.SharedInfo + Index;
        KernelRoot = UserRoot = 0;
        ResetTraps();
        ResetRunState();
        ResetDescriptorTables();
        ResetStart();
        _debug.AsSpan().Clear();
        _oldTable = 0;
        _codeDroppedAt = ulong.MaxValue;
    }

    /// <summary>The bootstrap processor's root is set; its clock record is made.</summary>
    public void Begin(ulong root)
    {
        KernelRoot = root;
        _isUp = true;
        WriteTime();
    }

    public void Dispose() => Timers.Dispose();

    /// <summary>Kernel and user change places: roots and the two GS bases, as SWAPGS would.</summary>
    private void SwitchTo(VcpuState* s, bool kernel)
    {
        s->GuestKernel = kernel ? (byte)1 : (byte)0;
        _programRan |= !kernel;
        s->Cr3 = (kernel ? KernelRoot : UserRoot) << 12;
        (s->GS.Base, s->KernelGsBase) = (s->KernelGsBase, s->GS.Base);
    }

    private void WriteTime() => GuestClock.Write(Domain, &Info->Time, Domain.Clock.Now, Domain.Clock.Now);

    /// <summary>Copies from the guest kernel's memory; false where something is not mapped.</summary>
    private bool CopyFrom(ulong linear, void* destination, int size)
    {
        byte* to = (byte*)destination;
        while (size > 0)
        {
            int n = (int)Math.Min((ulong)size, 4096 - (linear & 4095));
            byte* from = Cpu.GuestPointer(linear, n, write: false);
            if (from == null)
                return false;
            Unsafe.CopyBlockUnaligned(to, from, (uint)n);
            to += n;
            (linear, size) = (linear + (ulong)n, size - n);
        }

        return true;
    }

    private bool CopyTo(ulong linear, void* source, int size)
    {
        byte* from = (byte*)source;
        while (size > 0)
        {
            int n = (int)Math.Min((ulong)size, 4096 - (linear & 4095));
            byte* to = Cpu.GuestPointer(linear, n, write: true);
            if (to == null)
                return false;
            Unsafe.CopyBlockUnaligned(to, from, (uint)n);
            from += n;
            (linear, size) = (linear + (ulong)n, size - n);
        }

        return true;
    }

    private bool Read<T>(ulong linear, out T value) where T : unmanaged
    {
        T v;
        bool ok = CopyFrom(linear, &v, sizeof(T));
        value = ok ? v : default;
        return ok;
    }

    private bool Write<T>(ulong linear, T value) where T : unmanaged => CopyTo(linear, &value, sizeof(T));
}
