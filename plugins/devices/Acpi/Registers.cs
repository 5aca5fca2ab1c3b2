namespace VirtPS.Device.Acpi;

/// <summary>PM1 status and enable bits (ACPI 6.5 tables 4.13, 4.14). A bit has the same position in both.</summary>
internal static class Pm1
{
    public const ushort Timer = 1 << 0, BusMaster = 1 << 4, Global = 1 << 5, PowerButton = 1 << 8, SleepButton = 1 << 9, Rtc = 1 << 10, Wake = 1 << 15;

    /// <summary>What can be set in PM1_STS; each is cleared by writing one.</summary>
    public const ushort Status = Timer | BusMaster | Global | PowerButton | SleepButton | Rtc | Wake;

    public const ushort Enable = Timer | Global | PowerButton | SleepButton | Rtc;
}

/// <summary>PM1 control (ACPI 6.5 table 4.15).</summary>
internal static class Pm1Control
{
    public const ushort SciEnable = 1 << 0, BusMasterReload = 1 << 1, GlobalRelease = 1 << 2, SleepType = 7 << 10, SleepEnable = 1 << 13;

    public const int SleepTypeShift = 10;
}
