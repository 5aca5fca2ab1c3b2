using System.Buffers;
using System.Buffers.Binary;
using System.Runtime.ExceptionServices;
using K4os.Compression.LZ4;

namespace VirtPS.Engine.Boot;

/// <summary>
/// LZ4's legacy frame in an image: blocks of 8 MiB (the last one is smaller), each with its compressed size before it; the magic may repeat. Blocks do not refer to each other, so what is wanted is
/// decompressed where it is wanted: whole blocks straight into their destination, on all processors. Not thread-safe.
/// </summary>
internal sealed unsafe class Lz4Frame
{
    public const uint Magic = 0x184C2102;
    private const int BlockSize = 8 << 20;
    private readonly GuestImage _image;
    private readonly List<(ulong Offset, int Size)> _blocks = [];
    private byte[] _part = [];
    private int _partIndex = -1;

    /// <summary>Finds the blocks of the frame in bytes <paramref name="start"/> to <paramref name="end"/> of <paramref name="image"/>, which must live as long as this.</summary>
    public Lz4Frame(GuestImage image, ulong start, ulong end, ulong length)
    {
        (_image, Length) = (image, length);
        Span<byte> field = stackalloc byte[4];
        while (end - start >= 4)
        {
            image.Read(start, field, "LZ4 block size");
            uint size = BinaryPrimitives.ReadUInt32LittleEndian(field);
            start += 4;
            if (size == Magic)
                continue;
            if (size > end - start)
                throw Damaged(start - 4, "LZ4 block size", $"{size} bytes reach beyond the payload");
            _blocks.Add((start, (int)size));
            start += size;
        }

        if (length > (ulong)_blocks.Count * BlockSize || length <= (ulong)(_blocks.Count - 1) * BlockSize)
            throw Damaged(end, "uncompressed size", $"{length} bytes are announced, which {_blocks.Count} LZ4 blocks do not make");
    }

    /// <summary>Bytes when decompressed.</summary>
    public ulong Length { get; }

    /// <summary>Fills <paramref name="destination"/>, which lies within <see cref="Length"/>.</summary>
    public void Read(ulong offset, Span<byte> destination)
    {
        while (destination.Length > 0)
        {
            int index = (int)(offset / BlockSize), at = (int)(offset % BlockSize);
            int n = at == 0 ? DecompressWhole(index, destination) : 0;
            if (n == 0)
            {
                n = Math.Min(SizeOf(index) - at, destination.Length);
                PartOf(index).Slice(at, n).CopyTo(destination);
            }

            destination = destination[n..];
            offset += (ulong)n;
        }
    }

    /// <summary>Decompresses the blocks from <paramref name="first"/> on that are wanted whole; how many bytes they are.</summary>
    private int DecompressWhole(int first, Span<byte> destination)
    {
        int end = first, length = 0;
        while (end < _blocks.Count && SizeOf(end) <= destination.Length - length)
            length += SizeOf(end++);
        // SAFETY: the blocks lie within the destination, which does not move until all are done.
        fixed (byte* to = destination)
        {
            byte* start = to;
            try
            {
                Parallel.For(first, end, i => Decompress(i, new Span<byte>(start + (long)(i - first) * BlockSize, SizeOf(i))));
            }
            catch (AggregateException e)
            {
                ExceptionDispatchInfo.Throw(e.InnerException!);
            }
        }

        return length;
    }

    private int SizeOf(int index) => (int)Math.Min(BlockSize, Length - (ulong)index * BlockSize);

    /// <summary>A block that is wanted in pieces, kept until another one is.</summary>
    private ReadOnlySpan<byte> PartOf(int index)
    {
        if (_part.Length == 0)
            _part = GC.AllocateUninitializedArray<byte>((int)Math.Min(BlockSize, Length));
        Span<byte> part = _part.AsSpan(0, SizeOf(index));
        if (_partIndex != index)
        {
            _partIndex = -1;
            Decompress(index, part);
            _partIndex = index;
        }

        return part;
    }

    private void Decompress(int index, Span<byte> destination)
    {
        (ulong offset, int size) = _blocks[index];
        byte[] rented = ArrayPool<byte>.Shared.Rent(size);
        Span<byte> compressed = rented.AsSpan(0, size);
        _image.Read(offset, compressed, "LZ4 block");
        int n = LZ4Codec.Decode(compressed, destination);
        ArrayPool<byte>.Shared.Return(rented);
        if (n != destination.Length)
            throw Damaged(offset, "LZ4 block", n < 0 ? "cannot be decompressed" : $"gives {n} bytes, {destination.Length} are announced");
    }

    private Exception Damaged(ulong offset, string field, string problem) => ImageFault.At(_image.Name, offset, field, problem, "The file is damaged; fetch it again.");
}
