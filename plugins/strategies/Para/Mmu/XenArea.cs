using System.Runtime.InteropServices;
using VirtPS.Sdk.Memory;
using VirtPS.X86;

namespace VirtPS.Strategy.Para.Mmu;

/// <summary>
/// Guest-physical memory behind the RAM that is the VMM's own: what it shares with the guest (shared_info, grant frames), the machine-to-physical table, the processors' descriptor tables, and the
/// page tables that make the last two visible, read-only, at the hypervisor's slots of every address space. The same page tables serve any processor, so nothing here depends on a backend.
/// </summary>
internal sealed unsafe class XenArea
{
    /// <summary>Slots 256–271 of every top-level table: ffff8000_00000000 to ffff87ff_ffffffff.</summary>
    public const int FirstSlot = 256, SlotCount = 16;

    /// <summary>First linear address that is the VMM's (HYPERVISOR_VIRT_START).</summary>
    public const ulong Start = 0xFFFF_8000_0000_0000;

    /// <summary>
    /// Where the machine-to-physical table is seen: a VMM's choice (XENMEM_machphys_mapping). Guests look up m2p[i] and p2m[i] in turn, and Linux has its p2m table at a multiple of 2 MiB too: at the
    /// same distance from one, the two would take the same entry of a direct-mapped TLB from each other, two million times in a boot. Half of such a TLB away they do not.
    /// </summary>
    public const ulong M2PAddress = Start + 0x80_0000;

    /// <summary>Descriptor tables: 64 KiB each per vCPU, the global one first; slot 257.</summary>
    private const ulong TablesAddress = 0xFFFF_8080_0000_0000;
    private const ulong TablesSize = 0x2_0000;

    /// <summary>Guest pages in a global descriptor table; the VMM's own descriptors stand behind them.</summary>
    public const int GuestDescriptorPages = 14, TablePages = 16;

    public const int GrantFrameCount = 32;
    private const ulong GiB = 1ul << 30;
    private const ulong TablesLink = PageBits.P | PageBits.RW | PageBits.US | PageBits.A;
    private const ulong ReadOnlyLeaf = PageBits.P | PageBits.US | PageBits.A | PageBits.NX;

    private readonly MemorySlot _slot;
    private readonly ulong _m2pFrame, _m2pPages, _descriptorFrame, _tableFrame;
    private readonly int _vcpuCount;
    private ulong _nextTable;
    private ulong _firstL3, _secondL3;

    public XenArea(ulong ramFrames, int vcpuCount)
    {
        _vcpuCount = vcpuCount;
        RamFrames = ramFrames;
        SharedFrames = 1 + GrantFrameCount;
        FirstFrame = ((ramFrames << 12) + GiB - 1 & ~(GiB - 1)) >> 12;
        _m2pPages = (ramFrames * 8 + 4095) >> 12;
        _m2pFrame = SharedFrames;
        _descriptorFrame = _m2pFrame + _m2pPages;
        _tableFrame = _descriptorFrame + 1;
        // L3 and L2 of the machine-to-physical table, its L1s, the same for the descriptor tables (one L1 each for 8 vCPUs' 128 KiB is enough).
        ulong tables = 2 + ((_m2pPages + 511) >> 9) + ((_m2pPages + 0x3FFFF) >> 18) + 3;
        _slot = CreateSlot(FirstFrame, _tableFrame + tables);
    }

    // The machine's memory owns it.
    private static MemorySlot CreateSlot(ulong first, ulong frames) => new("xen", first << 12, new HeapMemoryRegion(frames << 12));

    public ulong RamFrames { get; }

    /// <summary>MFN of shared_info; the grant frames follow.</summary>
    public ulong FirstFrame { get; }

    /// <summary>Frames from <see cref="FirstFrame"/> on that the guest may map writable.</summary>
    public ulong SharedFrames { get; }

    public MemorySlot Slot => _slot;

    public byte* SharedInfo => _slot.Address;

    public ulong GrantFrame(int index) => FirstFrame + 1 + (ulong)index;

    public byte* GrantMemory => _slot.Address + 4096;

    /// <summary>m2p[mfn] = pfn.</summary>
    public ulong* M2P => (ulong*)(_slot.Address + (_m2pFrame << 12));

    public static ulong GlobalTable(int vcpu) => TablesAddress + (ulong)vcpu * TablesSize;

    public static ulong LocalTable(int vcpu) => GlobalTable(vcpu) + 0x1_0000;

    /// <summary>At start of day: everything as for a new domain.</summary>
    public void Reset()
    {
        NativeMemory.Clear(_slot.Address, (nuint)_slot.Size);
        for (ulong i = 0; i < RamFrames; i++)
            M2P[i] = i;
        _nextTable = _tableFrame;
        _firstL3 = NewTable();
        for (ulong i = 0; i < _m2pPages; i++)
            *Leaf(_firstL3, M2PAddress + (i << 12)) = ((FirstFrame + _m2pFrame + i) << 12) | ReadOnlyLeaf;
        _secondL3 = NewTable();
        WriteFixedDescriptors();
        for (int v = 0; v < _vcpuCount; v++)
        {
            *Leaf(_secondL3, GlobalTable(v) + (GuestDescriptorPages << 12)) = ((FirstFrame + _descriptorFrame) << 12) | ReadOnlyLeaf;
            *Leaf(_secondL3, LocalTable(v)) = 0;
        }
    }

    /// <summary>Enters the VMM's slots in a top-level table.</summary>
    public void FillRoot(ulong* entries)
    {
        for (int i = 0; i < SlotCount; i++)
            entries[FirstSlot + i] = 0;
        entries[FirstSlot] = ((FirstFrame + _firstL3) << 12) | TablesLink;
        entries[FirstSlot + 1] = ((FirstFrame + _secondL3) << 12) | TablesLink;
    }

    /// <summary>Shows a guest frame in a vCPU's descriptor table; null takes it away. The caller holds the use and drops translations.</summary>
    public void MapDescriptors(ulong table, int page, ulong? mfn) =>
        *Leaf(_secondL3, table + ((ulong)page << 12)) = mfn is { } m ? (m << 12) | ReadOnlyLeaf : 0;

    /// <summary>The descriptors that every Xen guest has: 32-bit code, data and 64-bit code of ring 3, selectors e023, e02b, e033 (public/arch-x86/xen-x86_64.h).</summary>
    private void WriteFixedDescriptors()
    {
        ulong* page = (ulong*)(_slot.Address + (_descriptorFrame << 12));
        page[4] = 0x00CF_FB00_0000_FFFF;
        page[5] = 0x00CF_F300_0000_FFFF;
        page[6] = 0x00AF_FB00_0000_FFFF;
    }

    private ulong NewTable() => _nextTable++;

    private ulong* Table(ulong frame) => (ulong*)(_slot.Address + (frame << 12));

    private ulong* Leaf(ulong l3, ulong linear)
    {
        ulong* table = Table(l3);
        for (int shift = 30; shift > 12; shift -= 9)
        {
            ulong* entry = table + (linear >> shift & 511);
            if (*entry == 0)
                *entry = ((FirstFrame + NewTable()) << 12) | TablesLink;
            table = Table((*entry >> 12) - FirstFrame);
        }

        return table + (linear >> 12 & 511);
    }
}
