using System.Buffers.Binary;

namespace VirtPS.Strategy.Para.Block;

/// <summary>Operations and results of blkif (xen/include/public/io/blkif.h).</summary>
internal static class BlockAbi
{
    public const byte Read = 0, Write = 1, WriteBarrier = 2, FlushCache = 3, Discard = 5, Indirect = 6;

    public const short Okay = 0, Error = -1, NotSupported = -2;

    public const int SectorSize = 512, SectorsPerPage = 8, PageSize = 4096;

    /// <summary>Bytes of an entry, which request and response share, and of the ring's header.</summary>
    public const int EntryBytes = 112, HeaderBytes = 64;

    public const int SegmentsPerRequest = 11, IndirectPages = 8, SegmentBytes = 8, SegmentsPerPage = PageSize / SegmentBytes;

    /// <summary>Entries in a ring of so many pages: what fits, rounded down to a power of two.</summary>
    public static int EntriesIn(int pages) => 1 << System.Numerics.BitOperations.Log2((uint)((pages * PageSize) - HeaderBytes) / EntryBytes);
}

/// <summary>A part of a page: sectors <paramref name="First"/> to <paramref name="Last"/> of 512 bytes.</summary>
internal readonly record struct BlockSegment(uint Reference, int First, int Last)
{
    public int Offset => First * BlockAbi.SectorSize;

    public int Length => (Last - First + 1) * BlockAbi.SectorSize;

    public static BlockSegment Parse(ReadOnlySpan<byte> entry) => new(BinaryPrimitives.ReadUInt32LittleEndian(entry), entry[4], entry[5]);

    public bool IsValid => First <= Last && Last < BlockAbi.SectorsPerPage;
}

/// <summary>
/// A request, made of the worker's own copy of a ring entry: the guest cannot change it any more. Nothing in it is believed: <see cref="IsMalformed"/> says what cannot be.
/// </summary>
internal sealed class BlockRequest
{
    /// <summary>What is asked; for an indirect request what it stands for.</summary>
    public byte Operation { get; private init; }

    public bool IsIndirect { get; private init; }

    /// <summary>The guest's own name for it; comes back in the response.</summary>
    public ulong Id { get; private init; }

    /// <summary>First sector, in units of 512 bytes whatever the disk's sector size is.</summary>
    public ulong Sector { get; private init; }

    /// <summary>Of a discard.</summary>
    public ulong SectorCount { get; private init; }

    /// <summary>How many segments it says it has.</summary>
    public int SegmentCount { get; private init; }

    /// <summary>Of a direct request; those of an indirect one stand in granted pages.</summary>
    public IReadOnlyList<BlockSegment> Segments { get; set; } = [];

    /// <summary>The pages that hold an indirect request's segments.</summary>
    public IReadOnlyList<uint> IndirectReferences { get; private init; } = [];

    public bool IsMalformed { get; private init; }

    public int Length => Segments.Sum(s => s.Length);

    /// <param name="entry">112 bytes, a copy.</param>
    /// <param name="maxIndirect">Segments that an indirect request may have.</param>
    public static BlockRequest Parse(ReadOnlySpan<byte> entry, int maxIndirect)
    {
        ulong id = BinaryPrimitives.ReadUInt64LittleEndian(entry[8..]), sector = BinaryPrimitives.ReadUInt64LittleEndian(entry[16..]);
        byte operation = entry[0];
        return operation switch
        {
            BlockAbi.Indirect => ParseIndirect(entry, id, sector, maxIndirect),
            BlockAbi.Discard => new BlockRequest { Operation = operation, Id = id, Sector = sector, SectorCount = BinaryPrimitives.ReadUInt64LittleEndian(entry[24..]) },
            _ => ParseDirect(entry, operation, id, sector),
        };
    }

    private static BlockRequest ParseDirect(ReadOnlySpan<byte> entry, byte operation, ulong id, ulong sector)
    {
        int count = entry[1];
        bool malformed = count > BlockAbi.SegmentsPerRequest || (count == 0 && operation is BlockAbi.Read or BlockAbi.Write);
        var segments = new BlockSegment[malformed ? 0 : count];
        for (int i = 0; i < segments.Length; i++)
        {
            segments[i] = BlockSegment.Parse(entry[(24 + (i * BlockAbi.SegmentBytes))..]);
            malformed |= !segments[i].IsValid;
        }

        return new BlockRequest { Operation = operation, Id = id, Sector = sector, SegmentCount = count, Segments = segments, IsMalformed = malformed };
    }

    private static BlockRequest ParseIndirect(ReadOnlySpan<byte> entry, ulong id, ulong sector, int maxIndirect)
    {
        byte operation = entry[1];
        int count = BinaryPrimitives.ReadUInt16LittleEndian(entry[2..]);
        bool malformed = count == 0 || count > maxIndirect || operation is not (BlockAbi.Read or BlockAbi.Write);
        var references = new uint[malformed ? 0 : (count + BlockAbi.SegmentsPerPage - 1) / BlockAbi.SegmentsPerPage];
        for (int i = 0; i < references.Length; i++)
            references[i] = BinaryPrimitives.ReadUInt32LittleEndian(entry[(28 + (i * sizeof(uint)))..]);
        return new BlockRequest { Operation = operation, IsIndirect = true, Id = id, Sector = sector, SegmentCount = count, IndirectReferences = references, IsMalformed = malformed };
    }
}
