using System.Globalization;
using System.Text;
using VirtPS.Sdk;

namespace VirtPS.Client.Images;

/// <summary>
/// Writes a cpio archive in the "newc" format, which Linux unpacks as its initramfs (Documentation/driver-api/early-userspace/buffer-format.rst). Not
/// thread-safe.
/// </summary>
internal sealed class CpioWriter(Stream output)
{
    private const string TrailerName = "TRAILER!!!";
    private const int BlockSize = 512;
    private uint _inode = 1;
    private long _written;

    /// <summary>Writes one entry. <paramref name="mode"/> has the type bits (S_IFMT) and permissions; <paramref name="size"/> bytes are copied from <paramref name="content"/>.</summary>
    public async Task WriteAsync(string name, uint mode, Stream? content, long size, uint major, uint minor, DateTimeOffset modified, CancellationToken cancellation)
    {
        if (size > uint.MaxValue)
            throw new VirtException(ErrorIds.ImageInvalid, $"'{name}' has {size} bytes; a cpio archive holds files below 4 GiB.", "Put it on a disk instead.", name);
        byte[] nameBytes = Encoding.UTF8.GetBytes(name + '\0');
        uint seconds = (uint)Math.Clamp(modified.ToUnixTimeSeconds(), 0, uint.MaxValue);
        bool isFolder = (mode & UnixMode.TypeMask) == UnixMode.Folder;
        uint[] fields = [name == TrailerName ? 0 : _inode++, mode, 0, 0, isFolder ? 2u : 1u, seconds, (uint)size, 0, 0, major, minor, (uint)nameBytes.Length, 0];
        var header = new StringBuilder("070701", 110);
        foreach (uint field in fields)
            header.Append(CultureInfo.InvariantCulture, $"{field:X8}");
        await PutAsync(Encoding.ASCII.GetBytes(header.ToString()), cancellation).ConfigureAwait(false);
        await PutAsync(nameBytes, cancellation).ConfigureAwait(false);
        await PadAsync(4, cancellation).ConfigureAwait(false);
        if (size > 0)
            await CopyAsync(name, content!, size, cancellation).ConfigureAwait(false);
        await PadAsync(4, cancellation).ConfigureAwait(false);
    }

    public async Task FinishAsync(CancellationToken cancellation)
    {
        await WriteAsync(TrailerName, 0, null, 0, 0, 0, DateTimeOffset.UnixEpoch, cancellation).ConfigureAwait(false);
        await PadAsync(BlockSize, cancellation).ConfigureAwait(false);
    }

    private async Task CopyAsync(string name, Stream content, long size, CancellationToken cancellation)
    {
        byte[] buffer = new byte[1 << 16];
        long left = size;
        while (left > 0)
        {
            int n = await content.ReadAsync(buffer.AsMemory(0, (int)Math.Min(left, buffer.Length)), cancellation).ConfigureAwait(false);
            if (n == 0)
                throw new VirtException(ErrorIds.ImageInvalid, $"'{name}' became shorter while it was read.", "Try again when nothing writes the file.", name);
            await PutAsync(buffer.AsMemory(0, n), cancellation).ConfigureAwait(false);
            left -= n;
        }
    }

    private async Task PadAsync(int alignment, CancellationToken cancellation)
    {
        int missing = (int)(-_written & (alignment - 1));
        if (missing > 0)
            await PutAsync(new byte[missing], cancellation).ConfigureAwait(false);
    }

    private async Task PutAsync(ReadOnlyMemory<byte> bytes, CancellationToken cancellation)
    {
        await output.WriteAsync(bytes, cancellation).ConfigureAwait(false);
        _written += bytes.Length;
    }
}

/// <summary>File type bits of a Unix mode (stat(2)).</summary>
internal static class UnixMode
{
    public const uint TypeMask = 0xF000, Folder = 0x4000, Regular = 0x8000, SymbolicLink = 0xA000, CharacterDevice = 0x2000, BlockDevice = 0x6000;
}
