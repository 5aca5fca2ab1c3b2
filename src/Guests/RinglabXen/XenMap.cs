namespace VirtPS.Guests.RinglabXen;

/// <summary>Where everything stands: offsets from the image's first byte, which is linked at <see cref="Linear"/> and loaded at <see cref="Physical"/>.</summary>
internal static class XenMap
{
    public const ulong VirtualBase = 0xFFFF_FFFF_8000_0000, Physical = 0x10_0000, Linear = VirtualBase + Physical;

    /// <summary>Kernel code, variables, the program's code, and pages that are zero at the start.</summary>
    public const int Text = 0, Data = 0x8000, UserText = 0x9000, FileEnd = 0xA000;
    public const int UserL4 = 0xA000, UserL3 = 0xB000, UserL2 = 0xC000, UserL1 = 0xD000, UserStack = 0xE000, KernelStack = 0xF000, SharedInfo = 0x11000, Scratch = 0x12000, Spare = 0x13000,
        End = 0x14000;

    /// <summary>Where the program sees its code and its stack.</summary>
    public const ulong UserCode = 0x40_0000, UserStackTop = 0x40_2000;

    /// <summary>Variables, from <see cref="Data"/> on; 8 bytes each.</summary>
    public const int StartInfo = 0, ConsolePage = 8, ConsolePort = 16, Hypercalls = 24, Refused = 32, Int80Calls = 40, Syscalls = 48, Ticks = 56, Ring3Ticks = 64, PageFaults = 72, Options = 80, TimerPort = 88,
        Expected = 96, Resume = 104, Caught = 112, TableWrites = 136, Decimal = 144, Arguments = 192, Traps = 256;

    public const int OptionExit = 1, OptionBench = 2;
}
