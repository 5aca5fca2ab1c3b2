using System.Buffers.Binary;
using System.IO.Compression;
using K4os.Compression.LZ4;
using SharpCompress.Compressors.Xz;
using ZstandardStream = SharpCompress.Compressors.ZStandard.DecompressionStream;

namespace VirtPS.Engine.Boot;

/// <summary>The ELF kernel inside a bzImage (boot protocol 2.08, payload_offset and payload_length), decompressed.</summary>
internal static class KernelPayload
{
    private const uint Lz4Legacy = 0x184C2102;
    private const int Lz4BlockSize = 8 << 20;

    /// <summary>Decompresses the payload of <paramref name="image"/>; the result is an image of its own in memory.</summary>
    public static GuestImage Extract(GuestImage image)
    {
        LinuxHeader header = LinuxHeader.Read(image);
        if (header.Version < 0x208 || header.PayloadLength < 8)
        {
            throw ImageFault.At(image.Name, 0x248, "payload_offset", "the kernel does not say where its ELF image is",
                "Start it with -BootKind Linux, or give the ELF vmlinux.");
        }

        ulong offset = header.SetupSize + header.PayloadOffset;
        byte[] payload = image.Read(offset, header.PayloadLength, "compressed kernel");
        // The build appends the uncompressed size to every format that does not end with it by itself (gzip does).
        uint size = BinaryPrimitives.ReadUInt32LittleEndian(payload.AsSpan(payload.Length - 4));
        if (size is 0 or > int.MaxValue)
            throw ImageFault.At(image.Name, offset + (ulong)payload.Length - 4, "uncompressed size", $"{size} is not plausible", "The file is damaged; fetch it again.");
        byte[] kernel = new byte[size];
        try
        {
            Decompress(image, offset, payload, kernel);
        }
        catch (Exception e) when (e is InvalidDataException or IOException or SharpCompress.Common.SharpCompressException
            or SharpCompress.Compressors.ZStandard.ZstdException or OverflowException or ArgumentException or IndexOutOfRangeException)
        {
            throw ImageFault.At(image.Name, offset, "compressed kernel", $"cannot be decompressed ({e.Message})", "The file is damaged; fetch it again.", e);
        }

        return GuestImage.FromBytes($"{image.Name} (decompressed)", kernel);
    }

    private static void Decompress(GuestImage image, ulong offset, byte[] payload, byte[] kernel)
    {
        var source = new MemoryStream(payload, 0, payload.Length, writable: false);
        switch (payload)
        {
            case [0x02, 0x21, 0x4C, 0x18, ..]:
                DecompressLz4(image.Name, offset, payload.AsSpan(0, payload.Length - 4), kernel);
                break;
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

    /// <summary>LZ4's legacy frame: blocks of at most 8 MiB, each with its compressed size before it; the magic may repeat.</summary>
    private static void DecompressLz4(string file, ulong fileOffset, ReadOnlySpan<byte> payload, Span<byte> kernel)
    {
        int read = 0, written = 0;
        while (payload.Length - read >= 4 && written < kernel.Length)
        {
            uint blockSize = BinaryPrimitives.ReadUInt32LittleEndian(payload[read..]);
            read += 4;
            if (blockSize == Lz4Legacy)
                continue;
            if (blockSize > (uint)(payload.Length - read))
                throw ImageFault.At(file, fileOffset + (ulong)read - 4, "LZ4 block size", $"{blockSize} bytes reach beyond the payload", "The file is damaged; fetch it again.");
            int room = Math.Min(kernel.Length - written, Lz4BlockSize);
            int n = LZ4Codec.Decode(payload.Slice(read, (int)blockSize), kernel.Slice(written, room));
            if (n < 0)
                throw ImageFault.At(file, fileOffset + (ulong)read, "LZ4 block", "cannot be decompressed", "The file is damaged; fetch it again.");
            (read, written) = (read + (int)blockSize, written + n);
        }

        if (written != kernel.Length)
            throw ImageFault.At(file, fileOffset, "compressed kernel", $"gives {written} bytes, {kernel.Length} are announced", "The file is damaged; fetch it again.");
    }
}
