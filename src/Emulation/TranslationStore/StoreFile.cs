using System.Numerics;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace VirtPS.Emulation;

/// <summary>
/// A file of <see cref="StoredBlock"/>s, mapped for reading:
/// <code>
/// header · records · index: where the entries of each bucket begin · entries, by bucket
/// </code>
/// Header and index are checked when it is opened, a record when it is first wanted. Immutable but for the marks of what was taken; any number of threads.
/// </summary>
internal sealed unsafe class StoreFile : IDisposable
{
    public const ulong Magic = 0x3143_5456_5350_5256;
    public const int FormatVersion = 2, KeyBytes = 32, Buckets = 1 << 16;

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
        /// <summary>Offset of the record in units of eight bytes.</summary>
        public uint Record;

        /// <summary>Of mode, place in the page and the first bytes: as many as the block's class has (<see cref="HashOf"/>).</summary>
        public uint Hash;
        public uint LastRun;
        public ushort ByteCount;
        public ushort Unused;
    }

    private readonly byte* _start;
    private readonly long _length;
    private readonly uint* _buckets;
    private readonly Entry* _entries;

    /// <summary>Per entry: 1, it was taken; 2, its record is damaged.</summary>
    private readonly byte[] _marks;

    private StoreFile(byte* start, long length)
    {
        _start = start;
        _length = length;
        _buckets = (uint*)(start + Head->IndexOffset);
        _entries = (Entry*)(_buckets + Buckets + 1);
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
        long index = h->IndexOffset, indexBytes = (Buckets + 1) * sizeof(uint) + h->Count * (long)sizeof(Entry);
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
    public StoredBlock* Find(uint mode, int pageOffset, byte* source, int available)
    {
        foreach (byte bytes in Classes)
        {
            if (bytes > available)
                continue;
            StoredBlock* b = Find(HashOf(mode, pageOffset, source, bytes), mode, pageOffset, new ReadOnlySpan<byte>(source, available));
            if (b != null)
                return b;
        }

        return null;
    }

    private StoredBlock* Find(uint hash, uint mode, int pageOffset, ReadOnlySpan<byte> source)
    {
        int bucket = BucketOf(hash);
        int at = (int)_buckets[bucket], end = Math.Min((int)_buckets[bucket + 1], at + LongestSearch);
        for (; at < end; at++)
        {
            if (_entries[at].Hash != hash || _entries[at].ByteCount > source.Length || _marks[at] == 2)
                continue;
            StoredBlock* b = RecordAt(at);
            if (b == null)
            {
                _marks[at] = 2;
                continue;
            }

            if (b->Mode != mode || b->PageOffset != pageOffset || !source.StartsWith(new ReadOnlySpan<byte>(StoredBlock.Bytes(b), b->ByteCount)))
                continue;
            _marks[at] = 1;
            return b;
        }

        return null;
    }

    /// <summary>An entry's record; null: it is damaged.</summary>
    public StoredBlock* RecordAt(int entry)
    {
        long offset = _entries[entry].Record * 8L;
        if (offset < sizeof(Header) || offset + sizeof(StoredBlock) > Head->IndexOffset)
            return null;
        var b = (StoredBlock*)(_start + offset);
        return StoredBlock.IsWhole(b, Head->IndexOffset - offset) && b->ByteCount == _entries[entry].ByteCount ? b : null;
    }

    /// <summary>The run that last took an entry: now, or before.</summary>
    public uint LastRunOf(int entry) => _marks[entry] == 1 ? Head->Run + 1 : _entries[entry].LastRun;

    public void Dispose() => HostFile.Unmap(_start, _length);
}
