using System.Runtime.InteropServices;

namespace VirtPS.Emulation;

/// <summary>Writes a <see cref="StoreFile"/>: records as they come, then the index, then the header.</summary>
internal sealed unsafe class StoreWriter
{
    private readonly Stream _stream;
    private readonly byte[] _key;
    private readonly List<(int Bucket, StoreFile.Entry Entry)> _entries = [];
    private readonly List<StoreFile.Place> _places = [];

    public StoreWriter(Stream stream, byte[] key, uint run)
    {
        (_stream, _key, Run) = (stream, key, run);
        // The header's place.
        _stream.Write(new byte[sizeof(StoreFile.Header)]);
        Length = sizeof(StoreFile.Header);
    }

    public uint Run { get; }

    /// <summary>Bytes of header and records so far.</summary>
    public long Length { get; private set; }

    public void Add(StoredBlock* b, uint lastRun)
    {
        var entry = new StoreFile.Entry { Ordinal = (uint)_places.Count, Hash = StoreFile.HashOf(b), LastRun = lastRun, ByteCount = b->ByteCount };
        _entries.Add((StoreFile.BucketOf(entry.Hash), entry));
        _places.Add(new StoreFile.Place { Record = (uint)(Length / 8) });
        _stream.Write(new ReadOnlySpan<byte>(b, (int)b->Length));
        Length += b->Length;
    }

    public void Finish()
    {
        byte[] index = MakeIndex();
        _stream.Write(index);
        var header = new StoreFile.Header
        {
            Magic = StoreFile.Magic, FormatVersion = StoreFile.FormatVersion, FileLength = Length + index.Length, IndexOffset = Length, Count = _entries.Count, Run = Run,
        };
        _key.CopyTo(new Span<byte>(header.Key, StoreFile.KeyBytes));
        fixed (byte* p = index)
            header.IndexChecksum = StoredBlock.Crc(p, index.Length);
        header.Checksum = StoreFile.ChecksumOf(&header);
        _stream.Position = 0;
        _stream.Write(new ReadOnlySpan<byte>(&header, sizeof(StoreFile.Header)));
        _stream.Flush();
    }

    /// <summary>Counting sort by bucket: within one, what came first stays first.</summary>
    private byte[] MakeIndex()
    {
        const int BucketBytes = (StoreFile.Buckets + 1) * sizeof(uint);
        int entryBytes = _entries.Count * sizeof(StoreFile.Entry);
        var index = new byte[BucketBytes + entryBytes + _places.Count * sizeof(StoreFile.Place)];
        Span<uint> starts = MemoryMarshal.Cast<byte, uint>(index.AsSpan(0, BucketBytes));
        Span<StoreFile.Entry> sorted = MemoryMarshal.Cast<byte, StoreFile.Entry>(index.AsSpan(BucketBytes, entryBytes));
        Span<StoreFile.Place> places = MemoryMarshal.Cast<byte, StoreFile.Place>(index.AsSpan(BucketBytes + entryBytes));
        foreach ((int bucket, _) in _entries)
            starts[bucket + 1]++;
        for (int i = 0; i < StoreFile.Buckets; i++)
            starts[i + 1] += starts[i];
        uint[] next = starts.ToArray();
        foreach ((int bucket, StoreFile.Entry entry) in _entries)
        {
            uint at = next[bucket]++;
            sorted[(int)at] = entry;
            places[(int)entry.Ordinal] = _places[(int)entry.Ordinal] with { Entry = at };
        }

        return index;
    }
}
