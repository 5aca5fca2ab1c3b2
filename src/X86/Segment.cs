using System.Runtime.InteropServices;

namespace VirtPS.X86;

/// <summary>
/// A segment register with its hidden part (SDM Vol. 3A §3.4.3). <see cref="Attributes"/> has the layout of descriptor bits 40–55
/// without the limit nibble: type 0–3, S 4, DPL 5–6, P 7, AVL 12, L 13, D/B 14, G 15; bit 16 is <see cref="Unusable"/>.
/// <see cref="Limit"/> is in bytes, already scaled by G. 24 bytes, fixed layout.
/// </summary>
[StructLayout(LayoutKind.Sequential, Size = 24)]
public record struct SegmentRegister
{
    public ulong Base;
    public uint Limit;
    public uint Attributes;
    public ushort Selector;

    public const uint TypeMask = 0xF, S = 1 << 4, P = 1 << 7, Avl = 1 << 12, L = 1 << 13, DB = 1 << 14, G = 1 << 15, Unusable = 1 << 16;
    public const uint Accessed = 1, Writable = 2, Readable = 2, ExpandDown = 4, Conforming = 4, Code = 8;

    public SegmentRegister(ushort selector, ulong @base, uint limit, uint attributes)
    {
        Selector = selector;
        Base = @base;
        Limit = limit;
        Attributes = attributes;
    }

    public readonly int Dpl => (int)(Attributes >> 5) & 3;
    public readonly int Rpl => Selector & 3;
    public readonly bool IsCode => (Attributes & (S | Code)) == (S | Code);
    public readonly bool IsPresent => (Attributes & P) != 0;
    public readonly bool IsUsable => (Attributes & Unusable) == 0;
    public readonly bool IsLong => (Attributes & L) != 0;
    public readonly bool IsDefault32 => (Attributes & DB) != 0;

    /// <summary>The register as a raw 8-byte descriptor decodes to; a system descriptor's upper base must be added by the caller.</summary>
    public static SegmentRegister FromDescriptor(ushort selector, ulong descriptor)
    {
        uint attributes = (uint)(descriptor >> 40) & 0xF0FF;
        uint limit = (uint)(descriptor & 0xFFFF) | ((uint)(descriptor >> 32) & 0xF0000);
        if ((attributes & G) != 0)
            limit = (limit << 12) | 0xFFF;
        ulong @base = ((descriptor >> 16) & 0xFF_FFFF) | ((descriptor >> 32) & 0xFF00_0000);
        return new SegmentRegister(selector, @base, limit, attributes);
    }

    /// <summary>The register as real mode and virtual-8086 mode load it: base = selector × 16, limit 64 KiB.</summary>
    public static SegmentRegister Real(ushort selector, bool code = false) =>
        new(selector, (ulong)selector << 4, 0xFFFF, (code ? 0xBu : 0x3u) | S | P);
}

/// <summary>GDTR or IDTR. 16 bytes, fixed layout.</summary>
[StructLayout(LayoutKind.Sequential, Size = 16)]
public record struct DescriptorTable
{
    public ulong Base;
    public ushort Limit;

    public DescriptorTable(ulong @base, ushort limit)
    {
        Base = @base;
        Limit = limit;
    }
}

/// <summary>System-segment and gate types (SDM Vol. 3A table 3-2).</summary>
public static class SystemType
{
    public const uint Tss16Available = 1, Ldt = 2, Tss16Busy = 3, CallGate16 = 4, TaskGate = 5, InterruptGate16 = 6, TrapGate16 = 7,
        TssAvailable = 9, TssBusy = 11, CallGate = 12, InterruptGate = 14, TrapGate = 15;
}
