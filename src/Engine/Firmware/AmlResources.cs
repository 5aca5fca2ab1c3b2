using System.Buffers.Binary;

namespace VirtPS.Engine.Firmware;

/// <summary>Builds a resource template: the value of a _CRS (ACPI 6.5 §6.4).</summary>
internal sealed class AmlResources
{
    private const byte WordAddressSpace = 0x88, DwordAddressSpace = 0x87, TypeMemory = 0, TypeIo = 1, TypeBus = 2;

    // General flags of an address space descriptor: minimum and maximum are fixed, positive decode; the bus produces (passes down) it.
    private const byte FixedRange = 0x0C;

    private readonly List<byte> _bytes = [];

    /// <summary>A fixed run of ports with 16-bit decode (§6.4.2.5).</summary>
    public AmlResources Io(ushort port, byte length)
    {
        _bytes.AddRange([0x47, 0x01, (byte)port, (byte)(port >> 8), (byte)port, (byte)(port >> 8), 1, length]);
        return this;
    }

    /// <summary>An edge-triggered, active-high ISA interrupt (§6.4.2.1).</summary>
    public AmlResources Irq(int irq)
    {
        _bytes.AddRange([0x22, (byte)(1 << irq), (byte)((1 << irq) >> 8)]);
        return this;
    }

    public AmlResources BusNumbers(byte first, byte last) => WordRange(TypeBus, 0, first, last);

    /// <summary>A window of ports that the bus decodes; ISA and non-ISA ranges.</summary>
    public AmlResources IoWindow(ushort first, ushort last) => WordRange(TypeIo, 3, first, last);

    /// <summary>A window of addresses below 4 GiB that the bus decodes: read/write, not cacheable.</summary>
    public AmlResources MemoryWindow(uint first, uint last)
    {
        AddressSpace(DwordAddressSpace, TypeMemory, 1, 4, first, last);
        return this;
    }

    public byte[] ToArray() => [.. _bytes, 0x79, 0]; // end tag; checksum 0 means not checked

    private AmlResources WordRange(byte type, byte typeFlags, ushort first, ushort last)
    {
        AddressSpace(WordAddressSpace, type, typeFlags, 2, first, last);
        return this;
    }

    /// <summary>Address space descriptor: granularity, minimum, maximum, translation offset, length (§6.4.3.5).</summary>
    private void AddressSpace(byte tag, byte type, byte typeFlags, int width, uint first, uint last)
    {
        int length = 3 + (5 * width);
        _bytes.AddRange([tag, (byte)length, 0, type, FixedRange, typeFlags]);
        Span<byte> raw = stackalloc byte[4];
        foreach (uint value in (ReadOnlySpan<uint>)[0, first, last, 0, last - first + 1])
        {
            BinaryPrimitives.WriteUInt32LittleEndian(raw, value);
            foreach (byte b in raw[..width])
                _bytes.Add(b);
        }
    }
}
