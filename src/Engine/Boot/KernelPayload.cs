using System.Buffers.Binary;
using System.IO.Compression;
using SharpCompress.Compressors.Xz;
using ZstandardStream = SharpCompress.Compressors.ZStandard.DecompressionStream;

namespace VirtPS.Engine.Boot;

/// <summary>The ELF kernel inside a bzImage (boot protocol 2.08, payload_offset and payload_length), decompressed.</summary>
internal static class KernelPayload
{
    /// <summary>
    /// The payload of <paramref name="image"/> as an image of its own. LZ4 is decompressed as it is read, for which <paramref name="image"/> must live as long as the result; what can only be
    /// decompressed from front to back is in memory.
    /// </summary>
    public static GuestImage Extract(GuestImage image)
    {
        LinuxHeader header = LinuxHeader.Read(image);
        if (header.Version < 0x208 || header.PayloadLength < 8)
        {
            throw ImageFault.At(image.Name, 0x248, "payload_offset", "the kernel does not say where its ELF image is",
                "Start it with -BootKind Linux, or give the ELF vmlinux.");
        }

        ulong offset = header.SetupSize + header.PayloadOffset;
        // The build appends the uncompressed size to every format that does not end with it by itself (gzip does).
        ulong sizeAt = offset + header.PayloadLength - 4;
        uint size = BinaryPrimitives.ReadUInt32LittleEndian(image.Read(sizeAt, 4, "uncompressed size"));
        if (size is 0 or > int.MaxValue)
            throw ImageFault.At(image.Name, sizeAt, "uncompressed size", $"{size} is not plausible", "The file is damaged; fetch it again.");
        string name = $"{image.Name} (decompressed)";
        if (BinaryPrimitives.ReadUInt32LittleEndian(image.Read(offset, 4, "compressed kernel")) == Lz4Frame.Magic)
            return GuestImage.FromFrame(name, new Lz4Frame(image, offset, sizeAt, size));
        byte[] kernel = GC.AllocateUninitializedArray<byte>((int)size);
        try
        {
            Decompress(image, offset, image.Read(offset, header.PayloadLength, "compressed kernel"), kernel);
        }
        catch (Exception e) when (e is InvalidDataException or IOException or SharpCompress.Common.SharpCompressException
            or SharpCompress.Compressors.ZStandard.ZstdException or OverflowException or ArgumentException or IndexOutOfRangeException)
        {
            throw ImageFault.At(image.Name, offset, "compressed kernel", $"cannot be decompressed ({e.Message})", "The file is damaged; fetch it again.", e);
        }

        return GuestImage.FromBytes(name, kernel);
    }

    private static void Decompress(GuestImage image, ulong offset, byte[] payload, byte[] kernel)
    {
        var source = new MemoryStream(payload, 0, payload.Length, writable: false);
        switch (payload)
        {
            case [0x1F, 0x8B, ..]:
                Fill(new GZipStream(source, CompressionMode.Decompress), kernel);
                break;
            case [0xFD, 0x37, 0x7A, 0x58, ..]:
                Fill(new XZStream(source), kernel);
                break;
            case [0x28, 0xB5, 0x2F, 0xFD, ..]:
                Fill(new ZstandardStream(source), kernel);
                break;
            default:
                throw ImageFault.At(image.Name, offset, "compressed kernel",
                    $"starts with {Convert.ToHexString(payload.AsSpan(0, 4))}, which is neither LZ4, gzip, xz nor zstd",
                    "Start it with -BootKind Linux, which leaves decompression to the kernel, or give the ELF vmlinux.");
        }
    }

    private static void Fill(Stream stream, byte[] kernel)
    {
        using (stream)
            stream.ReadExactly(kernel);
    }
}
