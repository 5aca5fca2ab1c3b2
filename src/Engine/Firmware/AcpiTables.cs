using System.Buffers.Binary;
using System.Text;
using VirtPS.Sdk.Machine;

namespace VirtPS.Engine.Firmware;

/// <summary>
/// The ACPI tables (ACPI 6.5 §5.2) as bytes with their final addresses in them. Laid out upwards from a base address: FACS (64-byte aligned), DSDT, FADT,
/// MADT, XSDT, and the RSDP on a 16-byte boundary, where a search of the BIOS area finds it.
/// </summary>
public sealed class AcpiTables
{
    private const int HeaderSize = 36, RsdpSize = 36, FacsSize = 64;

    private readonly ulong _base;
    private readonly List<byte> _bytes = [];

    private AcpiTables(ulong @base) => _base = @base;

    /// <summary>The tables, to be written at the base address.</summary>
    public ReadOnlyMemory<byte> Content => _bytes.ToArray();

    /// <summary>Guest-physical address of the RSDP.</summary>
    public ulong Rsdp { get; private set; }

    /// <summary>Guest-physical addresses of the tables by signature.</summary>
    public IReadOnlyDictionary<string, ulong> Addresses => _addresses;

    private readonly Dictionary<string, ulong> _addresses = [];

    /// <summary>Builds the tables to stand at <paramref name="base"/> (a multiple of 64, below 4 GiB).</summary>
    public static AcpiTables Build(FirmwarePlatform platform, ulong @base)
    {
        ArgumentOutOfRangeException.ThrowIfNotEqual(@base & 63, 0ul);
        var tables = new AcpiTables(@base);
        ulong facs = tables.Append("FACS", Facs());
        ulong dsdt = tables.Append("DSDT", Table("DSDT", 2, Dsdt.Build(platform)));
        ulong fadt = tables.Append("FACP", Table("FACP", 6, Fadt.Build(platform, (uint)facs, (uint)dsdt)));
        ulong madt = tables.Append("APIC", Table("APIC", 4, Madt.Build(platform)));
        byte[] pointers = new byte[16];
        BinaryPrimitives.WriteUInt64LittleEndian(pointers, fadt);
        BinaryPrimitives.WriteUInt64LittleEndian(pointers.AsSpan(8), madt);
        ulong xsdt = tables.Append("XSDT", Table("XSDT", 1, pointers));
        tables.Rsdp = tables.Append("RSD PTR ", RsdpBytes(xsdt));
        return tables;
    }

    private ulong Append(string signature, byte[] table)
    {
        while ((_bytes.Count & (signature == "FACS" ? 63 : 15)) != 0)
            _bytes.Add(0);
        ulong address = _base + (ulong)_bytes.Count;
        _bytes.AddRange(table);
        _addresses[signature] = address;
        return address;
    }

    /// <summary>System description table header and body (§5.2.6).</summary>
    private static byte[] Table(string signature, byte revision, ReadOnlySpan<byte> body)
    {
        byte[] table = new byte[HeaderSize + body.Length];
        Encoding.ASCII.GetBytes(signature, table);
        BinaryPrimitives.WriteInt32LittleEndian(table.AsSpan(4), table.Length);
        table[8] = revision;
        Encoding.ASCII.GetBytes("VIRTPS", table.AsSpan(10));
        Encoding.ASCII.GetBytes("VIRTPSPC", table.AsSpan(16));
        BinaryPrimitives.WriteUInt32LittleEndian(table.AsSpan(24), 1);
        Encoding.ASCII.GetBytes("VPS ", table.AsSpan(28));
        BinaryPrimitives.WriteUInt32LittleEndian(table.AsSpan(32), 1);
        body.CopyTo(table.AsSpan(HeaderSize));
        table[9] = Checksum(table);
        return table;
    }

    /// <summary>Firmware ACPI control structure (§5.2.10); it has no checksum.</summary>
    private static byte[] Facs()
    {
        byte[] facs = new byte[FacsSize];
        Encoding.ASCII.GetBytes("FACS", facs);
        BinaryPrimitives.WriteInt32LittleEndian(facs.AsSpan(4), FacsSize);
        facs[32] = 2;
        return facs;
    }

    /// <summary>Root system description pointer, revision 2 (§5.2.5.3). There is no RSDT: its address is 0.</summary>
    private static byte[] RsdpBytes(ulong xsdt)
    {
        byte[] rsdp = new byte[RsdpSize];
        Encoding.ASCII.GetBytes("RSD PTR ", rsdp);
        Encoding.ASCII.GetBytes("VIRTPS", rsdp.AsSpan(9));
        rsdp[15] = 2;
        BinaryPrimitives.WriteInt32LittleEndian(rsdp.AsSpan(20), RsdpSize);
        BinaryPrimitives.WriteUInt64LittleEndian(rsdp.AsSpan(24), xsdt);
        rsdp[8] = Checksum(rsdp.AsSpan(0, 20));
        rsdp[32] = Checksum(rsdp);
        return rsdp;
    }

    /// <summary>The byte that makes the sum of all bytes zero.</summary>
    private static byte Checksum(ReadOnlySpan<byte> bytes)
    {
        int sum = 0;
        foreach (byte b in bytes)
            sum += b;
        return (byte)-sum;
    }
}

/// <summary>Body of the fixed ACPI description table (§5.2.9), revision 6.4: fixed hardware, ACPI mode always on.</summary>
internal static class Fadt
{
    private const int BodySize = 276 - 36;

    [Flags]
    private enum Features : uint
    {
        Wbinvd = 1 << 0, ProcC1 = 1 << 2, NoSleepButton = 1 << 5, RtcWakeNotFixed = 1 << 6, TimerIs32Bits = 1 << 8, ResetRegister = 1 << 10,
    }

    [Flags]
    private enum BootArchitecture : ushort
    {
        LegacyDevices = 1, Keyboard8042 = 2, NoVga = 4,
    }

    public static byte[] Build(FirmwarePlatform platform, uint facs, uint dsdt)
    {
        byte[] body = new byte[BodySize];
        // Offsets are those of the specification, which count the 36-byte header.
        Span<byte> At(int offset) => body.AsSpan(offset - 36);
        BinaryPrimitives.WriteUInt32LittleEndian(At(36), facs);
        BinaryPrimitives.WriteUInt32LittleEndian(At(40), dsdt);
        BinaryPrimitives.WriteUInt16LittleEndian(At(46), PcLayout.SciIrq);
        BinaryPrimitives.WriteUInt32LittleEndian(At(56), PcLayout.Pm1aEventPort);
        BinaryPrimitives.WriteUInt32LittleEndian(At(64), PcLayout.Pm1aControlPort);
        BinaryPrimitives.WriteUInt32LittleEndian(At(76), PcLayout.PmTimerPort);
        BinaryPrimitives.WriteUInt32LittleEndian(At(80), PcLayout.Gpe0Port);
        At(88)[0] = PcLayout.Pm1aEventLength;
        At(89)[0] = PcLayout.Pm1aControlLength;
        At(91)[0] = PcLayout.PmTimerLength;
        At(92)[0] = PcLayout.Gpe0Length;
        BinaryPrimitives.WriteUInt16LittleEndian(At(96), 0x0FFF);  // P_LVL2_LAT: no C2
        BinaryPrimitives.WriteUInt16LittleEndian(At(98), 0x0FFF);  // P_LVL3_LAT: no C3
        At(108)[0] = 0x32;                                         // century byte of the RTC
        BootArchitecture architecture = BootArchitecture.LegacyDevices | BootArchitecture.NoVga
            | (platform.HasKeyboard ? BootArchitecture.Keyboard8042 : 0);
        BinaryPrimitives.WriteUInt16LittleEndian(At(109), (ushort)architecture);
        BinaryPrimitives.WriteUInt32LittleEndian(At(112), (uint)(Features.Wbinvd | Features.ProcC1 | Features.NoSleepButton
            | Features.RtcWakeNotFixed | Features.TimerIs32Bits | Features.ResetRegister));
        PortAddress(At(116), PcLayout.ResetPort, 8, 1);
        At(128)[0] = PcLayout.ResetValue;
        At(131)[0] = 4;                                            // FADT minor version
        BinaryPrimitives.WriteUInt64LittleEndian(At(140), dsdt);   // X_FIRMWARE_CTRL stays 0: one of the two only
        PortAddress(At(148), PcLayout.Pm1aEventPort, PcLayout.Pm1aEventLength * 8, 2);
        PortAddress(At(172), PcLayout.Pm1aControlPort, PcLayout.Pm1aControlLength * 8, 2);
        PortAddress(At(208), PcLayout.PmTimerPort, PcLayout.PmTimerLength * 8, 3);
        PortAddress(At(220), PcLayout.Gpe0Port, PcLayout.Gpe0Length * 8, 1);
        return body;
    }

    /// <summary>Generic address structure in system I/O space (§5.2.3.2); <paramref name="access"/>: 1 byte, 2 word, 3 dword.</summary>
    private static void PortAddress(Span<byte> at, ushort port, int bits, byte access)
    {
        at[0] = 1;
        at[1] = (byte)bits;
        at[2] = 0;
        at[3] = access;
        BinaryPrimitives.WriteUInt64LittleEndian(at[4..], port);
    }
}

/// <summary>Body of the multiple APIC description table (§5.2.12).</summary>
internal static class Madt
{
    private const ushort ActiveHigh = 1, LevelTriggered = 3 << 2;

    public static byte[] Build(FirmwarePlatform platform)
    {
        List<byte> body = [];
        U32(body, (uint)PcLayout.LocalApicBase);
        U32(body, 1); // PCAT_COMPAT: there is a pair of 8259s
        for (int i = 0; i < platform.VcpuCount; i++)
            Processor(body, i);
        body.AddRange([1, 12, PcLayout.IoApicId, 0]);
        U32(body, (uint)PcLayout.IoApicBase);
        U32(body, 0);
        SourceOverride(body, PcLayout.PitIrq, PcLayout.PitGsi, 0);
        SourceOverride(body, PcLayout.SciIrq, PcLayout.SciIrq, ActiveHigh | LevelTriggered);
        body.AddRange([4, 6, 0xFF, 0, 0, 1]); // NMI on LINT1 of all processors
        return [.. body];
    }

    /// <summary>APIC ids of 255 and more need the x2APIC form (§5.2.12.12).</summary>
    private static void Processor(List<byte> body, int index)
    {
        if (index < 255)
        {
            body.AddRange([0, 8, (byte)index, (byte)index]);
            U32(body, 1);
            return;
        }

        body.AddRange([9, 16, 0, 0]);
        U32(body, (uint)index);
        U32(body, 1);
        U32(body, (uint)index);
    }

    private static void SourceOverride(List<byte> body, int irq, int gsi, ushort flags)
    {
        body.AddRange([2, 10, 0, (byte)irq]);
        U32(body, (uint)gsi);
        body.AddRange([(byte)flags, (byte)(flags >> 8)]);
    }

    private static void U32(List<byte> body, uint value) =>
        body.AddRange([(byte)value, (byte)(value >> 8), (byte)(value >> 16), (byte)(value >> 24)]);
}
