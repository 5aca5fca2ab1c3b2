using Microsoft.Win32.SafeHandles;
using VirtPS.Sdk.Memory;

namespace VirtPS.Engine.Boot;

/// <summary>A file (or bytes in memory, or what is compressed in another image) from which a guest is started. Opened for the time of loading only. Not thread-safe.</summary>
public sealed class GuestImage : IDisposable
{
    private readonly SafeFileHandle? _file;
    private readonly ReadOnlyMemory<byte> _content;
    private readonly Lz4Frame? _frame;

    private GuestImage(string name, ulong length, SafeFileHandle? file = null, ReadOnlyMemory<byte> content = default, Lz4Frame? frame = null) =>
        (Name, Length, _file, _content, _frame) = (name, length, file, content, frame);

    /// <summary>What error messages call it: its path.</summary>
    public string Name { get; }

    /// <summary>Bytes; never 0.</summary>
    public ulong Length { get; }

    /// <summary>Opens <paramref name="path"/>. Throws VirtException <c>ImageInvalid</c> for a file that is missing, a folder, unreadable or empty.</summary>
    public static GuestImage Open(string path)
    {
        if (Directory.Exists(path))
            throw ImageFault.Of(path, "is a folder, not a file", "Name the image file itself.");
        SafeFileHandle file;
        try
        {
            file = File.OpenHandle(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            throw ImageFault.Of(path, "there is no such file", "Check the path.", e);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException)
        {
            throw ImageFault.Of(path, $"cannot be read ({e.Message})", "Check the file's permissions and that it is a regular file.", e);
        }

        long length = RandomAccess.GetLength(file);
        if (length == 0)
        {
            file.Dispose();
            throw ImageFault.Of(path, "the file is empty", "It was probably cut off while it was copied or downloaded; fetch it again.");
        }

        return new GuestImage(path, (ulong)length, file);
    }

    /// <summary>An image that is in memory already.</summary>
    public static GuestImage FromBytes(string name, ReadOnlyMemory<byte> content)
    {
        if (content.IsEmpty)
            throw ImageFault.Of(name, "the image is empty", "Build it again.");
        return new GuestImage(name, (ulong)content.Length, content: content);
    }

    /// <summary>What is compressed in another image.</summary>
    internal static GuestImage FromFrame(string name, Lz4Frame frame) => new(name, frame.Length, frame: frame);

    /// <summary>A range that will be read later: of a compressed image it is kept when something else comes by it.</summary>
    internal void Expect(ulong offset, ulong length) => _frame?.Expect(offset, (int)Math.Min(length, int.MaxValue));

    /// <summary>Fills <paramref name="destination"/> from <paramref name="offset"/>. <paramref name="what"/> names the part in the error for a file that ends too early.</summary>
    public void Read(ulong offset, Span<byte> destination, string what)
    {
        if (offset > Length || (ulong)destination.Length > Length - offset)
            throw Truncated(offset, (ulong)destination.Length, what);
        if (_frame is not null)
        {
            _frame.Read(offset, destination);
            return;
        }

        if (_file is null)
        {
            _content.Span.Slice((int)offset, destination.Length).CopyTo(destination);
            return;
        }

        try
        {
            while (destination.Length > 0)
            {
                int n = RandomAccess.Read(_file, destination, (long)offset);
                if (n == 0)
                    throw Truncated(offset, (ulong)destination.Length, what);
                destination = destination[n..];
                offset += (ulong)n;
            }
        }
        catch (IOException e)
        {
            throw ImageFault.At(Name, offset, what, $"cannot be read ({e.Message})", "Check the disk the file is on.", e);
        }
    }

    /// <summary>A part of the image; at most 2 GiB.</summary>
    public byte[] Read(ulong offset, ulong length, string what)
    {
        if (offset > Length || length > Length - offset)
            throw Truncated(offset, length, what);
        if (length > (ulong)Array.MaxLength)
            throw ImageFault.At(Name, offset, what, $"{length} bytes are more than a kernel can have", "Check that this is the right file.");
        byte[] bytes = new byte[length];
        Read(offset, bytes, what);
        return bytes;
    }

    /// <summary>The first bytes, at most <paramref name="count"/>; what loaders recognise formats by.</summary>
    public byte[] ReadHeader(int count) => Read(0, Math.Min(Length, (ulong)count), "header");

    /// <summary>Copies a part of the image to guest memory, straight into it.</summary>
    public void CopyTo(GuestMemory memory, ulong offset, ulong gpa, ulong length, string what)
    {
        if (offset > Length || length > Length - offset)
            throw Truncated(offset, length, what);
        while (length > 0)
        {
            if (!memory.TryFind(gpa, out MemorySlot? slot))
                throw new InvalidOperationException($"There is no RAM at 0x{gpa:X}.");
            int n = (int)Math.Min(Math.Min(length, slot.End - gpa), int.MaxValue);
            if (!memory.TryLease(gpa, n, writable: true, out MemoryLease lease))
                throw new InvalidOperationException($"RAM at 0x{gpa:X} cannot be written.");
            using (lease)
                Read(offset, lease.Span, what);
            (offset, gpa, length) = (offset + (ulong)n, gpa + (ulong)n, length - (ulong)n);
        }
    }

    public void Dispose() => _file?.Dispose();

    private Exception Truncated(ulong offset, ulong length, string what) => ImageFault.At(
        Name, offset, what, $"{length} bytes are expected, but the file ends at 0x{Length:X}", "The file is cut off; fetch or build it again.");
}
