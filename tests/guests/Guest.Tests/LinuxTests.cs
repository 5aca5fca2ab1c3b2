using VirtPS.Client.Images;
using VirtPS.Sdk;
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
        using var initrdFolder = new TemporaryFolder();
        (string kernel, string initrd) = await FindAsync(initrdFolder.Path);
        var boot = new BootConfiguration { Kind = kind, Kernel = kernel, Initrd = initrd, CommandLine = "console=ttyS0 panic=-1" };
        using var guest = new GuestRun(boot, 512 << 20, processors);
        guest.Machine.PowerOn();
        Assert.True(guest.WaitFor("GUEST-READY", Limit), guest.ToString());
        Assert.True(guest.WaitFor($"{processors} CPU(s)", Limit), guest.ToString());
        foreach (string complaint in (ReadOnlySpan<string>)["ACPI Error", "ACPI BIOS Error", "ACPI Warning", "[Firmware Bug]", "Call Trace", "BUG:", "WARNING:"])
            Assert.DoesNotContain(complaint, guest.Output, StringComparison.Ordinal);
    }

    private static async Task<(string Kernel, string Initrd)> FindAsync(string folder)
    {
        string? kernel = Environment.GetEnvironmentVariable("VIRTPS_TEST_KERNEL"), initrd = Environment.GetEnvironmentVariable("VIRTPS_TEST_INITRD");
        if (File.Exists(kernel) && File.Exists(initrd))
            return (kernel, initrd);
        try
        {
            var store = new ImageStore();
            kernel = (await store.SaveAsync("debian-cloud-kernel", cancellation: TestContext.Current.CancellationToken)).Path!;
            initrd = System.IO.Path.Combine(folder, "initrd");
            await BusyboxInitrd.Create((await store.SaveAsync("busybox", cancellation: TestContext.Current.CancellationToken)).Path!).WriteFileAsync(initrd, compress: false);
            return (kernel, initrd);
        }
        catch (VirtException e) when (e.ErrorId == "ImageUnavailable")
        {
            Assert.Skip($"{e.Message} {e.RecommendedAction}");
            throw;
        }
    }

    private sealed class TemporaryFolder : IDisposable
    {
        public string Path { get; } = Directory.CreateTempSubdirectory("virtps-guest-").FullName;

        public void Dispose() => Directory.Delete(Path, recursive: true);
    }
}
