using System.Buffers.Binary;

namespace VirtPS.Guests.Ringlab;

/// <summary>
/// The embedded default guest: a small kernel that uses all four protection rings and says on COM1 what it does. The image is a 32-bit ELF file with both a PVH
/// entry note and a Multiboot 1 header, so any PC loader that knows one of them can start it.
/// <para>Words on its command line: <c>exit</c> powers off after the summary; <c>bench</c> makes system calls without pause after it.</para>
/// </summary>
public static class RinglabImage
{
    private const int FileHeaders = 0x1000, NoteAt = 0x80, MultibootAt = 0x100;
    private const uint MultibootMagic = 0x1BADB002, MultibootFlags = 3;

    /// <summary>Assembles the image. Deterministic, about 100 KiB; takes some milliseconds. Thread-safe.</summary>
    public static byte[] Build()
    {
        var strings = new RinglabStrings();
        (byte[] code32, IReadOnlyDictionary<string, uint> labels32) = RinglabCode.Assemble(32, RinglabMap.Text32, RinglabMap.Text64, strings, c =>
        {
            RinglabStart.Emit(c);
            RinglabProtectedMode.Emit(c);
            RinglabConsole.EmitRoutines(c);
            RinglabPlatform.EmitPowerRoutines(c);
        });
        (byte[] code64, IReadOnlyDictionary<string, uint> labels64) = RinglabCode.Assemble(64, RinglabMap.Text64, RinglabMap.UserText, strings, RinglabLongMode.Emit);
        (byte[] user, _) = RinglabCode.Assemble(64, RinglabMap.UserText, RinglabMap.Strings, strings, RinglabUser.Emit);

        byte[] file = new byte[FileHeaders + (RinglabMap.FileEnd - RinglabMap.Base)];
        WriteElfHeaders(file, labels32["start"]);
        Span<byte> image = file.AsSpan(FileHeaders);
        code32.CopyTo(image[(int)(RinglabMap.Text32 - RinglabMap.Base)..]);
        code64.CopyTo(image[(int)(RinglabMap.Text64 - RinglabMap.Base)..]);
        user.CopyTo(image[(int)(RinglabMap.UserText - RinglabMap.Base)..]);
        strings.ToArray().CopyTo(image[(int)(RinglabMap.Strings - RinglabMap.Base)..]);
        RinglabTables.Write32(image, labels32);
        RinglabTables.Write64(image, labels64);
        RinglabTables.WritePageTables(image);
        return file;
    }

    /// <summary>ELF32 header, one loadable segment and the note (System V gABI, chapters 4 and 5); the Multiboot header beside them.</summary>
    private static void WriteElfHeaders(Span<byte> file, uint entry)
    {
        "\u007fELF"u8.CopyTo(file);
        file[4] = file[5] = file[6] = 1;
        U16(file, 16, 2);  // ET_EXEC
        U16(file, 18, 3);  // EM_386
        U32(file, 20, 1);
        U32(file, 24, entry);
        U32(file, 28, 52); // program headers
        U16(file, 40, 52);
        U16(file, 42, 32);
        U16(file, 44, 2);
        Segment(file[52..], type: 1, FileHeaders, RinglabMap.Base, RinglabMap.FileEnd - RinglabMap.Base, RinglabMap.End - RinglabMap.Base, flags: 7, align: 0x1000);
        Segment(file[84..], type: 4, NoteAt, 0, 20, 20, flags: 4, align: 4);
        U32(file, NoteAt, 4);
        U32(file, NoteAt + 4, 4);
        U32(file, NoteAt + 8, 18); // XEN_ELFNOTE_PHYS32_ENTRY
        "Xen\0"u8.CopyTo(file[(NoteAt + 12)..]);
        U32(file, NoteAt + 16, entry);
        U32(file, MultibootAt, MultibootMagic);
        U32(file, MultibootAt + 4, MultibootFlags);
        U32(file, MultibootAt + 8, unchecked(0u - MultibootMagic - MultibootFlags));
    }

    private static void Segment(Span<byte> at, uint type, uint offset, uint address, uint fileSize, uint memorySize, uint flags, uint align)
    {
        ReadOnlySpan<uint> fields = [type, offset, address, address, fileSize, memorySize, flags, align];
        for (int i = 0; i < fields.Length; i++)
            U32(at, i * 4, fields[i]);
    }

    private static void U16(Span<byte> at, int offset, ushort value) => BinaryPrimitives.WriteUInt16LittleEndian(at[offset..], value);

    private static void U32(Span<byte> at, int offset, uint value) => BinaryPrimitives.WriteUInt32LittleEndian(at[offset..], value);
}
