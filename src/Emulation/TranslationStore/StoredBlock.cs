using System.Numerics;
using System.Runtime.InteropServices;

namespace VirtPS.Emulation;

/// <summary>
/// A block on disk: this header, then, each beginning at a multiple of eight, the guest's bytes, packed ops, host code as it was before anything was linked, relocations, links, jumps to the second
/// translation. Without host code: the block was executed once only.
/// </summary>
[StructLayout(LayoutKind.Sequential, Size = 40)]
internal unsafe struct StoredBlock
{
    /// <summary>Of everything behind it, up to <see cref="Length"/>.</summary>
    public uint Checksum;

    /// <summary>Bytes of the whole record, a multiple of eight.</summary>
    public uint Length;

    /// <summary><see cref="CodeMode"/>, and <see cref="SyscallReturns"/>.</summary>
    public uint Mode;

    /// <summary>Where in its page the block begins.</summary>
    public ushort PageOffset;
    public ushort ByteCount, Count, OpBytes;
    public ushort RelocationCount, LinkCount, UnpinnedCount, SlotCount;
    public int CodeSize;

    /// <summary>Not zero: it has addresses near its own in it (SoftVcpu.NamesItsPlace): worth nothing to a kernel that lies elsewhere in each run.</summary>
    public byte IsPlaced;

    /// <summary>In a mode: decoded with <see cref="OpDecoder.SyscallReturns"/>.</summary>
    public const uint SyscallReturns = 1u << 31;

    /// <summary>In a mode: a superblock, found by the bytes of all that it follows. For ops it has the numbers of the instructions left to the interpreter, a bit each.</summary>
    public const uint Superblock = 1u << 30;

    /// <summary>A relocation on disk: offset, with the kind in the upper eight bits.</summary>
    public struct PackedRelocation
    {
        public uint OffsetAndKind;
        public int Value;

        public readonly Relocation Relocation => new((int)(OffsetAndKind & 0xFF_FFFF), (RelocationKind)(OffsetAndKind >> 24), Value);
    }

    /// <summary>A <see cref="Link"/> on disk; places are offsets in the code, of which 0 is none.</summary>
    [StructLayout(LayoutKind.Sequential, Size = 16)]
    public struct PackedLink
    {
        public int Field, Unlinked, Distance;

        /// <summary>From the block's first slot; -1: none.</summary>
        public short Slot;
        public LinkKind Kind;
        public byte CrossesPage;
    }

    public struct PackedUnpinned
    {
        public int Field, Index;
    }

    public static int Align(int bytes) => bytes + 7 & ~7;

    // SAFETY (all): records are checked with LengthFromParts before they are used.

    public static byte* Bytes(StoredBlock* b) => (byte*)(b + 1);

    public static byte* Ops(StoredBlock* b) => Bytes(b) + Align(b->ByteCount);

    public static byte* Code(StoredBlock* b) => Ops(b) + Align(b->OpBytes);

    public static PackedRelocation* Relocations(StoredBlock* b) => (PackedRelocation*)(Code(b) + Align(b->CodeSize));

    public static PackedLink* Links(StoredBlock* b) => (PackedLink*)(Relocations(b) + b->RelocationCount);

    public static PackedUnpinned* Unpinned(StoredBlock* b) => (PackedUnpinned*)(Links(b) + b->LinkCount);

    private static long LengthFromParts(StoredBlock* b) =>
        sizeof(StoredBlock) + (long)Align(b->ByteCount) + Align(b->OpBytes) + Align(Math.Max(0, b->CodeSize)) + b->RelocationCount * (long)sizeof(PackedRelocation)
        + b->LinkCount * (long)sizeof(PackedLink) + b->UnpinnedCount * (long)sizeof(PackedUnpinned);

    /// <summary>Whether the record, for which there are <paramref name="room"/> bytes, is what was written.</summary>
    public static bool IsWhole(StoredBlock* b, long room) =>
        room >= sizeof(StoredBlock) && b->Length <= room && b->CodeSize is >= 0 and < 1 << 20 && b->Length == LengthFromParts(b) && b->Checksum == ChecksumOf(b);

    public static uint ChecksumOf(StoredBlock* b) => Crc((byte*)b + sizeof(uint), (int)b->Length - sizeof(uint));

    /// <summary>CRC-32C of bytes; two at once, because each step waits for the one before.</summary>
    public static uint Crc(byte* p, int length)
    {
        uint a = uint.MaxValue, b = 0;
        for (; length >= 16; p += 16, length -= 16)
        {
            a = BitOperations.Crc32C(a, *(ulong*)p);
            b = BitOperations.Crc32C(b, *(ulong*)(p + 8));
        }

        for (; length > 0; p++, length--)
            a = BitOperations.Crc32C(a, *p);
        return BitOperations.Crc32C(a, b);
    }

    /// <summary>What makes blocks the same, hashed: mode, place in the page, bytes.</summary>
    public static ulong Identity(StoredBlock* b)
    {
        ulong h = (b->Mode | (ulong)b->PageOffset << 32) * 0x9E3779B97F4A7C15;
        for (int i = 0; i < b->ByteCount; i++)
            h = (BitOperations.RotateLeft(h, 7) ^ Bytes(b)[i]) * 0xD6E8FEB86659FD93;
        return h ^ h >> 29;
    }
}
