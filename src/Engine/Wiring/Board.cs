using VirtPS.Engine.Buses;
using VirtPS.Engine.Enlightenments;
using VirtPS.Engine.Interrupts;
using VirtPS.Engine.Running;
using VirtPS.Sdk;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Devices;
using VirtPS.Sdk.Interrupts;
using VirtPS.Sdk.Machine;
using VirtPS.Sdk.Memory;
using VirtPS.X86;
using VirtPS.Sdk.Plugins;

namespace VirtPS.Engine;

/// <summary>What everything in a machine is plugged into: buses, wires, clock, lock, memory, and the services that devices offer each other.</summary>
internal sealed class Board
{
    private const int IsaCount = 16;

    private readonly InterruptWire[] _gsi = new InterruptWire[PcLayout.IoApicPinCount];
    private readonly Dictionary<(Type Type, string Key), (object Service, string Owner)> _services = [];

    public Board(DeviceLock gate, MachineClock clock, MachineTimer timer, GuestMemory memory, ILog log)
    {
        (Gate, Clock, Timer, Memory) = (gate, clock, timer, memory);
        Apics = new ApicBus(gate, log);
        for (int i = 0; i < IsaCount; i++)
            Isa[i] = new InterruptWire($"isa{i}");
        // A global interrupt that is an ISA interrupt's pin is the same wire. Pin 0 stands alone: the timer is at pin 2.
        for (int i = 0; i < _gsi.Length; i++)
            _gsi[i] = IsaOfGsi(i) is { } isa ? Isa[isa] : new InterruptWire($"gsi{i}");
        IntrOutput = new InterruptOutput(this);
    }

    public DeviceLock Gate { get; }

    public MachineClock Clock { get; }

    public MachineTimer Timer { get; }

    public GuestMemory Memory { get; }

    public PortBus Ports { get; } = new();

    public MmioBus Mmio { get; } = new();

    public ApicBus Apics { get; }

    public InterruptWire[] Isa { get; } = new InterruptWire[IsaCount];

    public IInterruptOutput IntrOutput { get; }

    /// <summary>The 8259 pair's INTA side, once there is one.</summary>
    public IExternalInterruptSource? ExternalInterrupts { get; private set; }

    /// <summary>Where MSIs go: the APIC bus, or the partition's own controller.</summary>
    public IMsiTarget Msi { get; private set; } = null!;

    /// <summary>The partition's own controller; null: controllers are devices.</summary>
    public IPartitionInterruptController? PartitionInterrupts { get; private set; }

    /// <summary>KVM's interface; null where CPUID does not offer it or the backend answers it.</summary>
    public KvmEnlightenment? Enlightenment { get; private set; }

    /// <summary>The partition's doorbells; null where it has none.</summary>
    public IPartitionDoorbells? Doorbells { get; init; }

    public VcpuRunner[] Vcpus { get; set; } = [];

    /// <summary>What stands for the platform where the guest talks to the VMM itself; null on a PC.</summary>
    public IGuestPlatform? Platform { get; set; }

    public InterruptWire Gsi(int gsi) => _gsi[gsi];

    /// <summary>The machine answers KVM's interface. Behind the vCPUs.</summary>
    public void Enlighten(KvmFeatures features)
    {
        Enlightenment = new KvmEnlightenment(this, features);
        foreach (KvmVcpu vcpu in Enlightenment.Vcpus)
            vcpu.Attach();
    }

    /// <summary>Uses the APIC bus; controllers come as devices.</summary>
    public void UseApicBus() => Msi = Apics;

    /// <summary>All wires end at the partition's own PIC and IOAPIC: its pins 0–15 are the ISA interrupts.</summary>
    public void Use(IPartitionInterruptController controller)
    {
        Msi = PartitionInterrupts = controller;
        for (int i = 0; i < IsaCount; i++)
            Isa[i].Connect(controller, i);
        for (int i = IsaCount; i < Math.Min(_gsi.Length, controller.PinCount); i++)
            _gsi[i].Connect(controller, i);
    }

    /// <summary>Takes what device <paramref name="owner"/> (for vCPU <paramref name="vcpu"/>, when it is a local APIC) offers.</summary>
    public void Provide<T>(T service, string key, string owner, int? vcpu) where T : class
    {
        if (service is ILocalApic apic && typeof(T) == typeof(ILocalApic))
        {
            AddLocalApic(apic, owner, vcpu);
            return;
        }

        if (!_services.TryAdd((typeof(T), key), (service, owner)))
            throw new VirtException("DeviceConflict", $"Device '{owner}' cannot be the machine's {typeof(T).Name}{(key.Length > 0 ? $" '{key}'" : "")}: device '{_services[(typeof(T), key)].Owner}' is.", "Remove one of them.", owner);
        switch (service)
        {
            case IInterruptInput input when typeof(T) == typeof(IInterruptInput):
                Connect(input, key);
                break;
            case IExternalInterruptSource source when typeof(T) == typeof(IExternalInterruptSource):
                ExternalInterrupts = new LockedExternalInterrupts(source, Gate);
                break;
            case IEoiListener listener when typeof(T) == typeof(IEoiListener):
                Apics.Add(listener);
                break;
        }
    }

    /// <summary>A service that a device provided without a key.</summary>
    public T? Find<T>() where T : class => _services.TryGetValue((typeof(T), ""), out (object Service, string Owner) s) ? (T)s.Service : null;

    private static int? IsaOfGsi(int gsi) => gsi switch
    {
        0 => null,
        PcLayout.PitGsi => PcLayout.PitIrq,
        < IsaCount => gsi,
        _ => null,
    };

    private void Connect(IInterruptInput input, string key)
    {
        if (key == InterruptInputs.Pic)
        {
            for (int i = 0; i < IsaCount; i++)
                Isa[i].Connect(input, i);
        }
        else if (key == InterruptInputs.IoApic)
        {
            for (int i = 0; i < _gsi.Length; i++)
                _gsi[i].Connect(input, i);
        }
    }

    private void AddLocalApic(ILocalApic apic, string owner, int? vcpu)
    {
        if (vcpu is not { } index || index < 0 || index >= Vcpus.Length)
            throw new VirtException("DevicePropertyInvalid", $"Device '{owner}': a local APIC needs the property 'vcpu', 0 to {Vcpus.Length - 1}.", null, owner);
        if (Vcpus[index].Host.LocalApic is not null)
            throw new VirtException("DeviceConflict", $"Device '{owner}': vCPU {index} has a local APIC already.", null, owner);
        Vcpus[index].Host.LocalApic = apic;
        Apics.Add(index, apic);
    }
}
