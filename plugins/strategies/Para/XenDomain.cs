using VirtPS.Sdk;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Devices;
using VirtPS.Sdk.Machine;
using VirtPS.Sdk.Memory;
using VirtPS.Sdk.Plugins;
using VirtPS.Sdk.Time;
using VirtPS.Strategy.Para.Console;
using VirtPS.Strategy.Para.EventChannels;
using VirtPS.Strategy.Para.GrantTables;
using VirtPS.Strategy.Para.Mmu;
using VirtPS.Strategy.Para.Store;

namespace VirtPS.Strategy.Para;

/// <summary>
/// One Xen PV guest as the VMM keeps it. Device backends (of this plugin) find it through their context: <c>GetService&lt;XenDomain&gt;()</c>; null there means that the machine is no Xen domain.
/// </summary>
internal sealed unsafe partial class XenDomain : IGuestPlatform, IPowerButton
{
    private readonly DeviceContext _context;
    private readonly object _mmuGate = new();
    private Exception? _failure;

    public XenDomain(GuestPlatformContext context)
    {
        _context = context.Device;
        Log = context.Device.Log;
        Memory = context.Device.Memory;
        Machine = context.Device.GetService<IMachineControl>()!;
        Configuration = context.Configuration;
        Partition = context.Partition;
        VcpuCount = context.Vcpus.Count;
        MemorySlot ram = Memory.Slots.Single();
        Area = new XenArea(ram.PageCount, VcpuCount);
        Memory.Add(Area.Slot);
        Frames = new FrameTable(ram, Area);
        Types = new PageTypes(this, Frames, Area);
        Ports = new EventChannelTable(this);
        Grants = new GrantTable(this);
        Vcpus = [.. context.Vcpus.Select(v => new XenVcpu(this, v))];
        Console = new ConsoleRing(this, _context.OpenChar("console"));
        Store = new XenStore(this);
        _context.Provide(this);
        _context.Provide<IPowerButton>(this);
    }

    public ILog Log { get; }

    public GuestMemory Memory { get; }

    public IMachineControl Machine { get; }

    public VmConfiguration Configuration { get; }

    public PartitionOptions Partition { get; }

    public VirtualClock Clock => _context.Clock;

    public int VcpuCount { get; }

    public XenVcpu[] Vcpus { get; }

    public XenArea Area { get; }

    public FrameTable Frames { get; }

    public PageTypes Types { get; }

    public EventChannelTable Ports { get; }

    public GrantTable Grants { get; }

    public ConsoleRing Console { get; }

    public XenStore Store { get; }

    /// <summary>Host address of shared_info.</summary>
    public byte* SharedInfo => Area.SharedInfo;

    /// <summary>Any thread: runs <paramref name="work"/> under the device lock soon.</summary>
    public void Post(Action work) => _context.Post(work);

    /// <summary>
    /// Takes the lock over page types, page tables and grants, to the end of a <c>using</c>. <paramref name="vcpu"/>: the one whose thread this is, in a hypercall; null on other threads, which must not
    /// ask vCPUs for anything while they hold it. For vCPUs it throws once the VMM itself has failed (<see cref="NoteFailure"/>): what the lock guards may be half changed then.
    /// </summary>
    public MmuHold EnterMmu(IDeprivilegedVcpu? vcpu)
    {
        if (!Monitor.TryEnter(_mmuGate))
        {
            int token = vcpu?.BeginWait() ?? 0;
            Monitor.Enter(_mmuGate);
            vcpu?.EndWait(token);
        }

        if (_failure is null || vcpu is null)
            return new MmuHold(_mmuGate);
        Monitor.Exit(_mmuGate);
        throw new InvalidOperationException($"The domain has failed before: {_failure.Message}", _failure);
    }

    /// <summary>
    /// An exception of the VMM's own, seen where it leaves the VMM: as an exception filter this runs before any lock that the failing call holds is given back, so that nobody works on with what
    /// it has left. The machine ends as Crashed. Always false.
    /// </summary>
    public bool NoteFailure(Exception failure)
    {
        Interlocked.CompareExchange(ref _failure, failure, null);
        return false;
    }

    /// <summary>The machine's power button: asks the guest through the store.</summary>
    public void Press() => Store.RequestShutdown("poweroff");
}
