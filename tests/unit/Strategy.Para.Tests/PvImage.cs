using System.Buffers.Binary;
using System.Text;

namespace VirtPS.Strategy.Para.Tests;

/// <summary>A small ELF kernel with Xen notes, linked at <see cref="VirtualBase"/> + its physical address.</summary>
internal static class PvImage
{
    public const ulong VirtualBase = 0xFFFF_FFFF_8000_0000, Physical = 0x10_0000, Entry = VirtualBase + Physical;

    private const int HeaderSize = 64, SegmentSize = 56, CodeAt = 0x1000;

    /// <summary>With the usual notes, changed as <paramref name="change"/> likes (null removes one).</summary>
    public static byte[] Build(byte[] code, Action<Dictionary<uint, byte[]?>>? change = null)
    {
        var notes = new Dictionary<uint, byte[]?> { [1] = Number(Entry), [3] = Number(VirtualBase), [5] = Text("xen-3.0"), [6] = Text("test"), [8] = Text("generic"), [16] = Number(1) };
        change?.Invoke(notes);
        byte[] note = [.. notes.Where(n => n.Value is not null).SelectMany(n => Note(n.Key, n.Value!))];
        byte[] image = new byte[Math.Max(CodeAt, 0x200 + note.Length) + code.Length];
        "\u007fELF"u8.CopyTo(image);
        (image[4], image[5]) = (2, 1);
        U16(image, 16, 2);
        U16(image, 18, 62);
        U64(image, 24, Entry);
        U64(image, 32, HeaderSize);
        U16(image, 54, SegmentSize);
        U16(image, 56, 2);
        Segment(image.AsSpan(HeaderSize), 1, CodeAt, Entry, Physical, (ulong)code.Length);
        Segment(image.AsSpan(HeaderSize + SegmentSize), 4, 0x200, 0, 0, (ulong)note.Length);
        note.CopyTo(image, 0x200);
        code.CopyTo(image, CodeAt);
        return image;
    }

    public static byte[] Number(ulong value)
    {
        byte[] bytes = new byte[8];
        U64(bytes, 0, value);
        return bytes;
    }

    public static byte[] Text(string text) => Encoding.ASCII.GetBytes(text + '\0');

    private static byte[] Note(uint type, byte[] descriptor)
    {
        byte[] note = new byte[16 + (descriptor.Length + 3 & ~3)];
        U32(note, 0, 4);
        U32(note, 4, (uint)descriptor.Length);
        U32(note, 8, type);
        "Xen\0"u8.CopyTo(note.AsSpan(12));
        descriptor.CopyTo(note, 16);
        return note;
    }

    private static void Segment(Span<byte> at, uint type, ulong offset, ulong linear, ulong physical, ulong size)
    {
        U32(at, 0, type);
        U32(at, 4, 7);
        U64(at, 8, offset);
        U64(at, 16, linear);
        U64(at, 24, physical);
        U64(at, 32, size);
        U64(at, 40, size);
    }

    private static void U16(Span<byte> at, int offset, ushort value) => BinaryPrimitives.WriteUInt16LittleEndian(at[offset..], value);

    private static void U32(Span<byte> at, int offset, uint value) => BinaryPrimitives.WriteUInt32LittleEndian(at[offset..], value);

    private static void U64(Span<byte> at, int offset, ulong value) => BinaryPrimitives.WriteUInt64LittleEndian(at[offset..], value);
}
