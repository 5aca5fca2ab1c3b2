namespace VirtPS.Hypercall.Tests;

/// <summary>Where things stand in the fuzz guest's memory: offsets are physical addresses; the kernel's linear addresses are <see cref="Base"/> more.</summary>
internal static class FuzzMap
{
    public const ulong Base = 0xFFFF_FFFF_8000_0000;

    /// <summary>A page of code for each vCPU.</summary>
    public const ulong Text = 0x100000;

    /// <summary>256 bytes for each vCPU: see the offsets below.</summary>
    public const ulong Control = 0x108000;

    /// <summary>A page for each vCPU: 32 entries of 16 bytes.</summary>
    public const ulong TrapTables = 0x110000;

    public const ulong Stacks = 0x118000;

    /// <summary>A page of code that a fuzzed return may lead to.</summary>
    public const ulong UserText = 0x120000;

    /// <summary>A record is a call: number, five arguments, result, stack pointer.</summary>
    public const ulong Records = 0x130000;

    public const int RecordBytes = 64, RecordsPerBatch = 1024;

    /// <summary>What calls point to: a slot for each record.</summary>
    public const ulong Slots = 0x180000;

    public const int SlotBytes = 256;

    /// <summary>Pages for anything: page tables, descriptor tables, rings.</summary>
    public const ulong Victims = 0x280000;

    public const int VictimPages = 128;

    public const ulong End = Victims + (VictimPages * 4096);

    public const int Vcpus = 2;

    /// <summary>In <see cref="Control"/>: the batch wanted, the batch done, the next record, how often the vCPU was started.</summary>
    public const int Go = 0, Done = 8, Index = 16, Enters = 24;

    public static ulong TextOf(int vcpu) => Text + ((ulong)vcpu * 4096);

    public static ulong ControlOf(int vcpu) => Control + ((ulong)vcpu * 256);

    public static ulong TrapTableOf(int vcpu) => TrapTables + ((ulong)vcpu * 4096);

    public static ulong StackTopOf(int vcpu) => Stacks + ((ulong)(vcpu + 1) * 4096);

    public static ulong RecordsOf(int vcpu) => Records + ((ulong)vcpu * RecordsPerBatch * RecordBytes);

    public static ulong SlotOf(int vcpu, int record) => Slots + ((ulong)((vcpu * RecordsPerBatch) + record) * SlotBytes);

    public static ulong Linear(ulong physical) => Base + physical;

    /// <summary>Numbers above those of hypercalls: what the guest does itself with memory, at its first argument.</summary>
    public const ulong Poke = 0x1000, PokeExchange = 0x1001, PokeAnd = 0x1002, Peek = 0x1003, PokeCompareExchange = 0x1004, Poke32 = 0x1005, PokeBitReset = 0x1006, Run = 0x1007;
}
