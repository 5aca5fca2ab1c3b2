using VirtPS.Sdk.Machine;

namespace VirtPS.Guest.Tests;

/// <summary>
/// A stock Linux kernel, to user space: Debian's, from the image store (fetched once where there is apt). VIRTPS_TEST_KERNEL and VIRTPS_TEST_INITRD name others; the initrd must
/// print GUEST-READY and the number of CPUs.
/// </summary>
public class LinuxTests
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(240);

    [Theory]
    [InlineData(BootKind.Linux, 1)]
    [InlineData(BootKind.Pvh, 4)]
    public async Task ReachesUserSpace(BootKind kind, int processors)
    {
        using DebianImages images = await DebianImages.FindAsync();
        var boot = new BootConfiguration { Kind = kind, Kernel = images.Kernel, Initrd = images.Initrd, CommandLine = "console=ttyS0 panic=-1" };
        using var guest = new GuestRun(boot, 512 << 20, processors);
        guest.Machine.PowerOn();
        Assert.True(guest.WaitFor("GUEST-READY", Limit), guest.ToString());
        Assert.True(guest.WaitFor($"{processors} CPU(s)", Limit), guest.ToString());
        foreach (string complaint in (ReadOnlySpan<string>)["ACPI Error", "ACPI BIOS Error", "ACPI Warning", "[Firmware Bug]", "Call Trace", "BUG:", "WARNING:"])
            Assert.DoesNotContain(complaint, guest.Output, StringComparison.Ordinal);
    }
}
