using VirtPS.Sdk.Devices.Pci;

namespace VirtPS.Devices.Tests.Pci;

/// <summary>A PCI device as a third party would write one: a memory BAR of 64 bits, an I/O BAR, MSI, MSI-X and a capability of its own.</summary>
internal sealed class SamplePciDevice : IDevice, IMmioDevice, IPortDevice
{
    private uint _scratch;

    public SamplePciDevice(TestMachine machine, int? device = null, int function = 0)
    {
        Pci = new PciFunction(machine, new PciIdentity(0x1B36, 0x0042, 0xFF0001, Revision: 3, SubsystemVendor: 0x1AF4, Subsystem: 0x1100, InterruptPin: 2));
        Pci.AddMemoryBar(0, 0x2000, this, is64: true, prefetchable: true);
        Pci.AddIoBar(2, 32, this);
        MsiX = Pci.AddMsiX(vectors: 70, bar: 4);
        Msi = Pci.AddMsi(vectors: 4);
        Counter = Pci.AddCapability(new CountingCapability());
        Pci.Attach(machine.GetService<IPciBus>()!, device, function);
    }

    public PciFunction Pci { get; }

    public MsiXCapability MsiX { get; }

    public MsiCapability Msi { get; }

    public CountingCapability Counter { get; }

    public uint ReadPort(int offset, int size) => _scratch;

    public void WritePort(int offset, int size, uint value) => _scratch = value;

    public ulong ReadMmio(ulong offset, int size) => _scratch + offset;

    public void WriteMmio(ulong offset, int size, ulong value) => _scratch = (uint)value;

    public void Reset(ResetKind kind) => Pci.Reset();

    public void Quiesce()
    {
    }

    public DeviceState Save() => DeviceState.From("test/pci", 1, new State { Scratch = _scratch, Pci = Pci.Save() });

    public void Restore(DeviceState state)
    {
        State s = state.Read<State>("test/pci", 1);
        _scratch = s.Scratch;
        Pci.Restore(s.Pci);
    }

    public void Resume() => Pci.Resume();

    public void Dispose() => Pci.Dispose();

    internal sealed record State
    {
        public uint Scratch { get; init; }

        public PciFunctionState Pci { get; init; } = new();
    }

    /// <summary>A vendor capability whose third byte counts reads, and whose fourth can be written.</summary>
    internal sealed class CountingCapability() : PciCapability(id: 0x09, length: 4)
    {
        public int Writes { get; private set; }

        protected override void Initialize() => Function.SetWritable(Offset + 3, 1, 0x0F);

        protected override void Reading(int offset, int size) => Function.SetConfig(Offset + 2, 1, Function.GetConfig(Offset + 2, 1) + 1);

        protected override void Written(int offset, int size) => Writes++;
    }
}
