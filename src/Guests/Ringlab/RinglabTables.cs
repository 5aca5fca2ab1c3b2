using System.Buffers.Binary;

namespace VirtPS.Guests.Ringlab;

/// <summary>Descriptor tables, task states and page tables, written when the image is built: the labels' addresses are known then.</summary>
internal static class RinglabTables
{
    // Places in the tables area.
    private const uint Gdt32 = RinglabMap.Tables, Idt32 = Gdt32 + 0x100, Tss32 = Idt32 + 0x810, Gdt64 = Tss32 + 0x80, Idt64 = Gdt64 + 0x70, Tss64 = Idt64 + 0x1010;
    private const int Gdt32Size = 0x70, Gdt64Size = 0x40, Idt32Size = 0x81 * 8, Idt64Size = 0x100 * 16, Tss32Size = 104, Tss64Size = 104;
    public const uint Gdt32Pointer = RinglabMap.Tables + 0x80, Idt32Pointer = RinglabMap.Tables + 0x88, Gdt64Pointer = RinglabMap.Tables + 0x90, Idt64Pointer = RinglabMap.Tables + 0x98;

    // Descriptor bits 40–55 (SDM Vol. 3A §3.4.5): accessed is set in advance.
    private const uint Code32 = 0xC09B, Flat32 = 0xC093, Code64Bits = 0xA09B, TaskAvailable = 0x89;

    /// <summary>Page tables, one page each.</summary>
    public const uint Pml4 = RinglabMap.PageTables;
    private const uint Pdpt = Pml4 + 0x1000, LowDirectory = Pml4 + 0x2000, HighDirectory = Pml4 + 0x3000, LowTable = Pml4 + 0x4000;
    private const ulong Present = 1, Write = 2, User = 4, NoCache = 0x18, Large = 0x80, NoExecute = 1ul << 63;

    /// <summary>Exceptions whose frames carry an error code (SDM Vol. 3A table 6-1).</summary>
    public static bool HasErrorCode(int vector) => vector is 8 or (>= 10 and <= 14) or 17 or 21 or 29 or 30;

    public static void Write32(Span<byte> image, IReadOnlyDictionary<string, uint> labels)
    {
        Span<byte> gdt = At(image, Gdt32);
        for (uint ring = 0; ring < 4; ring++)
        {
            Descriptor(gdt, (int)(RinglabMap.Code0 + (ring * 16)), 0, 0xF_FFFF, Code32 | (ring << 5));
            Descriptor(gdt, (int)(RinglabMap.Data0 + (ring * 16)), 0, 0xF_FFFF, Flat32 | (ring << 5));
        }

        Descriptor(gdt, RinglabMap.Task32, Tss32, Tss32Size - 1, TaskAvailable);
        CallGate(gdt, RinglabMap.GateConsole, RinglabMap.Code0, labels["gate.console"], dpl: 3, parameters: 0);
        CallGate(gdt, RinglabMap.GateToRing2, RinglabMap.Code2, labels["gate.ring2"], dpl: 3, parameters: 0);
        CallGate(gdt, RinglabMap.GateToRing1, RinglabMap.Code1, labels["gate.ring1"], dpl: 2, parameters: 0);
        CallGate(gdt, RinglabMap.GateToRing0, RinglabMap.Code0, labels["gate.ring0"], dpl: 1, parameters: 1);
        Pointer(image, Gdt32Pointer, Gdt32, Gdt32Size);

        Span<byte> tss = At(image, Tss32);
        foreach ((int ring, uint stack, uint selector) in (ReadOnlySpan<(int, uint, uint)>)[(0, RinglabMap.Ring0Stack, RinglabMap.Data0),
            (1, RinglabMap.Ring1Stack, RinglabMap.Data1), (2, RinglabMap.Ring2Stack, RinglabMap.Data2)])
        {
            U32(tss, 4 + (ring * 8), stack);
            U32(tss, 8 + (ring * 8), selector);
        }

        BinaryPrimitives.WriteUInt16LittleEndian(tss[102..], Tss32Size); // the I/O map begins behind the limit: there is none

        Span<byte> idt = At(image, Idt32);
        for (int vector = 0; vector <= RinglabMap.VectorPit; vector++)
            InterruptGate32(idt, vector, labels[$"stub.{vector}"], dpl: 0);
        InterruptGate32(idt, RinglabMap.VectorSystemCall, labels["int80"], dpl: 3);
        Pointer(image, Idt32Pointer, Idt32, Idt32Size);
    }

    public static void Write64(Span<byte> image, IReadOnlyDictionary<string, uint> labels)
    {
        Span<byte> gdt = At(image, Gdt64);
        Descriptor(gdt, RinglabMap.Code64, 0, 0xF_FFFF, Code64Bits);
        Descriptor(gdt, RinglabMap.Data64, 0, 0xF_FFFF, Flat32);
        Descriptor(gdt, RinglabMap.UserData64 & ~7, 0, 0xF_FFFF, Flat32 | (3 << 5));
        Descriptor(gdt, RinglabMap.UserCode64 & ~7, 0, 0xF_FFFF, Code64Bits | (3 << 5));
        Descriptor(gdt, RinglabMap.Task64, Tss64, Tss64Size - 1, TaskAvailable);
        Pointer(image, Gdt64Pointer, Gdt64, Gdt64Size);

        Span<byte> tss = At(image, Tss64);
        U32(tss, 4, RinglabMap.Ring0Stack);
        U32(tss, 36, RinglabMap.DoubleFaultStack); // IST1
        BinaryPrimitives.WriteUInt16LittleEndian(tss[102..], Tss64Size);

        Span<byte> idt = At(image, Idt64);
        for (int vector = 0; vector < 32; vector++)
            InterruptGate64(idt, vector, labels[$"stub.{vector}"], dpl: 0, ist: vector == 8 ? 1 : 0);
        foreach ((int vector, string label, int dpl) in (ReadOnlySpan<(int, string, int)>)[(RinglabMap.VectorPit, "irq.pit", 0), (RinglabMap.VectorCom1, "irq.com1", 0),
            (RinglabMap.VectorSpuriousPic, "irq.spurious", 0), (RinglabMap.VectorApicTimer, "irq.apic", 0), (RinglabMap.VectorSpuriousApic, "irq.spurious", 0),
            (RinglabMap.VectorSystemCall, "int80", 3)])
            InterruptGate64(idt, vector, labels[label], dpl, 0);
        Pointer(image, Idt64Pointer, Idt64, Idt64Size);
    }

    /// <summary>The first 2 MiB in 4 KiB pages with the least rights that each part needs, and the page of the local APIC.</summary>
    public static void WritePageTables(Span<byte> image)
    {
        U64(image, Pml4, Pdpt | Present | Write | User);
        U64(image, Pdpt, LowDirectory | Present | Write | User);
        U64(image, Pdpt + (3 * 8), HighDirectory | Present | Write);
        U64(image, LowDirectory, LowTable | Present | Write | User);
        const ulong localApic = 0xFEE0_0000;
        U64(image, HighDirectory + ((uint)((localApic >> 21) & 511) * 8), localApic | Present | Write | NoCache | Large | NoExecute);
        for (uint page = 0; page < 512; page++)
        {
            uint address = page << 12;
            ulong rights = address switch
            {
                >= RinglabMap.Text32 and < RinglabMap.UserText => Present,
                >= RinglabMap.UserText and < RinglabMap.Strings => Present | User,
                RinglabMap.Shared => Present | User | NoExecute,
                >= RinglabMap.Ring3Stack - 0x1000 and < RinglabMap.Ring3Stack => Present | Write | User | NoExecute,
                _ => Present | Write | NoExecute,
            };
            ulong frame = address == RinglabMap.SharedAlias ? RinglabMap.Shared : address;
            U64(image, LowTable + (page * 8), frame | rights);
        }
    }

    private static void Descriptor(Span<byte> table, int selector, uint @base, uint limit, uint attributes) => BinaryPrimitives.WriteUInt64LittleEndian(table[selector..],
        (limit & 0xFFFF) | ((ulong)(@base & 0xFF_FFFF) << 16) | ((ulong)(limit & 0xF_0000) << 32) | ((ulong)attributes << 40) | ((ulong)(@base & 0xFF00_0000) << 32));

    /// <summary>SDM Vol. 3A figure 5-8.</summary>
    private static void CallGate(Span<byte> gdt, ushort gate, ushort target, uint offset, uint dpl, uint parameters) =>
        BinaryPrimitives.WriteUInt64LittleEndian(gdt[gate..], Gate(target, offset, 0x8C00 | (dpl << 13) | parameters));

    private static void InterruptGate32(Span<byte> idt, int vector, uint offset, uint dpl) =>
        BinaryPrimitives.WriteUInt64LittleEndian(idt[(vector * 8)..], Gate(RinglabMap.Code0, offset, 0x8E00 | (dpl << 13)));

    private static void InterruptGate64(Span<byte> idt, int vector, uint offset, int dpl, int ist) =>
        BinaryPrimitives.WriteUInt64LittleEndian(idt[(vector * 16)..], Gate(RinglabMap.Code64, offset, 0x8E00 | ((uint)dpl << 13) | (uint)ist));

    private static ulong Gate(ushort selector, uint offset, uint flags) =>
        (offset & 0xFFFF) | ((ulong)(selector & ~3u) << 16) | ((ulong)flags << 32) | ((ulong)(offset & 0xFFFF_0000) << 32);

    private static void Pointer(Span<byte> image, uint at, uint table, int size)
    {
        BinaryPrimitives.WriteUInt16LittleEndian(At(image, at), (ushort)(size - 1));
        U32(At(image, at), 2, table);
    }

    private static Span<byte> At(Span<byte> image, uint address) => image[(int)(address - RinglabMap.Base)..];

    private static void U32(Span<byte> at, int offset, uint value) => BinaryPrimitives.WriteUInt32LittleEndian(at[offset..], value);

    private static void U64(Span<byte> image, uint address, ulong value) => BinaryPrimitives.WriteUInt64LittleEndian(At(image, address), value);
}
