namespace VirtPS.Sdk.Devices.Pci;

/// <summary>
/// A base address register (PCI Local Bus 3.0 §6.2.5) and the region behind it. The region is on the bus while the command register enables its space and the
/// address is usable; it moves with the register. A guest that puts it where something else is gets a device that does not answer there, and a line in the log.
/// </summary>
public sealed class PciBar
{
    /// <summary>Guest-physical addresses have 52 bits at most.</summary>
    private const ulong HighestAddress = (1ul << 52) - 1;

    private readonly DeviceContext _context;
    private readonly Func<ulong, IBusRegion> _map;
    private IBusRegion? _region;

    internal PciBar(DeviceContext context, int index, ulong length, bool isIo, bool is64, bool prefetchable, Func<ulong, IBusRegion> map)
    {
        (_context, Index, Length, IsIo, Is64, _map) = (context, index, length, isIo, is64, map);
        Flags = isIo ? 1u : (is64 ? 4u : 0) | (prefetchable ? 8u : 0);
    }

    /// <summary>0–5; a 64-bit BAR takes the next one too.</summary>
    public int Index { get; }

    /// <summary>Bytes; a power of two.</summary>
    public ulong Length { get; }

    public bool IsIo { get; }

    public bool Is64 { get; }

    /// <summary>Where the region is on the bus now; null while it is not.</summary>
    public ulong? Address { get; private set; }

    internal uint Flags { get; }

    internal int ConfigOffset => PciConfig.Bar0 + (4 * Index);

    /// <summary>Follows the register: <paramref name="address"/> is null while the space is disabled.</summary>
    internal void Place(ulong? address)
    {
        if (address is { } a && !IsUsable(a))
            address = null;
        if (address == Address)
            return;
        _region?.Move(null);
        Address = null;
        if (address is not { } target)
            return;
        try
        {
            if (_region is null)
                _region = _map(target);
            else
                _region.Move(target);
            Address = target;
        }
        catch (VirtException e) when (e.ErrorId == "DeviceConflict")
        {
            _context.Log.Write(LogLevel.Warning, $"BAR {Index} is not on the bus: {e.Message}");
        }
    }

    /// <summary>Zero is "not assigned"; the highest possible value is what stays after sizing with all ones.</summary>
    private bool IsUsable(ulong address) => address != 0
        && address != ((IsIo ? 0xFFFFul : uint.MaxValue) & ~(Length - 1))
        && address + (Length - 1) <= (IsIo ? 0xFFFF : HighestAddress);

    internal void Remove()
    {
        _region?.Dispose();
        (_region, Address) = (null, null);
    }
}
