namespace VirtPS.Sdk.Machine;

/// <summary>
/// Where the parts of the PC are: the one place that device models take their defaults from and that the firmware tables (FADT, MADT, DSDT) are written
/// from. Ports and addresses; lengths in bytes.
/// </summary>
public static class PcLayout
{
    // The ISA parts stand where the IBM PC/AT put them.
    public const ushort Com1Port = 0x3F8, Com2Port = 0x2F8, Com3Port = 0x3E8, Com4Port = 0x2E8;
    public const int Com1Irq = 4, Com2Irq = 3, Com3Irq = 4, Com4Irq = 3;

    public const ushort PicMasterPort = 0x20, PicSlavePort = 0xA0, ElcrPort = 0x4D0;
    public const ushort PitPort = 0x40, SystemControlPortB = 0x61;
    public const ushort RtcPort = 0x70;
    public const int PitIrq = 0, KeyboardIrq = 1, RtcIrq = 8, MouseIrq = 12;
    public const ushort KeyboardDataPort = 0x60, KeyboardCommandPort = 0x64, SystemControlPortA = 0x92;

    /// <summary>Write v: power-off with exit code (v &lt;&lt; 1) | 1.</summary>
    public const ushort DebugExitPort = 0x501;

    /// <summary>Local APIC page, the same for every processor (SDM Vol. 3A §10.4.1).</summary>
    public const ulong LocalApicBase = 0xFEE0_0000;

    /// <summary>The only IOAPIC: GSIs 0–23 are its pins 0–23. ISA interrupt 0 arrives at pin 2 (MADT override); the others at the pin of their number.</summary>
    public const ulong IoApicBase = 0xFEC0_0000;

    public const ulong IoApicLength = 0x1000;
    public const int IoApicPinCount = 24;

    /// <summary>The IOAPIC pin of ISA interrupt 0; ISA 2 is the 8259 cascade and reaches no pin.</summary>
    public const int PitGsi = 2;

    /// <summary>IOAPIC id for the MADT and the ID register after reset. Local APIC ids are a space of their own on any system with xAPIC, so 0 collides with nothing.</summary>
    public const byte IoApicId = 0;

    // ACPI fixed hardware (ACPI 6.5 §4.8). ACPI mode is always on: the FADT's SMI_CMD is 0.
    public const ushort Pm1aEventPort = 0x600, Pm1aControlPort = 0x604, PmTimerPort = 0x608, Gpe0Port = 0x620;
    public const int Pm1aEventLength = 4, Pm1aControlLength = 2, PmTimerLength = 4, Gpe0Length = 4;

    /// <summary>The PM timer counts 32 bits (FADT flag TMR_VAL_EXT), at this rate in Hz.</summary>
    public const int PmTimerFrequency = 3_579_545;

    /// <summary>System control interrupt: ISA 9 = GSI 9, level-triggered, active high (MADT override).</summary>
    public const int SciIrq = 9;

    /// <summary>SLP_TYPa of S5: what the DSDT's \_S5 package must say.</summary>
    public const byte SleepTypeS5 = 5;

    /// <summary>FADT RESET_REG (system I/O, 8 bits) and RESET_VALUE; the register is the PCI host bridge's, between its configuration ports.</summary>
    public const ushort ResetPort = 0xCF9;

    public const byte ResetValue = 6;

    // PCI configuration mechanism #1 (PCI Local Bus 3.0 §3.2.2.3.2); there is no ECAM.
    public const ushort PciConfigAddressPort = 0xCF8, PciConfigDataPort = 0xCFC;

    /// <summary>Where memory BARs go; RAM beyond <see cref="PciMmioStart"/> continues at 4 GiB.</summary>
    public const ulong PciMmioStart = 0xC000_0000, PciMmioEnd = 0xFEBF_FFFF;

    /// <summary>Where I/O BARs go (last port inclusive).</summary>
    public const ushort PciIoStart = 0xC000, PciIoEnd = 0xFFFF;

    /// <summary>INTx of device d, pin p (0 = INTA#) is GSI <see cref="PciFirstGsi"/> + (d + p) mod <see cref="PciGsiCount"/>: level-triggered, active low.</summary>
    public const int PciFirstGsi = 16, PciGsiCount = 4;

    /// <summary>The GSI of a PCI device's interrupt pin (0–3).</summary>
    public static int PciGsi(int device, int pin) => PciFirstGsi + ((device + pin) % PciGsiCount);
}
