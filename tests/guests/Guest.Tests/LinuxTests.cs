using VirtPS.Sdk.Machine;

namespace VirtPS.Guest.Tests;

/// <summary>A stock Linux kernel, to user space. Needs a kernel and an initrd that prints GUEST-READY, named by two environment variables.</summary>
public class LinuxTests
{
    private const string KernelVariable = "VIRTPS_TEST_KERNEL", InitrdVariable = "VIRTPS_TEST_INITRD";
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(240);

    [Theory]
    [InlineData(BootKind.Linux, 1)]
    [InlineData(BootKind.Linux, 4)]
    [InlineData(BootKind.Pvh, 1)]
    public void ReachesUserSpace(BootKind kind, int processors)
    {
        string? kernel = Environment.GetEnvironmentVariable(KernelVariable), initrd = Environment.GetEnvironmentVariable(InitrdVariable);
        Assert.SkipUnless(File.Exists(kernel) && File.Exists(initrd), $"set {KernelVariable} to a bzImage and {InitrdVariable} to an initrd that prints GUEST-READY");
        var boot = new BootConfiguration { Kind = kind, Kernel = kernel, Initrd = initrd, CommandLine = "console=ttyS0 panic=-1" };
        using var guest = new GuestRun(boot, 512 << 20, processors);
        guest.Machine.PowerOn();
        Assert.True(guest.WaitFor("GUEST-READY", Limit), guest.ToString());
        Assert.Contains($"{processors} CPU(s)", guest.Output, StringComparison.Ordinal);
    }
}
