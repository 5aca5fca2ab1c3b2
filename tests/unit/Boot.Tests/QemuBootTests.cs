using VirtPS.Guests.Ringlab;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Machine;

namespace VirtPS.Boot.Tests;

/// <summary>Guests that our loaders have loaded, run by QEMU.</summary>
public class QemuBootTests
{
    private const string KernelVariable = "VIRTPS_TEST_KERNEL", InitrdVariable = "VIRTPS_TEST_INITRD";

    [Theory]
    [InlineData(BootKind.Pvh)]
    [InlineData(BootKind.Multiboot)]
    public void RinglabRunsAsLoaded(BootKind kind)
    {
        SkipWithoutQemu();
        using var machine = new TestMachine(32 << 20);
        machine.Load(new BootConfiguration { Kind = kind, Kernel = machine.WriteFile("ringlab", RinglabImage.Build()), CommandLine = "exit" });
        string output = QemuRom.Run(machine, null, TimeSpan.FromSeconds(20));
        Assert.Contains("RINGLAB-OK rings=0,1,2,3", output, StringComparison.Ordinal);
        Assert.EndsWith("[ring 0] exit: power off\r\n", output, StringComparison.Ordinal);
    }

    [Fact]
    public void ABootSectorRunsAsLoaded()
    {
        SkipWithoutQemu();
        byte[] sector = Images.BootSector();
        byte[] code = [0x88, 0xD0, 0x2C, 0x80 - 'A', 0xBA, 0xF8, 0x03, 0xEE, 0xFA, 0xF4]; // AL = DL - 80h + 'A'; OUT 3F8h, AL; CLI; HLT
        code.CopyTo(sector, 0);
        using var machine = new TestMachine(1 << 20);
        machine.Load(new BootConfiguration { Kind = BootKind.BootSector, Kernel = machine.WriteFile("sector", sector) });
        Assert.Equal("A", QemuRom.Run(machine, "A", TimeSpan.FromSeconds(10)));
    }

    [Theory]
    [InlineData(BootKind.Linux, 1)]
    [InlineData(BootKind.Linux, 2)]
    [InlineData(BootKind.Pvh, 1)]
    public void ALinuxKernelReachesUserSpaceAndFindsOurTables(BootKind kind, int processors)
    {
        SkipWithoutQemu();
        string? kernel = Environment.GetEnvironmentVariable(KernelVariable), initrd = Environment.GetEnvironmentVariable(InitrdVariable);
        Assert.SkipUnless(File.Exists(kernel) && File.Exists(initrd), $"set {KernelVariable} to a bzImage and {InitrdVariable} to an initrd that prints GUEST-READY");
        using var machine = new TestMachine(256 << 20);
        machine.Load(new BootConfiguration { Kind = kind, Kernel = kernel, Initrd = initrd, CommandLine = "console=ttyS0 panic=-1" }, processors);
        string output = QemuRom.Run(machine, "GUEST-READY", TimeSpan.FromSeconds(90), processors);
        Assert.Contains("GUEST-READY", output, StringComparison.Ordinal);
        foreach (string expected in (ReadOnlySpan<string>)["VIRTPS VIRTPSPC", "ACPI: PM: (supports S0 S5)", "ACPI: PCI Root Bridge [PCI0]", "ttyS0 at I/O 0x3f8 (irq = 4", $"smp: Brought up 1 node, {processors} CPU"])
            Assert.Contains(expected, output, StringComparison.Ordinal);
        foreach (string complaint in (ReadOnlySpan<string>)["ACPI Error", "ACPI BIOS Error", "ACPI Warning", "[Firmware Bug]", "Call Trace"])
            Assert.DoesNotContain(complaint, output, StringComparison.Ordinal);
    }

    private static void SkipWithoutQemu() => Assert.SkipUnless(QemuRom.Program is not null, "qemu-system-x86_64 is not installed");
}
