using System.Runtime.InteropServices;

namespace VirtPS.Strategy.Para.Mmu;

/// <summary>What a frame is used as. A frame has one type at a time; only when nothing uses it as that can it become another.</summary>
internal enum FrameType : byte
{
    /// <summary>Never used as anything yet.</summary>
    None = 0,

    /// <summary>Page table of that level; its entries have been checked and hold references.</summary>
    L1 = 1,
    L2 = 2,
    L3 = 3,
    L4 = 4,

    /// <summary>There are writable mappings of it, or the VMM writes it for the guest.</summary>
    Writable = 5,

    /// <summary>Part of a descriptor table; its descriptors have been checked.</summary>
    Descriptors = 6,
}

/// <summary>What is known about one machine frame. 16 bytes.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct Frame
{
    /// <summary>Uses as <see cref="Type"/>: writable mappings, entries of higher tables, roots of vCPUs, pins.</summary>
    public uint TypeCount;

    /// <summary>Read-only mappings.</summary>
    public uint ReadCount;

    public FrameType Type;

    /// <summary>The guest has pinned it: one of the uses is the pin.</summary>
    public bool Pinned { readonly get; set; }

    /// <summary>A page table that the upper half of some address space may lead to: its changes concern translations that a change of the root keeps.</summary>
    public bool Upper;

    /// <summary>The guest owns it. False for frames given back (ballooned out).</summary>
    public bool Owned;

    /// <summary>Checking, or undoing it, has stopped half way: the entries below <see cref="Progress"/> hold references. Such a frame has one use by the operation that will go on.</summary>
    public bool Partial;

    public ushort Progress;
}
