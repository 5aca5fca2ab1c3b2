using System.Buffers;
using System.Buffers.Binary;
using System.Runtime.ExceptionServices;
using K4os.Compression.LZ4;

namespace VirtPS.Engine.Boot;

/// <summary>
/// LZ4's legacy frame in an image: blocks of 8 MiB (the last one is smaller), each with its compressed size before it; the magic may repeat. Blocks do not refer to each other, so what is wanted is
/// decompressed where it is wanted, on all processors: whole blocks straight into their destination, parts of blocks by way of a buffer. Not thread-safe.
/// </summary>
internal sealed unsafe class Lz4Frame
{
    public const uint Magic = 0x184C2102;
    private const int BlockSize = 8 << 20;
    private readonly GuestImage _image;
    private readonly List<(ulong Offset, int Size)> _blocks = [];

    /// <summary>Reads that end so far into a block decompress no more of it.</summary>
    private const int Beginning = 64 << 10;

    /// <summary>A block of which parts were wanted, whole.</summary>
    private sealed class Part
    {
        public byte[] Content = [];
        public int Block = -1;

        /// <summary>The content is the block's; until then it is taken for it.</summary>
        public bool IsFilled;
    }

    /// <summary>Two, since a read begins in one block and ends in another.</summary>
    private readonly Part[] _parts = [new(), new()];

    /// <summary>Ranges that will be read, and their content once their block has been decompressed for something else.</summary>
    private readonly List<(ulong Offset, byte[] Content, bool[] IsFilled)> _kept = [];

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

    /// <summary>A range that will be read later: what comes by it until then is not decompressed for it again.</summary>
    public void Expect(ulong offset, int length)
    {
        if (length > 0 && offset + (ulong)length <= Length && offset / BlockSize == (offset + (ulong)length - 1) / BlockSize)
            _kept.Add((offset, new byte[length], new bool[1]));
    }

    /// <summary>Fills <paramref name="destination"/>, which lies within <see cref="Length"/>.</summary>
    public void Read(ulong offset, Span<byte> destination)
    {
        if (destination.IsEmpty || TryReadKept(offset, destination) || TryReadBeginning(offset, destination))
            return;
        ulong end = offset + (ulong)destination.Length;
        int first = (int)(offset / BlockSize), last = (int)((end - 1) / BlockSize);
        Part? firstPart = IsWhole(first, offset, end) ? null : PartFor(first, keep: last);
        Part? lastPart = last == first || IsWhole(last, offset, end) ? null : PartFor(last, keep: first);
        // SAFETY: each block writes to its own bytes of the destination, which does not move until all are done.
        fixed (byte* to = destination)
        {
            byte* start = to;
            try
            {
                Parallel.For(first, last + 1, i => ReadBlock(i, offset, end, start, i == first ? firstPart : i == last ? lastPart : null));
            }
            catch (AggregateException e)
            {
                ExceptionDispatchInfo.Throw(e.InnerException!);
            }
        }
    }

    private bool IsWhole(int block, ulong offset, ulong end) => StartOf(block) >= offset && StartOf(block) + (ulong)SizeOf(block) <= end;

    private static ulong StartOf(int block) => (ulong)block * BlockSize;

    /// <summary>What a block has of the range that goes to <paramref name="destination"/>; by way of <paramref name="part"/> unless that is all of the block.</summary>
    private void ReadBlock(int block, ulong offset, ulong end, byte* destination, Part? part)
    {
        ulong from = Math.Max(offset, StartOf(block)), to = Math.Min(end, StartOf(block) + (ulong)SizeOf(block));
        var wanted = new Span<byte>(destination + (from - offset), (int)(to - from));
        if (part is null)
        {
            Decompress(block, wanted);
            Keep(block, wanted);
            return;
        }

        Span<byte> content = part.Content.AsSpan(0, SizeOf(block));
        if (!part.IsFilled)
        {
            Decompress(block, content);
            Keep(block, content);
            part.IsFilled = true;
        }

        content.Slice((int)(from - StartOf(block)), wanted.Length).CopyTo(wanted);
    }

    /// <summary>The part that is a block's, or becomes it: not the one that is that of block <paramref name="keep"/>.</summary>
    private Part PartFor(int block, int keep)
    {
        Part part = _parts[0].Block == block || (_parts[1].Block != block && _parts[0].Block != keep) ? _parts[0] : _parts[1];
        if (part.Content.Length == 0)
            part.Content = GC.AllocateUninitializedArray<byte>((int)Math.Min(BlockSize, Length));
        if (part.Block != block)
            (part.Block, part.IsFilled) = (block, false);
        return part;
    }

    private bool TryReadKept(ulong offset, Span<byte> destination)
    {
        foreach ((ulong start, byte[] content, bool[] isFilled) in _kept)
        {
            if (isFilled[0] && offset >= start && offset + (ulong)destination.Length <= start + (ulong)content.Length)
            {
                content.AsSpan((int)(offset - start), destination.Length).CopyTo(destination);
                return true;
            }
        }

        return false;
    }

    private void Keep(int block, ReadOnlySpan<byte> content)
    {
        foreach ((ulong start, byte[] kept, bool[] isFilled) in _kept)
        {
            if (start / BlockSize != (ulong)block)
                continue;
            content.Slice((int)(start % BlockSize), kept.Length).CopyTo(kept);
            isFilled[0] = true;
        }
    }

    private bool TryReadBeginning(ulong offset, Span<byte> destination)
    {
        int block = (int)(offset / BlockSize), at = (int)(offset % BlockSize), end = at + destination.Length;
        if (end > Math.Min(Beginning, SizeOf(block)) || _parts.Any(p => p.Block == block && p.IsFilled))
            return false;
        byte[] beginning = new byte[end];
        Decompress(block, beginning);
        beginning.AsSpan(at).CopyTo(destination);
        return true;
    }

    private int SizeOf(int index) => (int)Math.Min(BlockSize, Length - (ulong)index * BlockSize);

    /// <summary>Decompresses a block, or the first bytes of it.</summary>
    private void Decompress(int index, Span<byte> destination)
    {
        (ulong offset, int size) = _blocks[index];
        byte[] rented = ArrayPool<byte>.Shared.Rent(size);
        Span<byte> compressed = rented.AsSpan(0, size);
        _image.Read(offset, compressed, "LZ4 block");
        int n = destination.Length < SizeOf(index) ? LZ4Codec.PartialDecode(compressed, destination) : LZ4Codec.Decode(compressed, destination);
        ArrayPool<byte>.Shared.Return(rented);
        if (n != destination.Length)
            throw Damaged(offset, "LZ4 block", n < 0 ? "cannot be decompressed" : $"gives {n} bytes, {destination.Length} are announced");
    }

    private Exception Damaged(ulong offset, string field, string problem) => ImageFault.At(_image.Name, offset, field, problem, "The file is damaged; fetch it again.");
}
