namespace VirtPS.Sdk.Devices.Pci;

/// <summary>What a function says it is (PCI Local Bus 3.0 §6.2.1).</summary>
/// <param name="Vendor">Vendor ID.</param>
/// <param name="Device">Device ID.</param>
/// <param name="ClassCode">Base class, sub-class and programming interface: 0x060000 is a host bridge.</param>
/// <param name="Revision">Revision ID.</param>
/// <param name="SubsystemVendor">Subsystem vendor ID.</param>
/// <param name="Subsystem">Subsystem ID.</param>
/// <param name="InterruptPin">0 = none, 1–4 = INTA#–INTD#.</param>
public sealed record PciIdentity(
    ushort Vendor, ushort Device, uint ClassCode, byte Revision = 0, ushort SubsystemVendor = 0, ushort Subsystem = 0, byte InterruptPin = 0);

/// <summary>Offsets in a type 0 header (PCI Local Bus 3.0 figure 6-1).</summary>
public static class PciConfig
{
    public const int VendorId = 0x00, DeviceId = 0x02, Command = 0x04, Status = 0x06, Revision = 0x08, ClassCode = 0x09, CacheLineSize = 0x0C,
        LatencyTimer = 0x0D, HeaderType = 0x0E, Bar0 = 0x10, SubsystemVendorId = 0x2C, SubsystemId = 0x2E, CapabilitiesPointer = 0x34,
        InterruptLine = 0x3C, InterruptPin = 0x3D, FirstCapability = 0x40, Size = 0x100, BarCount = 6;

    /// <summary>Bit 7 of the header type: other functions are on the same device.</summary>
    public const byte MultiFunction = 0x80;
}

/// <summary>Command register (§6.2.2).</summary>
[Flags]
public enum PciCommand : ushort
{
    None = 0,
    IoSpace = 1 << 0,
    MemorySpace = 1 << 1,
    BusMaster = 1 << 2,
    ParityErrorResponse = 1 << 6,
    SystemErrorEnable = 1 << 8,
    InterruptDisable = 1 << 10,
}

/// <summary>Status register (§6.2.3): the bits that mean something here.</summary>
[Flags]
public enum PciStatus : ushort
{
    None = 0,
    InterruptStatus = 1 << 3,
    CapabilitiesList = 1 << 4,
}

/// <summary>A function's saved state: the configuration space and what capabilities keep beside it.</summary>
public sealed record PciFunctionState
{
    /// <summary>256 bytes.</summary>
    public byte[] Config { get; init; } = [];

    /// <summary>Level of the function's INTx, before the command register's gate.</summary>
    public bool Interrupt { get; init; }

    /// <summary>By capability offset: what it saves beyond its bytes in <see cref="Config"/> (an MSI-X table).</summary>
    public Dictionary<int, byte[]> Capabilities { get; init; } = [];
}
