namespace VirtPS.Device.Rtc;

/// <summary>Addresses in the MC146818A (data sheet figure 9) and, from <see cref="Century"/> on, the PC's use of the RAM.</summary>
internal static class Cmos
{
    public const int Seconds = 0, SecondsAlarm = 1, Minutes = 2, MinutesAlarm = 3, Hours = 4, HoursAlarm = 5, DayOfWeek = 6, DayOfMonth = 7, Month = 8,
        Year = 9, A = 0x0A, B = 0x0B, C = 0x0C, D = 0x0D;

    public const int Equipment = 0x14, BaseMemory = 0x15, ExtendedMemory = 0x17, ChecksumHigh = 0x2E, ChecksumLow = 0x2F, ExtendedMemory2 = 0x30,
        Century = 0x32, MemoryAbove16M = 0x34, MemoryAbove4G = 0x5B, ProcessorsBeyondFirst = 0x5F, Size = 0x80;
}

/// <summary>Register A: UIP, divider, rate.</summary>
internal static class RegA
{
    public const byte UpdateInProgress = 0x80, Divider = 0x70, Rate = 0x0F;

    /// <summary>DV2 and DV1 set: the divider is held in reset, whatever DV0 is.</summary>
    public const byte DividerReset = 0x60;

    /// <summary>32.768 kHz, 1024 Hz periodic rate: what the PC's firmware leaves.</summary>
    public const byte Default = 0x26;
}

/// <summary>Register B. The three enables have the positions of their flags in register C.</summary>
internal static class RegB
{
    public const byte Set = 0x80, Pie = 0x40, Aie = 0x20, Uie = 0x10, Sqwe = 0x08, Binary = 0x04, Hours24 = 0x02, Enables = Pie | Aie | Uie;
}

/// <summary>Register C.</summary>
internal static class RegC
{
    public const byte Irqf = 0x80, Pf = 0x40, Af = 0x20, Uf = 0x10;
}

/// <summary>Register D: RAM and time are valid.</summary>
internal static class RegD
{
    public const byte ValidRamAndTime = 0x80;
}
