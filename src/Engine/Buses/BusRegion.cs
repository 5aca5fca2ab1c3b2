using VirtPS.Sdk;
using VirtPS.Sdk.Devices;

namespace VirtPS.Engine.Buses;

/// <summary>A region that a device has claimed on a bus. Changes are serialised by its bus; they and accesses both happen under the device lock.</summary>
internal sealed class BusRegion<TDevice>(IRegionBus<TDevice> bus, string owner, TDevice device, ulong length, int maxAccess) : IBusRegion
    where TDevice : class
{
    public string Owner { get; } = owner;

    public TDevice Device { get; } = device;

    public int MaxAccess { get; } = maxAccess;

    public ulong Start { get; internal set; }

    public ulong Length { get; } = length;

    /// <summary>Last address, inclusive (a region may end at the end of the address space).</summary>
    public ulong Last => Start + (Length - 1);

    public void Move(ulong? start) => bus.Place(this, start);

    public void Dispose() => bus.Place(this, null);
}

internal interface IRegionBus<TDevice> where TDevice : class
{
    /// <summary>Puts a region somewhere, or takes it off. Throws <see cref="VirtException"/> (<c>DeviceConflict</c>) on overlap; then nothing has changed.</summary>
    void Place(BusRegion<TDevice> region, ulong? start);
}

internal static class RegionRules
{
    /// <summary>Throws when [start, start+length) overlaps one of <paramref name="others"/> other than <paramref name="region"/> itself.</summary>
    public static void CheckFree<TDevice>(string space, BusRegion<TDevice> region, ulong start, IEnumerable<BusRegion<TDevice>> others) where TDevice : class
    {
        ulong last = start + (region.Length - 1);
        foreach (BusRegion<TDevice> other in others)
        {
            if (other != region && start <= other.Last && other.Start <= last)
                throw new VirtException("DeviceConflict", $"Device '{region.Owner}' cannot have {space} 0x{start:X}-0x{last:X}: device '{other.Owner}' has 0x{other.Start:X}-0x{other.Last:X}.", "Give one of them another address.", region.Owner);
        }
    }

    public static void CheckAccess(int maxAccess, int limit)
    {
        if (maxAccess is not (1 or 2 or 4 or 8) || maxAccess > limit)
            throw new ArgumentOutOfRangeException(nameof(maxAccess), maxAccess, $"1, 2, 4 … up to {limit}.");
    }
}
