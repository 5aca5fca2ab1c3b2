using System.Buffers.Binary;

namespace VirtPS.Engine.Boot;

/// <summary>A loadable segment: file and memory ranges in bytes; memory beyond the file part is zero.</summary>
internal readonly record struct ElfSegment(ulong Offset, ulong FileSize, ulong Virtual, ulong Physical, ulong MemorySize);

/// <summary>An executable ELF file for x86, 32 or 64 bit, little-endian (System V gABI, chapters 4 and 5).</summary>
internal sealed class ElfImage
{
    private const int LoadSegment = 1, NoteSegment = 4, MaxHeaders = 1024;
    private const ulong MaxNotes = 1 << 20;
    private const ushort MachineI386 = 3, MachineX64 = 62;

    private readonly GuestImage _image;
    private readonly bool _is64;
    private readonly List<ElfSegment> _notes = [];

    private ElfImage(GuestImage image, bool is64) => (_image, _is64) = (image, is64);

    /// <summary>e_entry, as linked.</summary>
    public ulong Entry { get; private set; }

    public List<ElfSegment> Segments { get; } = [];

    public static bool Recognises(ReadOnlySpan<byte> header) => header.Length >= 4 && header[..4].SequenceEqual("\u007fELF"u8);

    /// <summary>Reads headers and checks every range against the file.</summary>
    public static ElfImage Read(GuestImage image)
    {
        byte[] ident = image.Read(0, 20, "ELF header");
        if (!Recognises(ident))
            throw ImageFault.At(image.Name, 0, "ELF magic", "not an ELF file", "Give the kernel's ELF file, or choose another -BootKind.");
        if (ident[4] is not (1 or 2) || ident[5] != 1)
            throw ImageFault.At(image.Name, 4, "ELF class and data", "neither 32 nor 64 bit, little-endian", "Use a kernel built for x86.");
        ushort machine = BinaryPrimitives.ReadUInt16LittleEndian(ident.AsSpan(18));
        if (machine is not (MachineI386 or MachineX64))
            throw ImageFault.At(image.Name, 18, "e_machine", $"is {machine}: built for another processor", "Use a kernel built for x86.");
        var elf = new ElfImage(image, ident[4] == 2);
        elf.ReadProgramHeaders();
        return elf;
    }

    /// <summary>The descriptor of a note by owner and type; null when there is none.</summary>
    public byte[]? FindNote(ReadOnlySpan<byte> owner, uint type)
    {
        foreach (ElfSegment segment in _notes)
        {
            if (segment.FileSize > MaxNotes)
                throw ImageFault.At(_image.Name, segment.Offset, "PT_NOTE", $"{segment.FileSize} bytes of notes are not plausible", "The file is damaged.");
            byte[] notes = _image.Read(segment.Offset, segment.FileSize, "PT_NOTE");
            if (FindNote(notes, owner, type) is { } found)
                return found;
        }

        return null;
    }

    /// <summary>The physical address of a linked address: that of the segment which holds it.</summary>
    public ulong ToPhysical(ulong address)
    {
        foreach (ElfSegment s in Segments)
        {
            if (address - s.Virtual < s.MemorySize)
                return address - s.Virtual + s.Physical;
        }

        return address;
    }

    /// <summary>Takes the RAM for the segments, copies and zeroes; returns the first address behind the last.</summary>
    public ulong LoadInto(BootContext context)
    {
        ulong end = 0;
        foreach (ElfSegment s in Segments)
        {
            context.Plan.Take(s.Physical, s.MemorySize, $"the segment at file offset 0x{s.Offset:X}", _image.Name);
            _image.CopyTo(context.Memory, s.Offset, s.Physical, s.FileSize, "segment");
            context.Clear(s.Physical + s.FileSize, s.MemorySize - s.FileSize);
            end = Math.Max(end, s.Physical + s.MemorySize);
        }

        return end;
    }

    private void ReadProgramHeaders()
    {
        byte[] header = _image.Read(0, _is64 ? 64ul : 52ul, "ELF header");
        Entry = _is64 ? U64(header, 24) : U32(header, 24);
        ulong table = _is64 ? U64(header, 32) : U32(header, 28);
        int size = BinaryPrimitives.ReadUInt16LittleEndian(header.AsSpan(_is64 ? 54 : 42));
        int count = BinaryPrimitives.ReadUInt16LittleEndian(header.AsSpan(_is64 ? 56 : 44));
        if (count is 0 or > MaxHeaders || size < (_is64 ? 56 : 32))
        {
            throw ImageFault.At(_image.Name, _is64 ? 54ul : 42ul, "program headers", $"{count} entries of {size} bytes: this file cannot be loaded",
                "Give a linked executable, not an object file.");
        }

        byte[] entries = _image.Read(table, (ulong)(count * size), "program headers");
        for (int i = 0; i < count; i++)
            ReadProgramHeader(entries.AsSpan(i * size, size), table + (ulong)(i * size));
        if (Segments.Count == 0)
            throw ImageFault.At(_image.Name, table, "program headers", "there is no loadable segment", "Give a linked executable.");
    }

    private void ReadProgramHeader(ReadOnlySpan<byte> entry, ulong offset)
    {
        uint type = BinaryPrimitives.ReadUInt32LittleEndian(entry);
        var segment = _is64
            ? new ElfSegment(U64(entry, 8), U64(entry, 32), U64(entry, 16), U64(entry, 24), U64(entry, 40))
            : new ElfSegment(U32(entry, 4), U32(entry, 16), U32(entry, 8), U32(entry, 12), U32(entry, 20));
        if (type is not (LoadSegment or NoteSegment))
            return;
        if (segment.Offset > _image.Length || segment.FileSize > _image.Length - segment.Offset)
        {
            throw ImageFault.At(_image.Name, offset, "program header",
                $"its segment needs bytes 0x{segment.Offset:X}+0x{segment.FileSize:X}, but the file ends at 0x{_image.Length:X}", "The file is cut off; fetch or build it again.");
        }

        if (type == NoteSegment)
        {
            _notes.Add(segment);
            if (segment.FileSize <= MaxNotes)
                _image.Expect(segment.Offset, segment.FileSize);
            return;
        }

        if (segment.MemorySize < segment.FileSize)
            throw ImageFault.At(_image.Name, offset, "p_memsz", "smaller than p_filesz", "The file is damaged.");
        if (segment.MemorySize > 0)
            Segments.Add(segment);
    }

    private static byte[]? FindNote(ReadOnlySpan<byte> notes, ReadOnlySpan<byte> owner, uint type)
    {
        while (notes.Length >= 12)
        {
            ulong nameSize = U32(notes, 0), descriptorSize = U32(notes, 4);
            uint noteType = BinaryPrimitives.ReadUInt32LittleEndian(notes[8..]);
            ulong descriptorAt = 12 + ((nameSize + 3) & ~3ul), end = descriptorAt + descriptorSize;
            if (end > (ulong)notes.Length)
                return null;
            if (noteType == type && notes.Slice(12, (int)nameSize).TrimEnd((byte)0).SequenceEqual(owner))
                return notes[(int)descriptorAt..(int)end].ToArray();
            notes = notes[(int)Math.Min((end + 3) & ~3ul, (ulong)notes.Length)..];
        }

        return null;
    }

    private static ulong U32(ReadOnlySpan<byte> bytes, int offset) => BinaryPrimitives.ReadUInt32LittleEndian(bytes[offset..]);

    private static ulong U64(ReadOnlySpan<byte> bytes, int offset) => BinaryPrimitives.ReadUInt64LittleEndian(bytes[offset..]);
}
