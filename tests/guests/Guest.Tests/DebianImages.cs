using VirtPS.Client.Images;
using VirtPS.Sdk;

namespace VirtPS.Guest.Tests;

/// <summary>Debian's kernel from the image store, and an initial RAM disk around its busybox; dispose to delete that.</summary>
internal sealed class DebianImages : IDisposable
{
    private readonly string? _folder;

    private DebianImages(string kernel, string initrd, string? folder) => (Kernel, Initrd, _folder) = (kernel, initrd, folder);

    public string Kernel { get; }

    public string Initrd { get; }

    /// <summary>
    /// VIRTPS_TEST_KERNEL and VIRTPS_TEST_INITRD name others, where no <paramref name="script"/> is asked for. <paramref name="programs"/>, by name, are in the guest's /bin. Skips the test where there
    /// is neither cache nor apt.
    /// </summary>
    public static async Task<DebianImages> FindAsync(string? script = null, IReadOnlyDictionary<string, byte[]>? programs = null)
    {
        string? kernel = Environment.GetEnvironmentVariable("VIRTPS_TEST_KERNEL"), initrd = Environment.GetEnvironmentVariable("VIRTPS_TEST_INITRD");
        if (script is null && File.Exists(kernel) && File.Exists(initrd))
            return new DebianImages(kernel, initrd, null);
        string folder = Directory.CreateTempSubdirectory("virtps-guest-").FullName;
        try
        {
            var store = new ImageStore();
            kernel = (await store.SaveAsync("debian-cloud-kernel", cancellation: TestContext.Current.CancellationToken)).Path!;
            initrd = Path.Combine(folder, "initrd");
            string busybox = (await store.SaveAsync("busybox", cancellation: TestContext.Current.CancellationToken)).Path!;
            InitrdBuilder builder = BusyboxInitrd.Create(busybox, new BusyboxInitrdOptions { Script = script });
            foreach ((string name, byte[] content) in programs ?? new Dictionary<string, byte[]>())
                builder.AddFile("/bin/" + name, content, (UnixFileMode)0x1ED);
            await builder.WriteFileAsync(initrd, compress: false);
            return new DebianImages(kernel, initrd, folder);
        }
        catch (VirtException e) when (e.ErrorId == "ImageUnavailable")
        {
            Directory.Delete(folder, recursive: true);
            Assert.Skip($"{e.Message} {e.RecommendedAction}");
            throw;
        }
    }

    public void Dispose()
    {
        if (_folder is not null)
            Directory.Delete(_folder, recursive: true);
    }
}
