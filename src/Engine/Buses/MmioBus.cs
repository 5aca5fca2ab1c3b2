using VirtPS.Sdk.Devices;

namespace VirtPS.Engine.Buses;

/// <summary>
/// Devices in guest-physical address space, sorted, replaced as a whole when a region comes, moves or goes. The same rules as <see cref="PortBus"/>: no
/// lock of its own, all ones where nobody answers.
/// </summary>
public sealed class MmioBus : IRegionBus<IMmioDevice>
{
    private readonly Lock _gate = new();
    private BusRegion<IMmioDevice>[] _regions = [];

    /// <summary>Claims addresses; see <see cref="DeviceContext.MapMmio"/>.</summary>
    public IBusRegion Map(string owner, ulong start, ulong length, IMmioDevice device, int maxAccess)
    {
        RegionRules.CheckAccess(maxAccess, 8);
        ArgumentOutOfRangeException.ThrowIfZero(length);
        var region = new BusRegion<IMmioDevice>(this, owner, device, length, maxAccess);
        ((IRegionBus<IMmioDevice>)this).Place(region, start);
        return region;
    }

    void IRegionBus<IMmioDevice>.Place(BusRegion<IMmioDevice> region, ulong? start)
    {
        lock (_gate)
        {
            if (start is { } first)
            {
                if (first + (region.Length - 1) < first)
                    throw new ArgumentOutOfRangeException(nameof(start), first, "Beyond the last address.");
                RegionRules.CheckFree("addresses", region, first, _regions);
            }

            List<BusRegion<IMmioDevice>> regions = [.. _regions.Where(r => r != region)];
            if (start is { } at)
            {
                region.Start = at;
                regions.Add(region);
            }

            Volatile.Write(ref _regions, [.. regions.OrderBy(r => r.Start)]);
        }
    }

    /// <summary>Reads 1, 2, 4 or 8 bytes; what the region does not take at once, or is not naturally aligned, is split.</summary>
    public ulong Read(ulong gpa, int size)
    {
        BusRegion<IMmioDevice>? region = Find(gpa);
        if (region is not null && Takes(region, gpa, size))
            return region.Device.ReadMmio(gpa - region.Start, size) & Mask(size);
        ulong value = 0;
        for (int done = 0; done < size;)
        {
            (BusRegion<IMmioDevice>? r, int step) = Next(gpa + (ulong)done, size - done);
            ulong part = r is null ? ulong.MaxValue : r.Device.ReadMmio(gpa + (ulong)done - r.Start, step);
            value |= (part & Mask(step)) << (done * 8);
            done += step;
        }

        return value;
    }

    /// <summary>Writes 1, 2, 4 or 8 bytes.</summary>
    public void Write(ulong gpa, int size, ulong value)
    {
        BusRegion<IMmioDevice>? region = Find(gpa);
        if (region is not null && Takes(region, gpa, size))
        {
            region.Device.WriteMmio(gpa - region.Start, size, value & Mask(size));
            return;
        }

        for (int done = 0; done < size;)
        {
            (BusRegion<IMmioDevice>? r, int step) = Next(gpa + (ulong)done, size - done);
            r?.Device.WriteMmio(gpa + (ulong)done - r.Start, step, (value >> (done * 8)) & Mask(step));
            done += step;
        }
    }

    /// <summary>Name of the device that answers at this address; null when none does.</summary>
    public string? OwnerOf(ulong gpa) => Find(gpa)?.Owner;

    private BusRegion<IMmioDevice>? Find(ulong gpa)
    {
        BusRegion<IMmioDevice>[] regions = Volatile.Read(ref _regions);
        int low = 0, high = regions.Length - 1;
        while (low <= high)
        {
            int middle = (low + high) >> 1;
            BusRegion<IMmioDevice> r = regions[middle];
            if (gpa < r.Start)
                high = middle - 1;
            else if (gpa > r.Last)
                low = middle + 1;
            else
                return r;
        }

        return null;
    }

    private static bool Takes(BusRegion<IMmioDevice> region, ulong gpa, int size) =>
        size <= region.MaxAccess && (gpa & ((ulong)size - 1)) == 0 && gpa + ((ulong)size - 1) <= region.Last;

    private (BusRegion<IMmioDevice>? Region, int Step) Next(ulong gpa, int left)
    {
        BusRegion<IMmioDevice>? region = Find(gpa);
        if (region is null)
            return (null, 1);
        int step = left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
        while (step > 1 && !Takes(region, gpa, step))
            step >>= 1;
        return (region, step);
    }

    private static ulong Mask(int size) => size == 8 ? ulong.MaxValue : (1ul << (size * 8)) - 1;
}
