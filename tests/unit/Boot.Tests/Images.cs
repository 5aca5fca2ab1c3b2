using System.Buffers.Binary;

namespace VirtPS.Boot.Tests;

/// <summary>Small images made for one test each; every field that a test bends is a parameter.</summary>
internal static class Images
{
    /// <summary>A bzImage with two setup sectors and <paramref name="payload"/> as its compressed kernel at offset 0x400 of the protected-mode part.</summary>
    public static byte[] BzImage(byte[]? payload = null, ushort version = 0x20F, ushort xloadflags = 1, uint initSize = 0x20_0000,
        ulong preferred = 0x100_0000, uint initrdMax = 0x7FFF_FFFF, uint commandLineSize = 2047)
    {
        payload ??= [0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90];
        const int setup = 3 * 512, payloadOffset = 0x400;
        int kernel = (payloadOffset + payload.Length + 15) / 16 * 16;
        byte[] image = new byte[setup + kernel];
        image[0x1F1] = 2;
        U32(image, 0x1F4, (uint)kernel / 16);
        U16(image, 0x1FE, 0xAA55);
        image[0x201] = 0x6A;
        "HdrS"u8.CopyTo(image.AsSpan(0x202));
        U16(image, 0x206, version);
        image[0x211] = 1;
        U32(image, 0x22C, initrdMax);
        U16(image, 0x236, xloadflags);
        U32(image, 0x238, commandLineSize);
        U32(image, 0x248, payloadOffset);
        U32(image, 0x24C, (uint)payload.Length);
        U64(image, 0x258, preferred);
        U32(image, 0x260, initSize);
        image[setup + 0x200] = 0xF4;
        payload.CopyTo(image, setup + payloadOffset);
        return image;
    }

    /// <summary>ELF with one segment of <paramref name="code"/> at <paramref name="physical"/>, linked at that address plus <paramref name="virtualBias"/>, and (optionally) a PVH note.</summary>
    public static byte[] Elf(byte[] code, ulong physical = 0x10_0000, bool is64 = true, uint? pvhEntry = null, ulong bss = 0, ushort machine = 62, ulong virtualBias = 0)
    {
        int headers = is64 ? 64 : 52, entrySize = is64 ? 56 : 32;
        int noteAt = headers + (2 * entrySize), codeAt = 0x1000;
        byte[] note = new byte[20];
        U32(note, 0, 4);
        U32(note, 4, 4);
        U32(note, 8, 18);
        "Xen\0"u8.CopyTo(note.AsSpan(12));
        U32(note, 16, pvhEntry ?? 0);
        byte[] image = new byte[codeAt + code.Length];
        "\u007fELF"u8.CopyTo(image);
        image[4] = (byte)(is64 ? 2 : 1);
        image[5] = 1;
        U16(image, 16, 2);
        U16(image, 18, machine);
        int count = pvhEntry is null ? 1 : 2;
        ulong entry = physical + virtualBias;
        if (is64)
        {
            U64(image, 24, entry);
            U64(image, 32, (ulong)headers);
            U16(image, 54, (ushort)entrySize);
            U16(image, 56, (ushort)count);
            Segment64(image.AsSpan(headers), 1, (ulong)codeAt, entry, physical, (ulong)code.Length, (ulong)code.Length + bss);
            if (count == 2)
                Segment64(image.AsSpan(headers + entrySize), 4, (ulong)noteAt, 0, 0, (ulong)note.Length, (ulong)note.Length);
        }
        else
        {
            U32(image, 24, (uint)entry);
            U32(image, 28, (uint)headers);
            U16(image, 42, (ushort)entrySize);
            U16(image, 44, (ushort)count);
            Segment32(image.AsSpan(headers), 1, (uint)codeAt, (uint)entry, (uint)physical, (uint)code.Length, (uint)((ulong)code.Length + bss));
            if (count == 2)
                Segment32(image.AsSpan(headers + entrySize), 4, (uint)noteAt, 0, 0, (uint)note.Length, (uint)note.Length);
        }

        note.CopyTo(image, noteAt);
        code.CopyTo(image, codeAt);
        return image;
    }

    /// <summary>A Multiboot header; with addresses when <paramref name="load"/> is given.</summary>
    public static byte[] MultibootHeader(uint flags = 3, uint? header = null, uint load = 0, uint loadEnd = 0, uint bssEnd = 0, uint entry = 0)
    {
        byte[] bytes = new byte[32];
        uint all = flags | (header is null ? 0 : 0x1_0000u);
        U32(bytes, 0, 0x1BADB002);
        U32(bytes, 4, all);
        U32(bytes, 8, unchecked(0u - 0x1BADB002 - all));
        U32(bytes, 12, header ?? 0);
        U32(bytes, 16, load);
        U32(bytes, 20, loadEnd);
        U32(bytes, 24, bssEnd);
        U32(bytes, 28, entry);
        return bytes;
    }

    public static byte[] BootSector(bool signature = true)
    {
        byte[] sector = new byte[512];
        sector[0] = 0xF4;
        U16(sector, 510, signature ? (ushort)0xAA55 : (ushort)0x1234);
        return sector;
    }

    private static void Segment64(Span<byte> at, uint type, ulong offset, ulong virt, ulong phys, ulong fileSize, ulong memorySize)
    {
        U32(at, 0, type);
        U64(at, 8, offset);
        U64(at, 16, virt);
        U64(at, 24, phys);
        U64(at, 32, fileSize);
        U64(at, 40, memorySize);
    }

    private static void Segment32(Span<byte> at, uint type, uint offset, uint virt, uint phys, uint fileSize, uint memorySize)
    {
        U32(at, 0, type);
        U32(at, 4, offset);
        U32(at, 8, virt);
        U32(at, 12, phys);
        U32(at, 16, fileSize);
        U32(at, 20, memorySize);
    }

    public static void U16(Span<byte> at, int offset, ushort value) => BinaryPrimitives.WriteUInt16LittleEndian(at[offset..], value);

    public static void U32(Span<byte> at, int offset, uint value) => BinaryPrimitives.WriteUInt32LittleEndian(at[offset..], value);

    public static void U64(Span<byte> at, int offset, ulong value) => BinaryPrimitives.WriteUInt64LittleEndian(at[offset..], value);
}
