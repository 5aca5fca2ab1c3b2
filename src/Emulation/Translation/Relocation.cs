namespace VirtPS.Emulation;

/// <summary>What a field of generated code depends on besides guest code, mode and engine.</summary>
internal enum RelocationKind : byte
{
    /// <summary>A 32-bit distance to a stub.</summary>
    Stub,

    /// <summary>32 bits: an instruction's <see cref="Relocation.Site"/>; the value is its index in the block, with flags.</summary>
    Site,

    /// <summary>32 bits: a link's number, from the block's first one.</summary>
    Link,

    /// <summary>A 32-bit displacement to a slot, numbered from the block's first one.</summary>
    Slot,

    /// <summary>A linear address of guest code, from the start of the block: 32 bits sign-extended, 32 bits zero-extended, 64 bits.</summary>
    CodeSigned32,
    CodeUnsigned32,
    Code64,
}

/// <summary>A field of generated code that must be written anew where the code is used elsewhere.</summary>
/// <param name="Offset">From the first byte of the code.</param>
/// <param name="Kind">What it depends on.</param>
/// <param name="Value">Which one.</param>
internal readonly record struct Relocation(int Offset, RelocationKind Kind, int Value)
{
    /// <summary>Of a <see cref="Site"/>: an instruction's index in its block. A block has fewer instructions than that counts.</summary>
    public const int SiteIndexBits = 7;
    public const uint SiteIndexMask = (1u << SiteIndexBits) - 1;

    /// <summary>Names an instruction to the interpreter: which op of the arena, and how far it is from the start of its block, and flags in the upper bits.</summary>
    public static uint Site(int firstOp, int indexAndFlags) => ((uint)firstOp + ((uint)indexAndFlags & SiteIndexMask)) << SiteIndexBits | (uint)indexAndFlags;

    public static int SlotPlace(int slot) => VcpuMemory.SlotOffset + slot * 8;

    public int Size => Kind == RelocationKind.Code64 ? 8 : 4;
}

/// <summary>Relocations by number; what is beyond the number that their writer knows is old.</summary>
internal sealed class RelocationList
{
    private Relocation[] _items = new Relocation[64];

    public void Set(int index, Relocation relocation)
    {
        if (index == _items.Length)
            Array.Resize(ref _items, index * 2);
        _items[index] = relocation;
    }

    public ReadOnlySpan<Relocation> First(int count) => _items.AsSpan(0, count);
}
