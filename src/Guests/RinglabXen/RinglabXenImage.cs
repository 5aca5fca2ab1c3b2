using System.Buffers.Binary;
using System.Text;

namespace VirtPS.Guests.RinglabXen;

/// <summary>
/// Ringlab for Xen PV: a kernel in ring 3 that asks the hypervisor for everything, tries what it may not, and runs a program. Its story is told on the Xen console. An ELF64 file with Xen's notes.
/// <para>Words on its command line: <c>exit</c> powers off after the summary; <c>bench</c> times five times a million null hypercalls.</para>
/// </summary>
public static class RinglabXenImage
{
    private const int FileHeaders = 0x1000, NotesAt = 0x100, HeaderSize = 64, SegmentSize = 56;

    /// <summary>Assembles the image. Deterministic; takes some milliseconds. Thread-safe.</summary>
    public static byte[] Build()
    {
        byte[] file = new byte[FileHeaders + XenMap.FileEnd];
        var kernel = new XenCode();
        XenKernel.Emit(kernel);
        kernel.Assemble(XenMap.Linear + XenMap.Text, XenMap.Data - XenMap.Text).CopyTo(file, FileHeaders + XenMap.Text);
        var program = new XenCode();
        XenProgram.Emit(program);
        program.Assemble(XenMap.UserCode, 0x1000).CopyTo(file, FileHeaders + XenMap.UserText);
        byte[] notes = [.. Note(1, Number(XenMap.Linear)), .. Note(3, Number(XenMap.VirtualBase)), .. Note(5, Text("xen-3.0")), .. Note(6, Text("ringlab")), .. Note(8, Text("generic")), .. Note(16, Number(1))];
        notes.CopyTo(file, NotesAt);
        WriteHeaders(file, notes.Length);
        return file;
    }

    private static void WriteHeaders(Span<byte> file, int notes)
    {
        "\u007fELF"u8.CopyTo(file);
        (file[4], file[5], file[6]) = (2, 1, 1);
        BinaryPrimitives.WriteUInt16LittleEndian(file[16..], 2);  // ET_EXEC
        BinaryPrimitives.WriteUInt16LittleEndian(file[18..], 62); // EM_X86_64
        BinaryPrimitives.WriteUInt32LittleEndian(file[20..], 1);
        U64(file, 24, XenMap.Linear);
        U64(file, 32, HeaderSize);
        BinaryPrimitives.WriteUInt16LittleEndian(file[52..], HeaderSize);
        BinaryPrimitives.WriteUInt16LittleEndian(file[54..], SegmentSize);
        BinaryPrimitives.WriteUInt16LittleEndian(file[56..], 2);
        Segment(file[HeaderSize..], 1, FileHeaders, XenMap.Linear, XenMap.Physical, XenMap.FileEnd, XenMap.End);
        Segment(file[(HeaderSize + SegmentSize)..], 4, NotesAt, 0, 0, (ulong)notes, (ulong)notes);
    }

    private static void Segment(Span<byte> at, uint type, ulong offset, ulong linear, ulong physical, ulong fileSize, ulong memorySize)
    {
        BinaryPrimitives.WriteUInt32LittleEndian(at, type);
        BinaryPrimitives.WriteUInt32LittleEndian(at[4..], 7);
        U64(at, 8, offset);
        U64(at, 16, linear);
        U64(at, 24, physical);
        U64(at, 32, fileSize);
        U64(at, 40, memorySize);
    }

    private static byte[] Note(uint type, byte[] descriptor)
    {
        byte[] note = new byte[16 + (descriptor.Length + 3 & ~3)];
        BinaryPrimitives.WriteUInt32LittleEndian(note, 4);
        BinaryPrimitives.WriteUInt32LittleEndian(note.AsSpan(4), (uint)descriptor.Length);
        BinaryPrimitives.WriteUInt32LittleEndian(note.AsSpan(8), type);
        "Xen\0"u8.CopyTo(note.AsSpan(12));
        descriptor.CopyTo(note, 16);
        return note;
    }

    private static byte[] Number(ulong value)
    {
        byte[] bytes = new byte[8];
        U64(bytes, 0, value);
        return bytes;
    }

    private static byte[] Text(string text) => Encoding.ASCII.GetBytes(text + '\0');

    private static void U64(Span<byte> at, int offset, ulong value) => BinaryPrimitives.WriteUInt64LittleEndian(at[offset..], value);
}
