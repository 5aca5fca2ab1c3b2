using System.Runtime.CompilerServices;
using VirtPS.Sdk.Devices;

namespace VirtPS.Engine.Buses;

/// <summary>
/// The 64 Ki I/O ports: a table from port to region, replaced as a whole when a region comes, moves or goes. Reads and writes take no lock of their own (the
/// device lock is the caller's). An unclaimed port reads as all ones and swallows writes.
/// </summary>
public sealed class PortBus : IRegionBus<IPortDevice>
{
    private readonly Lock _gate = new();
    private Table _table = new(new byte[0x10000], [null]);

    /// <summary>Claims ports; see <see cref="DeviceContext.MapPorts"/>.</summary>
    public IBusRegion Map(string owner, ushort first, int count, IPortDevice device, int maxAccess)
    {
        RegionRules.CheckAccess(maxAccess, 4);
        ArgumentOutOfRangeException.ThrowIfLessThan(count, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(first + count, 0x10000, nameof(count));
        var region = new BusRegion<IPortDevice>(this, owner, device, (ulong)count, maxAccess);
        ((IRegionBus<IPortDevice>)this).Place(region, first);
        return region;
    }

    void IRegionBus<IPortDevice>.Place(BusRegion<IPortDevice> region, ulong? start)
    {
        lock (_gate)
        {
            Table old = _table;
            if (start is { } first)
            {
                if (first > 0xFFFF || first + region.Length > 0x10000)
                    throw new ArgumentOutOfRangeException(nameof(start), first, "Beyond the last port.");
                RegionRules.CheckFree("ports", region, first, old.Regions.OfType<BusRegion<IPortDevice>>());
            }

            List<BusRegion<IPortDevice>?> regions = [.. old.Regions.Where(r => r != region)];
            if (start is { } at)
            {
                region.Start = at;
                regions.Add(region);
            }

            Volatile.Write(ref _table, Table.Of([.. regions]));
        }
    }

    /// <summary>Reads 1, 2 or 4 bytes.</summary>
    public uint Read(ushort port, int size)
    {
        BusRegion<IPortDevice>? region = Volatile.Read(ref _table).Find(port);
        if (region is not null && size <= region.MaxAccess && port + (ulong)size - 1 <= region.Last)
            return region.Device.ReadPort((int)(port - region.Start), size) & Mask(size);
        return ReadSplit(port, size);
    }

    /// <summary>Writes 1, 2 or 4 bytes.</summary>
    public void Write(ushort port, int size, uint value)
    {
        BusRegion<IPortDevice>? region = Volatile.Read(ref _table).Find(port);
        if (region is not null && size <= region.MaxAccess && port + (ulong)size - 1 <= region.Last)
            region.Device.WritePort((int)(port - region.Start), size, value & Mask(size));
        else
            WriteSplit(port, size, value);
    }

    /// <summary>Name of the device that answers at this port; null when none does.</summary>
    public string? OwnerOf(ushort port) => Volatile.Read(ref _table).Find(port)?.Owner;

    private uint ReadSplit(int port, int size)
    {
        uint value = 0;
        for (int done = 0; done < size;)
        {
            (BusRegion<IPortDevice>? region, int step) = Next(port + done, size - done);
            uint part = region is null ? uint.MaxValue : region.Device.ReadPort((int)((uint)(port + done) - region.Start), step);
            value |= (part & Mask(step)) << (done * 8);
            done += step;
        }

        return value;
    }

    private void WriteSplit(int port, int size, uint value)
    {
        for (int done = 0; done < size;)
        {
            (BusRegion<IPortDevice>? region, int step) = Next(port + done, size - done);
            region?.Device.WritePort((int)((uint)(port + done) - region.Start), step, (value >> (done * 8)) & Mask(step));
            done += step;
        }
    }

    /// <summary>The widest access that the region at a port takes there.</summary>
    private (BusRegion<IPortDevice>? Region, int Step) Next(int port, int left)
    {
        BusRegion<IPortDevice>? region = port > 0xFFFF ? null : Volatile.Read(ref _table).Find((ushort)port);
        if (region is null)
            return (null, 1);
        int step = left >= 4 ? 4 : left >= 2 ? 2 : 1;
        while (step > 1 && (step > region.MaxAccess || (ulong)(port + step - 1) > region.Last))
            step >>= 1;
        return (region, step);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static uint Mask(int size) => size == 4 ? uint.MaxValue : (1u << (size * 8)) - 1;

    /// <summary>Immutable. At most 255 regions: a byte per port keeps the table in 64 KiB.</summary>
    private sealed class Table(byte[] index, BusRegion<IPortDevice>?[] regions)
    {
        public BusRegion<IPortDevice>?[] Regions { get; } = regions;

        public static Table Of(BusRegion<IPortDevice>?[] regions)
        {
            if (regions.Length > 256)
                throw new InvalidOperationException("More than 255 port regions.");
            var index = new byte[0x10000];
            for (int i = 1; i < regions.Length; i++)
                index.AsSpan((int)regions[i]!.Start, (int)regions[i]!.Length).Fill((byte)i);
            return new Table(index, regions);
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public BusRegion<IPortDevice>? Find(ushort port) => Regions[index[port]];
    }
}
