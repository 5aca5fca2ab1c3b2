using System.Buffers.Binary;
using VirtPS.Sdk.Machine;
using VirtPS.Sdk.Memory;

namespace VirtPS.Engine.Firmware;

/// <summary>
/// Puts into guest memory what a PC's firmware would leave behind: interrupt vectors that only return, the BIOS data area, the ACPI tables. There are no
/// BIOS services behind the vectors.
/// </summary>
public static class FirmwareWriter
{
    /// <summary>Interrupt vectors and BIOS data end here; loaders put nothing below.</summary>
    public const ulong BiosDataEnd = 0x600;

    private const ulong ReturnStub = 0xFFFE0;

    /// <summary>Writes everything; returns the guest-physical address of the RSDP.</summary>
    public static ulong Write(GuestMemory memory, FirmwarePlatform platform)
    {
        AcpiTables tables = AcpiTables.Build(platform, MemoryLayout.FirmwareArea);
        if (MemoryLayout.FirmwareArea + (ulong)tables.Content.Length > ReturnStub)
            throw new InvalidOperationException("The ACPI tables do not fit below 1 MiB.");
        Put(memory, MemoryLayout.FirmwareArea, tables.Content.Span);
        Put(memory, 0, InterruptVectors());
        Put(memory, ReturnStub, [0xCF]); // IRET
        Put(memory, 0x400, BiosData(platform));
        Span<byte> ebda = stackalloc byte[16];
        ebda.Clear();
        ebda[0] = 1; // its size in KiB
        Put(memory, MemoryLayout.EbdaStart, ebda);
        return tables.Rsdp;
    }

    private static byte[] InterruptVectors()
    {
        byte[] table = new byte[256 * 4];
        for (int i = 0; i < 256; i++)
        {
            BinaryPrimitives.WriteUInt16LittleEndian(table.AsSpan(i * 4), (ushort)(ReturnStub & 0xFFFF));
            BinaryPrimitives.WriteUInt16LittleEndian(table.AsSpan((i * 4) + 2), 0xF000);
        }

        return table;
    }

    /// <summary>BIOS data area: COM port bases, EBDA segment, equipment word, kilobytes of conventional memory.</summary>
    private static byte[] BiosData(FirmwarePlatform platform)
    {
        byte[] data = new byte[0x100];
        ReadOnlySpan<ushort> ports = [PcLayout.Com1Port, PcLayout.Com2Port, PcLayout.Com3Port, PcLayout.Com4Port];
        foreach (int com in platform.SerialPorts)
            BinaryPrimitives.WriteUInt16LittleEndian(data.AsSpan((com - 1) * 2), ports[com - 1]);
        BinaryPrimitives.WriteUInt16LittleEndian(data.AsSpan(0x0E), (ushort)(MemoryLayout.EbdaStart >> 4));
        BinaryPrimitives.WriteUInt16LittleEndian(data.AsSpan(0x10), (ushort)(platform.SerialPorts.Count << 9));
        BinaryPrimitives.WriteUInt16LittleEndian(data.AsSpan(0x13), (ushort)(MemoryLayout.EbdaStart >> 10));
        return data;
    }

    private static void Put(GuestMemory memory, ulong address, ReadOnlySpan<byte> content)
    {
        if (!memory.TryWrite(address, content))
            throw new InvalidOperationException($"There is no RAM at 0x{address:X}, where the firmware's data belongs.");
    }
}
