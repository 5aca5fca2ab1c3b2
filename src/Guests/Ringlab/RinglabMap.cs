namespace VirtPS.Guests.Ringlab;

/// <summary>Where ringlab has its parts in guest-physical memory, and the selectors of its two descriptor tables. Identity-mapped throughout.</summary>
internal static class RinglabMap
{
    // ---- image: one segment, 1 MiB upwards ------------------------------------------------------------------------------
    public const uint Base = 0x10_0000;
    public const uint Text32 = 0x10_0000;
    public const uint Text64 = 0x10_4000;

    /// <summary>Ring-3 code of long mode: the only page it may execute.</summary>
    public const uint UserText = 0x10_8000;

    public const uint Strings = 0x10_A000;
    public const uint Tables = 0x11_0000;
    public const uint PageTables = 0x11_2000;

    /// <summary>End of what the file holds; the rest is zero at start.</summary>
    public const uint FileEnd = 0x11_8000;

    /// <summary>Variables; ring 0 only once paging is on.</summary>
    public const uint Data = 0x11_8000;

    /// <summary>A page that ring 3 may read, and only read.</summary>
    public const uint Shared = 0x11_9000;

    // Stacks grow down from these. Each ring of protected mode has its own, as the TSS says.
    public const uint Ring0Stack = 0x11_E000;
    public const uint Ring1Stack = 0x11_F000;
    public const uint Ring2Stack = 0x12_0000;
    public const uint Ring3Stack = 0x12_1000;
    public const uint DoubleFaultStack = 0x12_2000;
    public const uint End = 0x12_2000;

    // ---- variables -------------------------------------------------------------------------------------------------------
    public const uint Options = Data + 0x00;
    public const uint RingEntries = Data + 0x10;      // four counters: code of ring n was entered
    public const uint GateCalls = Data + 0x20;
    public const uint Refused = Data + 0x24;
    public const uint Int80Calls = Data + 0x28;
    public const uint Syscalls = Data + 0x2C;
    public const uint PitTicksRing3 = Data + 0x30;
    public const uint ApicTicks = Data + 0x34;
    public const uint PageFaults = Data + 0x38;
    public const uint HasApic = Data + 0x3C;
    public const uint IoPrivilegeLines = Data + 0x48; // lines that ring 1 wrote by itself
    public const uint DecimalBuffer = Data + 0x60;    // 16 bytes
    public const uint PerCpu = Data + 0x80;           // +0 kernel stack, +8 saved user stack

    /// <summary>Timer ticks so far; ring 3 reads it.</summary>
    public const uint PitTicks = Shared;

    /// <summary>A second mapping of the shared page through which ring 0 writes: CR0.WP makes read-only pages read-only for it, too.</summary>
    public const uint SharedAlias = 0x18_0000;

    // ---- option bits -----------------------------------------------------------------------------------------------------
    public const uint OptionExit = 1, OptionBench = 2;

    // ---- protected mode selectors (index × 8 | RPL) -----------------------------------------------------------------------
    public const ushort Code0 = 0x08, Data0 = 0x10, Code1 = 0x18 | 1, Data1 = 0x20 | 1, Code2 = 0x28 | 2, Data2 = 0x30 | 2, Code3 = 0x38 | 3, Data3 = 0x40 | 3,
        Task32 = 0x48;

    /// <summary>Call gates. Console: ring 0's output, for everyone. The others form the ladder down: each may be used from the next outer ring only.</summary>
    public const ushort GateConsole = 0x50, GateToRing2 = 0x58, GateToRing1 = 0x60, GateToRing0 = 0x68;

    // ---- long mode selectors, in the order that SYSCALL and SYSRET want ----------------------------------------------------
    public const ushort Code64 = 0x08, Data64 = 0x10, SysretBase = 0x18, UserData64 = 0x20 | 3, UserCode64 = 0x28 | 3, Task64 = 0x30;

    // ---- interrupt vectors -----------------------------------------------------------------------------------------------
    public const int PicFirst = 0x20, VectorPit = 0x20, VectorCom1 = 0x24, VectorSpuriousPic = 0x27, VectorApicTimer = 0x40, VectorSystemCall = 0x80, VectorSpuriousApic = 0xFF;
}
