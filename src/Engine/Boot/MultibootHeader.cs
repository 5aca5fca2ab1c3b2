using System.Buffers.Binary;

namespace VirtPS.Engine.Boot;

/// <summary>A Multiboot 1 header (§3.1): on a 4-byte boundary in the first 8192 bytes of the file.</summary>
internal sealed class MultibootHeader
{
    private const uint Magic = 0x1BADB002;
    private const int SearchLength = 8192;

    // Flags: what is asked of the loader. Bits 0–15 must be understood, bits 16–31 may be ignored.
    private const uint AlignModules = 1, WantsMemory = 2, WantsVideo = 4, AddressFields = 1 << 16;

    /// <summary>File offset of the header.</summary>
    public ulong Offset { get; private init; }

    public uint Flags { get; private init; }

    /// <summary>Load by the addresses below rather than by ELF headers.</summary>
    public bool HasAddresses => (Flags & AddressFields) != 0;

    public ulong HeaderAddress { get; private init; }

    public ulong LoadAddress { get; private init; }

    /// <summary>0: to the end of the file.</summary>
    public ulong LoadEnd { get; private init; }

    /// <summary>0: nothing to clear.</summary>
    public ulong BssEnd { get; private init; }

    public ulong Entry { get; private init; }

    public static MultibootHeader? Find(GuestImage image)
    {
        byte[] bytes = image.ReadHeader(SearchLength);
        for (int i = 0; i + 12 <= bytes.Length; i += 4)
        {
            uint flags = U32(bytes, i + 4);
            if (U32(bytes, i) != Magic || Magic + flags + U32(bytes, i + 8) != 0)
                continue;
            bool whole = i + 32 <= bytes.Length;
            return new MultibootHeader
            {
                Offset = (ulong)i,
                Flags = flags,
                HeaderAddress = whole ? U32(bytes, i + 12) : 0,
                LoadAddress = whole ? U32(bytes, i + 16) : 0,
                LoadEnd = whole ? U32(bytes, i + 20) : 0,
                BssEnd = whole ? U32(bytes, i + 24) : 0,
                Entry = whole ? U32(bytes, i + 28) : 0,
            };
        }

        return null;
    }

    /// <summary>Throws for what the header asks and this machine has not.</summary>
    public void Check(GuestImage image)
    {
        if ((Flags & WantsVideo) != 0)
            throw ImageFault.At(image.Name, Offset + 4, "Multiboot flags", "the kernel asks for a video mode, and this machine has no display", "Build the kernel for a serial console (clear flag bit 2).");
        uint unknown = Flags & 0xFFFF & ~(AlignModules | WantsMemory | WantsVideo);
        if (unknown != 0)
            throw ImageFault.At(image.Name, Offset + 4, "Multiboot flags", $"the kernel requires features 0x{unknown:X} that Multiboot 0.6.96 does not define", "Build the kernel for Multiboot 1.");
        if (HasAddresses && Offset + 32 > image.Length)
            throw ImageFault.At(image.Name, Offset + 12, "address fields", "the file ends inside them", "The file is cut off; build it again.");
    }

    private static uint U32(byte[] bytes, int offset) => BinaryPrimitives.ReadUInt32LittleEndian(bytes.AsSpan(offset));
}
