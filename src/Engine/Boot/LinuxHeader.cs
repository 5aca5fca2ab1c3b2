using System.Buffers.Binary;

namespace VirtPS.Engine.Boot;

/// <summary>The setup header of a bzImage (Linux x86 boot protocol, Documentation/arch/x86/boot.rst). Offsets are file offsets.</summary>
internal sealed class LinuxHeader
{
    public const int FirstByte = 0x1F1;

    /// <summary>Bytes that <see cref="Recognises"/> needs.</summary>
    public const int RecognisedBy = 0x206;

    private const int Smallest = 0x268;
    private const int BootFlag = 0x1FE, Jump = 0x200, Magic = 0x202;
    private const uint HdrS = 0x53726448;

    private readonly byte[] _bytes;

    private LinuxHeader(byte[] bytes) => _bytes = bytes;

    /// <summary>Protocol version, 0x020C for 2.12.</summary>
    public ushort Version => U16(0x206);

    /// <summary>Bytes of real-mode code before the kernel proper.</summary>
    public ulong SetupSize => ((_bytes[FirstByte] == 0 ? 4ul : _bytes[FirstByte]) + 1) * 512;

    /// <summary>Bytes of the protected-mode part.</summary>
    public ulong KernelSize => (ulong)U32(0x1F4) * 16;

    public bool LoadedHigh => (_bytes[0x211] & 1) != 0;

    public bool Has64BitEntry => (U16(0x236) & 1) != 0;

    /// <summary>Longest command line in bytes, without the terminating NUL.</summary>
    public uint CommandLineSize => U32(0x238);

    /// <summary>Highest address that the initrd may occupy.</summary>
    public uint InitrdAddressMax => U32(0x22C);

    public ulong PreferredAddress => BinaryPrimitives.ReadUInt64LittleEndian(_bytes.AsSpan(0x258));

    /// <summary>Bytes from the load address that the kernel needs before it looks at the memory map.</summary>
    public uint InitSize => U32(0x260);

    /// <summary>Offset of the compressed kernel in the protected-mode part, and its length.</summary>
    public uint PayloadOffset => U32(0x248);

    public uint PayloadLength => U32(0x24C);

    /// <summary>The bytes to copy into the zero page, from <see cref="FirstByte"/> on.</summary>
    public ReadOnlySpan<byte> SetupHeader => _bytes.AsSpan(FirstByte, Math.Min(_bytes.Length, Magic + _bytes[Jump + 1]) - FirstByte);

    public static bool Recognises(ReadOnlySpan<byte> header) =>
        header.Length >= Magic + 4 && BinaryPrimitives.ReadUInt32LittleEndian(header[Magic..]) == HdrS
        && BinaryPrimitives.ReadUInt16LittleEndian(header[BootFlag..]) == 0xAA55;

    /// <summary>Reads and checks the header.</summary>
    public static LinuxHeader Read(GuestImage image)
    {
        byte[] bytes = image.ReadHeader(0x2D0);
        if (!Recognises(bytes))
        {
            throw ImageFault.At(image.Name, Magic, "setup header", "not a Linux bzImage: the signature 'HdrS' is missing",
                "Give the kernel's bzImage (usually /boot/vmlinuz-…), or choose another -BootKind.");
        }

        if (bytes.Length < Smallest)
            throw ImageFault.At(image.Name, (ulong)bytes.Length, "setup header", "the file ends inside it", "The file is cut off; fetch it again.");
        var header = new LinuxHeader(bytes);
        if (header.SetupSize >= image.Length)
        {
            throw ImageFault.At(image.Name, FirstByte, "setup_sects", $"the set-up code alone has {header.SetupSize} bytes, the file {image.Length}",
                "The file is cut off; fetch it again.");
        }

        // syssize counts 16-byte paragraphs, rounded up: the file may end inside the last one (memtest86+ does).
        if (header.KernelSize >= image.Length - header.SetupSize + 16)
        {
            throw ImageFault.At(image.Name, 0x1F4, "syssize",
                $"the kernel has {header.SetupSize + header.KernelSize} bytes, the file only {image.Length}", "The file is cut off; fetch it again.");
        }

        return header;
    }

    private ushort U16(int offset) => BinaryPrimitives.ReadUInt16LittleEndian(_bytes.AsSpan(offset));

    private uint U32(int offset) => BinaryPrimitives.ReadUInt32LittleEndian(_bytes.AsSpan(offset));
}
