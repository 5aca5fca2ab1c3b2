using System.Text;
using VirtPS.Sdk.Machine;

namespace VirtPS.Guest.Tests;

/// <summary>A stock kernel that finds nothing to run: panic=-1 makes it restart the machine at once, through ACPI's reset register (port 0xCF9).</summary>
public class PanicTests
{
    [Theory]
    [InlineData(BootKind.Linux, 1, false, "None")]
    [InlineData(BootKind.Linux, 1, true, "None")]
    [InlineData(BootKind.Pvh, 1, true, "None")]
    [InlineData(BootKind.Linux, 2, true, "None")]
    [InlineData(BootKind.Pvh, 4, true, "Kvm")]
    public async Task A_panic_with_panic_minus_one_resets_the_machine(BootKind kind, int processors, bool emptyInitrd, string enlightenment)
    {
        using DebianImages images = await DebianImages.FindAsync();
        string initrd = Path.GetTempFileName();
        try
        {
            await File.WriteAllBytesAsync(initrd, EmptyArchive());
            var boot = new BootConfiguration { Kind = kind, Kernel = images.Kernel, Initrd = emptyInitrd ? initrd : null, CommandLine = "console=ttyS0 panic=-1" };
            using var guest = new GuestRun(boot, 512 << 20, processors, strategyOptions: new Dictionary<string, string> { ["enlightenment"] = enlightenment });
            guest.Machine.PowerOn();
            Assert.True(guest.WaitForEnd(TimeSpan.FromSeconds(40)), Where(guest));
            Assert.Contains("Kernel panic", guest.Output, StringComparison.Ordinal);
            Assert.Contains("0xCF9", guest.Machine.StatusReason, StringComparison.Ordinal);
        }
        finally
        {
            File.Delete(initrd);
        }
    }

    /// <summary>Each way that the kernel knows to restart a PC (Documentation/admin-guide/kernel-parameters.txt, reboot=): ACPI's register, keyboard controller, port 0xCF9, triple fault; and without ACPI.</summary>
    [Theory]
    [InlineData("reboot=a", "0xCF9")]
    [InlineData("reboot=k", "keyboard controller")]
    [InlineData("reboot=p", "0xCF9")]
    [InlineData("reboot=t", "riple fault")]
    [InlineData("acpi=off", "keyboard controller")]
    [InlineData("reboot=k", "keyboard controller", "interpreter")]
    public async Task Each_way_to_restart_is_seen(string option, string reason, string tier = "auto")
    {
        using DebianImages images = await DebianImages.FindAsync();
        var boot = new BootConfiguration { Kind = BootKind.Linux, Kernel = images.Kernel, CommandLine = "console=ttyS0 panic=-1 " + option };
        using var guest = new GuestRun(boot, 512 << 20, strategyOptions: new Dictionary<string, string> { ["tier"] = tier });
        guest.Machine.PowerOn();
        Assert.True(guest.WaitForEnd(TimeSpan.FromSeconds(60)), Where(guest));
        Assert.Contains(reason, guest.Machine.StatusReason, StringComparison.Ordinal);
    }

    /// <summary>The machine starts again each time, over what the former run has left.</summary>
    [Fact]
    public async Task It_starts_again_and_again()
    {
        using DebianImages images = await DebianImages.FindAsync();
        var boot = new BootConfiguration { Kind = BootKind.Linux, Kernel = images.Kernel, CommandLine = "console=ttyS0 panic=-1 quiet" };
        using var guest = new GuestRun(boot, 512 << 20, onReset: GuestResetAction.Restart);
        guest.Machine.PowerOn();
        Assert.True(guest.WaitFor("not syncing", TimeSpan.FromSeconds(60), 4), Where(guest));
    }

    private static string Where(GuestRun guest) =>
        string.Join("; ", guest.Machine.CaptureRings().Select(v => $"vCPU {v.State.Vcpu} at 0x{v.State.Rip:X}, {v.State.MpState}, {v.State.LastExit}")) + "\n" + guest;

    /// <summary>A newc archive (Documentation/driver-api/early-userspace/buffer-format.rst) of its trailer alone.</summary>
    private static byte[] EmptyArchive()
    {
        const string Trailer = "TRAILER!!!\0";
        string header = "070701" + string.Concat(Enumerable.Repeat("00000000", 4)) + "00000001" + string.Concat(Enumerable.Repeat("00000000", 6)) + $"{Trailer.Length:X8}" + "00000000";
        byte[] archive = new byte[512];
        Encoding.ASCII.GetBytes(header + Trailer, archive);
        return archive;
    }
}
