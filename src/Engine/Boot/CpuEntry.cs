using System.Buffers.Binary;
using VirtPS.Sdk.Cpu;
using VirtPS.X86;

namespace VirtPS.Engine.Boot;

/// <summary>
/// Puts the bootstrap processor into the modes that boot protocols ask for, with the tables in memory that those modes need.
/// </summary>
internal static unsafe class CpuEntry
{
    /// <summary>Selectors of the descriptor table that <see cref="BuildGdt"/> makes; Linux's __BOOT_CS and __BOOT_DS are these two.</summary>
    public const ushort CodeSelector = 0x10, DataSelector = 0x18;

    private const ushort TaskSelector = 0x20;
    private const uint FlatLimit = 0xFFFF_FFFF;
    private const uint FlatData = SegmentRegister.G | SegmentRegister.DB | SegmentRegister.P | SegmentRegister.S | 3;
    private const uint FlatCode32 = SegmentRegister.G | SegmentRegister.DB | SegmentRegister.P | SegmentRegister.S | 0xB;
    private const uint FlatCode64 = SegmentRegister.G | SegmentRegister.L | SegmentRegister.P | SegmentRegister.S | 0xB;

    /// <summary>Bytes of the table: null, null, code, data, task state (two entries in long mode).</summary>
    private const int GdtSize = 6 * 8;

    /// <summary>Real mode at segment:offset; DS, ES and SS 0, interrupts off.</summary>
    public static void EnterReal(VcpuState* state, ushort segment, ushort offset, ushort stackPointer)
    {
        state->Cr0 = Cr0.ET;
        state->Cr4 = state->Efer = state->Cr3 = 0;
        Begin(state, offset);
        state->CS = SegmentRegister.Real(segment, code: true);
        for (SegmentName s = SegmentName.ES; s <= SegmentName.GS; s++)
        {
            if (s != SegmentName.CS)
                *VcpuState.Segment(state, s) = SegmentRegister.Real(0);
        }

        state->Gdtr = new DescriptorTable(0, 0);
        state->Idtr = new DescriptorTable(0, 0x3FF);
        state->Gpr[(int)Gpr.Rsp] = stackPointer;
    }

    /// <summary>32-bit protected mode, flat, paging off; as Multiboot and PVH describe it.</summary>
    public static void EnterProtected(BootContext context, uint entry)
    {
        VcpuState* state = context.State;
        ulong gdt = BuildGdt(context, FlatCode32);
        state->Cr0 = Cr0.PE | Cr0.ET;
        state->Cr4 = state->Efer = state->Cr3 = 0;
        Begin(state, entry);
        LoadFlatSegments(state, gdt, FlatCode32);
    }

    /// <summary>64-bit mode; the first 4 GiB mapped to themselves.</summary>
    public static void EnterLong(BootContext context, ulong entry)
    {
        VcpuState* state = context.State;
        ulong gdt = BuildGdt(context, FlatCode64);
        state->Cr3 = BuildIdentityMap(context);
        state->Cr4 = Cr4.PAE;
        state->Cr0 = Cr0.PE | Cr0.ET | Cr0.PG;
        state->Efer = Efer.LME | Efer.LMA;
        Begin(state, entry);
        LoadFlatSegments(state, gdt, FlatCode64);
    }

    private static void Begin(VcpuState* state, ulong rip)
    {
        for (int i = 0; i < 16; i++)
            state->Gpr[i] = 0;
        state->Rip = rip;
        state->Rflags = Rflags.Fixed1;
        state->Cpl = 0;
        state->MpState = MpState.Runnable;
    }

    private static void LoadFlatSegments(VcpuState* state, ulong gdt, uint code)
    {
        state->CS = new SegmentRegister(CodeSelector, 0, FlatLimit, code);
        for (SegmentName s = SegmentName.ES; s <= SegmentName.GS; s++)
        {
            if (s != SegmentName.CS)
                *VcpuState.Segment(state, s) = new SegmentRegister(DataSelector, 0, FlatLimit, FlatData);
        }

        state->TR = new SegmentRegister(TaskSelector, 0, 0x67, SegmentRegister.P | SystemType.TssBusy);
        state->LDTR = new SegmentRegister(0, 0, 0, SegmentRegister.Unusable | SystemType.Ldt);
        state->Gdtr = new DescriptorTable(gdt, GdtSize - 1);
        state->Idtr = new DescriptorTable(0, 0);
    }

    private static ulong BuildGdt(BootContext context, uint code)
    {
        ulong address = TakeLow(context, GdtSize, 16, "the start-up descriptor table");
        Span<byte> table = stackalloc byte[GdtSize];
        table.Clear();
        BinaryPrimitives.WriteUInt64LittleEndian(table[CodeSelector..], Descriptor(code, 0xF_FFFF));
        BinaryPrimitives.WriteUInt64LittleEndian(table[DataSelector..], Descriptor(FlatData, 0xF_FFFF));
        BinaryPrimitives.WriteUInt64LittleEndian(table[TaskSelector..], Descriptor(SegmentRegister.P | SystemType.TssBusy, 0x67));
        context.Write(address, table);
        return address;
    }

    /// <summary>A descriptor with base 0 (SDM Vol. 3A figure 3-8).</summary>
    private static ulong Descriptor(uint attributes, uint rawLimit) =>
        (rawLimit & 0xFFFF) | ((ulong)(rawLimit & 0xF_0000) << 32) | ((ulong)attributes << 40);

    /// <summary>Four-level tables with 2 MiB pages for 4 GiB: one PML4, one PDPT, four page directories.</summary>
    private static ulong BuildIdentityMap(BootContext context)
    {
        const int directories = 4;
        const ulong link = PageBits.P | PageBits.RW;
        ulong address = TakeLow(context, (2 + directories) * PageBits.PageSize, PageBits.PageSize, "the start-up page tables");
        byte[] tables = new byte[(2 + directories) * PageBits.PageSize];
        void Put(int page, int index, ulong entry) =>
            BinaryPrimitives.WriteUInt64LittleEndian(tables.AsSpan((page * PageBits.PageSize) + (index * 8)), entry);
        Put(0, 0, (address + PageBits.PageSize) | link);
        for (int d = 0; d < directories; d++)
        {
            Put(1, d, (address + ((ulong)(2 + d) * PageBits.PageSize)) | link);
            for (int i = 0; i < 512; i++)
                Put(2 + d, i, ((ulong)((d * 512) + i) << 21) | link | PageBits.PS);
        }

        context.Write(address, tables);
        return address;
    }

    /// <summary>A place in conventional memory.</summary>
    public static ulong TakeLow(BootContext context, ulong size, ulong alignment, string owner) =>
        context.Plan.TakeLowest(size, alignment, 0x1000, 0xA0000, owner)
        ?? throw ImageFault.Of(context.Kernel.Name, $"leaves no room below 640 KiB for {owner} ({size} bytes)", "Load the image above 1 MiB.");
}
