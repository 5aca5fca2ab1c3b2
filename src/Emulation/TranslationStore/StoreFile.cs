using System.Numerics;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace VirtPS.Emulation;

/// <summary>
/// A file of <see cref="StoredBlock"/>s, mapped for reading:
/// <code>
/// header · records · index: where the entries of each bucket begin · entries, by bucket · places, in the order of the records
/// </code>
/// A run wants most blocks in the order in which an earlier one did, so that the next record is looked at first (<see cref="StoreCursor"/>), and the buckets only for what is not found so. Header and index are
/// checked when the file is opened, a record when it is first wanted. Immutable but for the marks of what was taken; any number of threads.
/// </summary>
internal sealed unsafe class StoreFile : IDisposable
{
    public const ulong Magic = 0x3143_5456_5350_5256;
    public const int FormatVersion = 3, KeyBytes = 16, Buckets = 1 << 16;

    /// <summary>Entries of one bucket that are looked at, at most.</summary>
    private const int LongestSearch = 64;

    /// <summary>How many of a block's first bytes are hashed: the most of these that it has. Whoever looks for a block does not know how long it is.</summary>
    private static ReadOnlySpan<byte> Classes => [32, 16, 8, 4, 1];

    [StructLayout(LayoutKind.Sequential, Size = 128)]
    public struct Header
    {
        public ulong Magic;
        public int FormatVersion;

        /// <summary>Of the header behind this field.</summary>
        public uint Checksum;
        public fixed byte Key[KeyBytes];
        public long FileLength, IndexOffset;

        /// <summary>Blocks, and how often the file has been written: the clock of <see cref="Entry.LastRun"/>.</summary>
        public int Count;
        public uint Run, IndexChecksum;
    }

    [StructLayout(LayoutKind.Sequential, Size = 16)]
    public struct Entry
    {
        /// <summary>The record's number in the file.</summary>
        public uint Ordinal;

        /// <summary>Of mode, place in the page and the first bytes: as many as the block's class has (<see cref="HashOf"/>).</summary>
        public uint Hash;
        public uint LastRun;
        public ushort ByteCount;
        public ushort Unused;
    }

    /// <summary>Of the record of each number.</summary>
    public struct Place
    {
        /// <summary>Its offset in units of eight bytes.</summary>
        public uint Record;
        public uint Entry;
    }

    private readonly byte* _start;
    private readonly long _length;
    private readonly uint* _buckets;
    private readonly Entry* _entries;
    private readonly Place* _places;

    /// <summary>Per entry: 1, it was taken; 2, its record is damaged.</summary>
    private readonly byte[] _marks;

    private StoreFile(byte* start, long length)
    {
        _start = start;
        _length = length;
        _buckets = (uint*)(start + Head->IndexOffset);
        _entries = (Entry*)(_buckets + Buckets + 1);
        _places = (Place*)(_entries + Head->Count);
        _marks = new byte[Head->Count];
    }

    public Header* Head => (Header*)_start;

    public int Count => _marks.Length;

    /// <summary>Opens a file; null if there is none, or it is somebody else's, of another engine or host, or damaged.</summary>
    public static StoreFile? Open(string path, ReadOnlySpan<byte> key)
    {
        try
        {
            using SafeFileHandle file = File.OpenHandle(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
            long length = RandomAccess.GetLength(file);
            if (!HostFile.IsOursAlone(file) || length < sizeof(Header) + (Buckets + 1) * sizeof(uint) || length > TranslationStore.MaxFileBytes * 2L)
                return null;
            byte* start = HostFile.Map(file, length);
            if (start == null)
                return null;
            if (IsGood(start, length, key))
                return new StoreFile(start, length);
            HostFile.Unmap(start, length);
            return null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    private static bool IsGood(byte* start, long length, ReadOnlySpan<byte> key)
    {
        var h = (Header*)start;
        if (h->Magic != Magic || h->FormatVersion != FormatVersion || h->FileLength != length || h->Checksum != ChecksumOf(h) || !key.SequenceEqual(new ReadOnlySpan<byte>(h->Key, KeyBytes)))
            return false;
        long index = h->IndexOffset, indexBytes = (Buckets + 1) * sizeof(uint) + h->Count * (long)(sizeof(Entry) + sizeof(Place));
        if (h->Count < 0 || index < sizeof(Header) || (index & 7) != 0 || index + indexBytes != length || StoredBlock.Crc(start + index, (int)indexBytes) != h->IndexChecksum)
            return false;
        uint* buckets = (uint*)(start + index);
        for (int i = 0; i < Buckets; i++)
        {
            if (buckets[i] > buckets[i + 1])
                return false;
        }

        return buckets[0] == 0 && buckets[Buckets] == h->Count;
    }

    public static uint ChecksumOf(Header* h)
    {
        byte* from = (byte*)&h->Checksum + sizeof(uint);
        return StoredBlock.Crc(from, (int)((byte*)(h + 1) - from));
    }

    private static uint HashOf(uint mode, int pageOffset, byte* bytes, int count)
    {
        uint h = BitOperations.Crc32C(mode, (uint)pageOffset << 8 | (uint)count);
        if (count < 4)
            return BitOperations.Crc32C(h, *bytes);
        if (count == 4)
            return BitOperations.Crc32C(h, *(uint*)bytes);
        for (int i = 0; i < count; i += 8)
            h = BitOperations.Crc32C(h, *(ulong*)(bytes + i));
        return h;
    }

    /// <summary>The hash under which a block is found.</summary>
    public static uint HashOf(StoredBlock* b)
    {
        foreach (byte bytes in Classes)
        {
            if (b->ByteCount >= bytes)
                return HashOf(b->Mode, b->PageOffset, StoredBlock.Bytes(b), bytes);
        }

        throw new ArgumentException("A block has no bytes.");
    }

    public static int BucketOf(uint hash) => (int)(hash * 0x9E3779B1 >> 16);

    /// <summary>
    /// The block of a mode whose bytes are those at <paramref name="source"/>, of which <paramref name="available"/> are in its page; null if there is none. The bytes
    /// may change meanwhile: whoever uses it compares again.
    /// </summary>
    public StoredBlock* Find(ref StoreCursor cursor, uint mode, int pageOffset, byte* source, int available)
    {
        var bytes = new ReadOnlySpan<byte>(source, available);
        for (int i = 0; i < StoreCursor.Length; i++)
        {
            StoredBlock* expected = Take(cursor.Next(i), mode, pageOffset, bytes);
            if (expected == null)
                continue;
            cursor.Advance(i);
            return expected;
        }

        foreach (byte count in Classes)
        {
            if (count > available)
                continue;
            StoredBlock* b = FindHashed(ref cursor, HashOf(mode, pageOffset, source, count), mode, pageOffset, bytes);
            if (b != null)
                return b;
        }

        return null;
    }

    private StoredBlock* FindHashed(ref StoreCursor cursor, uint hash, uint mode, int pageOffset, ReadOnlySpan<byte> source)
    {
        int bucket = BucketOf(hash);
        int at = (int)_buckets[bucket], end = Math.Min((int)_buckets[bucket + 1], at + LongestSearch);
        for (; at < end; at++)
        {
            if (_entries[at].Hash != hash || _entries[at].ByteCount > source.Length)
                continue;
            StoredBlock* b = Take(_entries[at].Ordinal, mode, pageOffset, source);
            if (b == null)
                continue;
            cursor.Follow(_entries[at].Ordinal);
            return b;
        }

        return null;
    }

    /// <summary>The record of a number, if it is the block that is wanted.</summary>
    private StoredBlock* Take(uint ordinal, uint mode, int pageOffset, ReadOnlySpan<byte> source)
    {
        StoredBlock* b = HeadOf(ordinal);
        if (b == null || b->Mode != mode || b->PageOffset != pageOffset || b->ByteCount > source.Length || (byte*)(b + 1) + b->ByteCount > (byte*)_buckets
            || !source.StartsWith(new ReadOnlySpan<byte>(StoredBlock.Bytes(b), b->ByteCount)))
            return null;
        uint entry = _places[ordinal].Entry;
        if (entry >= Count || _marks[entry] == 2)
            return null;
        // Whatever it is, it is looked at once.
        if (_marks[entry] == 0)
            _marks[entry] = IsWhole(b, entry) ? (byte)1 : (byte)2;
        return _marks[entry] == 1 ? b : null;
    }

    private bool IsWhole(StoredBlock* b, uint entry) => StoredBlock.IsWhole(b, (byte*)_buckets - (byte*)b) && b->ByteCount == _entries[entry].ByteCount;

    /// <summary>Where the record of a number begins; null: nowhere. What is there has not been checked.</summary>
    private StoredBlock* HeadOf(uint ordinal)
    {
        if (ordinal >= Count)
            return null;
        long offset = _places[ordinal].Record * 8L;
        return offset < sizeof(Header) || offset + sizeof(StoredBlock) > Head->IndexOffset ? null : (StoredBlock*)(_start + offset);
    }

    /// <summary>The record of a number; null: it is damaged.</summary>
    public StoredBlock* RecordAt(int ordinal)
    {
        StoredBlock* b = HeadOf((uint)ordinal);
        uint entry = _places[ordinal].Entry;
        return b != null && entry < Count && IsWhole(b, entry) ? b : null;
    }

    /// <summary>The run that last took a record: now, or before.</summary>
    public uint LastRunOf(int ordinal)
    {
        uint entry = _places[ordinal].Entry;
        return entry >= Count ? 0 : _marks[entry] == 1 ? Head->Run + 1 : _entries[entry].LastRun;
    }

    public void Dispose() => HostFile.Unmap(_start, _length);
}
