using VirtPS.Sdk.Machine;

namespace VirtPS.Engine.Firmware;

/// <summary>What a range of the physical address map is (ACPI 6.5 table 15.1); also PVH's and Multiboot's numbering.</summary>
public enum E820Type : uint
{
    Ram = 1,
    Reserved = 2,
    AcpiReclaim = 3,
    AcpiNvs = 4,
    Unusable = 5,
}

/// <summary>One entry of the memory map that the guest gets. Bytes.</summary>
public readonly record struct E820Entry(ulong Start, ulong Size, E820Type Type)
{
    /// <summary>First address behind it.</summary>
    public ulong End => Start + Size;
}

/// <summary>A run of guest-physical addresses, in bytes.</summary>
public readonly record struct MemoryRange(ulong Start, ulong Size)
{
    public ulong End => Start + Size;
}

/// <summary>
/// Where a PC's RAM is. RAM begins at 0; what would reach into the PCI hole below 4 GiB continues at 4 GiB. <see cref="E820"/> is what the guest is told: the
/// extended BIOS data area up to 1 MiB is reserved, because the BIOS data and the ACPI tables stand there. Immutable.
/// </summary>
public sealed class MemoryLayout
{
    /// <summary>Extended BIOS data area: the last kilobyte of conventional memory.</summary>
    public const ulong EbdaStart = 0x9FC00;

    public const ulong OneMegabyte = 0x10_0000;

    public const ulong FourGigabytes = 0x1_0000_0000;

    /// <summary>Where the firmware tables are put, up to 1 MiB: the part of the BIOS area that operating systems search for the RSDP (ACPI 6.5 §5.2.5.1).</summary>
    public const ulong FirmwareArea = 0xE0000;

    /// <summary>RAM in one piece from 0, for guests without a PC around them.</summary>
    public static MemoryLayout Flat(ulong ramBytes)
    {
        if (ramBytes < OneMegabyte || (ramBytes & 0xFFF) != 0)
            throw new ArgumentOutOfRangeException(nameof(ramBytes), ramBytes, "RAM must be at least 1 MiB and a multiple of 4 KiB.");
        return new MemoryLayout([new(0, ramBytes)], [new(0, ramBytes, E820Type.Ram)]);
    }

    private MemoryLayout(IReadOnlyList<MemoryRange> ram, IReadOnlyList<E820Entry> e820) => (Ram, E820) = (ram, e820);

    /// <summary>The memory slots to create, ascending; one, or two when there is RAM above 4 GiB.</summary>
    public IReadOnlyList<MemoryRange> Ram { get; }

    /// <summary>The memory map, ascending, without overlaps.</summary>
    public IReadOnlyList<E820Entry> E820 { get; }

    /// <summary>First address after the RAM below 4 GiB.</summary>
    public ulong LowRamEnd => Ram[0].End;

    /// <summary>Bytes of RAM.</summary>
    public ulong TotalRam => Ram.Aggregate(0ul, (n, r) => n + r.Size);

    /// <summary>
    /// The layout for <paramref name="ramBytes"/> of RAM. Throws <see cref="ArgumentOutOfRangeException"/> below 1 MiB or when not a multiple of 4 KiB (the
    /// configuration is checked long before).
    /// </summary>
    public static MemoryLayout ForRam(ulong ramBytes)
    {
        if (ramBytes < OneMegabyte || (ramBytes & 0xFFF) != 0)
            throw new ArgumentOutOfRangeException(nameof(ramBytes), ramBytes, "RAM must be at least 1 MiB and a multiple of 4 KiB.");
        ulong low = Math.Min(ramBytes, PcLayout.PciMmioStart);
        List<MemoryRange> ram = [new(0, low)];
        List<E820Entry> map = [new(0, EbdaStart, E820Type.Ram), new(EbdaStart, OneMegabyte - EbdaStart, E820Type.Reserved)];
        if (low > OneMegabyte)
            map.Add(new E820Entry(OneMegabyte, low - OneMegabyte, E820Type.Ram));
        if (ramBytes > low)
        {
            ram.Add(new MemoryRange(FourGigabytes, ramBytes - low));
            map.Add(new E820Entry(FourGigabytes, ramBytes - low, E820Type.Ram));
        }

        return new MemoryLayout(ram, map);
    }
}
