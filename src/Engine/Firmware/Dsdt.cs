using VirtPS.Sdk.Machine;

namespace VirtPS.Engine.Firmware;

/// <summary>What the ACPI tables must describe beyond the fixed platform.</summary>
/// <param name="VcpuCount">1–64; APIC id = index.</param>
/// <param name="SerialPorts">COM port numbers (1–4) that exist.</param>
/// <param name="HasKeyboard">An i8042 with a keyboard exists.</param>
public sealed record FirmwarePlatform(int VcpuCount, IReadOnlyList<int> SerialPorts, bool HasKeyboard)
{
    /// <summary>One serial port and a keyboard controller.</summary>
    public static FirmwarePlatform Standard(int vcpuCount) => new(vcpuCount, [1], true);
}

/// <summary>The platform's DSDT as AML: the soft-off package, the processors, the PCI root with its windows and interrupt routing, the ISA devices.</summary>
internal static class Dsdt
{
    public static byte[] Build(FirmwarePlatform platform)
    {
        var aml = new AmlWriter();
        aml.Name(@"\_S5", w => w.Package(
            p => p.Integer(PcLayout.SleepTypeS5), p => p.Integer(PcLayout.SleepTypeS5), p => p.Integer(0), p => p.Integer(0)));
        aml.Scope(@"\_SB", sb =>
        {
            for (int i = 0; i < platform.VcpuCount; i++)
                Processor(sb, i);
            sb.Device("PCI0", PciRoot);
            foreach (int port in platform.SerialPorts)
                SerialPort(sb, port);
            sb.Device("RTC", d => IsaDevice(d, "PNP0B00", new AmlResources().Io(PcLayout.RtcPort, 2).Irq(PcLayout.RtcIrq)));
            if (platform.HasKeyboard)
            {
                sb.Device("KBD", d => IsaDevice(d, "PNP0303",
                    new AmlResources().Io(PcLayout.KeyboardDataPort, 1).Io(PcLayout.KeyboardCommandPort, 1).Irq(PcLayout.KeyboardIrq)));
            }
        });
        return aml.ToArray();
    }

    /// <summary>A processor device (ACPI 6.5 §8.4); its _UID is the MADT's processor UID.</summary>
    private static void Processor(AmlWriter scope, int index) => scope.Device($"C{index:X3}", d => d
        .Name("_HID", w => w.String("ACPI0007"))
        .Name("_UID", w => w.Integer((ulong)index)));

    private static void PciRoot(AmlWriter device)
    {
        AmlResources windows = new AmlResources()
            .BusNumbers(0, 0xFF)
            .Io(PcLayout.PciConfigAddressPort, 8)
            .IoWindow(0, PcLayout.PciConfigAddressPort - 1)
            .IoWindow(PcLayout.PciConfigAddressPort + 8, 0xFFFF)
            .MemoryWindow((uint)PcLayout.PciMmioStart, (uint)PcLayout.PciMmioEnd);
        device
            .Name("_HID", w => w.EisaId("PNP0A03"))
            .Name("_UID", w => w.Integer(0))
            .Name("_CRS", w => w.Buffer(windows.ToArray()))
            .Name("_PRT", w => w.Package([.. Routes()]));
    }

    /// <summary>Routing of all pins of all devices straight to global interrupts (§6.2.13).</summary>
    private static IEnumerable<Action<AmlWriter>> Routes()
    {
        for (int device = 1; device < 32; device++)
        {
            for (int pin = 0; pin < 4; pin++)
            {
                ulong address = ((ulong)device << 16) | 0xFFFF;
                (int p, int gsi) = (pin, PcLayout.PciGsi(device, pin));
                yield return w => w.Package(
                    e => e.Integer(address), e => e.Integer((ulong)p), e => e.Integer(0), e => e.Integer((ulong)gsi));
            }
        }
    }

    private static void SerialPort(AmlWriter scope, int number)
    {
        (ushort port, int irq) = number switch
        {
            1 => (PcLayout.Com1Port, PcLayout.Com1Irq),
            2 => (PcLayout.Com2Port, PcLayout.Com2Irq),
            3 => (PcLayout.Com3Port, PcLayout.Com3Irq),
            4 => (PcLayout.Com4Port, PcLayout.Com4Irq),
            _ => throw new ArgumentOutOfRangeException(nameof(number), number, "COM ports are 1–4."),
        };
        scope.Device($"COM{number}", d => IsaDevice(d, "PNP0501", new AmlResources().Io(port, 8).Irq(irq), (ulong)number));
    }

    private static void IsaDevice(AmlWriter device, string id, AmlResources resources, ulong? uid = null)
    {
        device.Name("_HID", w => w.EisaId(id));
        if (uid is { } value)
            device.Name("_UID", w => w.Integer(value));
        device.Name("_CRS", w => w.Buffer(resources.ToArray()));
    }
}
