using System.Formats.Tar;
using System.Globalization;
using System.IO.Compression;
using System.Text;
using SharpCompress.Compressors.Xz;
using VirtPS.Sdk;
using ZstandardStream = SharpCompress.Compressors.ZStandard.DecompressionStream;

namespace VirtPS.Client.Images;

/// <summary>Reads a Debian binary package (deb(5)): an ar archive whose member data.tar holds the files.</summary>
internal static class DebPackage
{
    private const int MemberHeaderSize = 60;

    /// <summary>
    /// Extracts the first file that <paramref name="wanted"/> accepts (by its path, such as <c>boot/vmlinuz-6.1.0</c>) to <paramref name="destination"/>; returns its path in the
    /// package. Errors: ImageInvalid, naming the package and the place.
    /// </summary>
    public static async Task<string> ExtractAsync(string package, Func<string, bool> wanted, string destination, CancellationToken cancellation)
    {
        try
        {
            await using FileStream file = new(package, FileMode.Open, FileAccess.Read, FileShare.Read);
            await using Stream data = OpenData(package, file);
            await using var tar = new TarReader(data);
            while (await tar.GetNextEntryAsync(copyData: false, cancellation).ConfigureAwait(false) is { } entry)
            {
                string path = entry.Name.TrimStart('.', '/');
                if (entry.EntryType is not (TarEntryType.RegularFile or TarEntryType.V7RegularFile) || entry.DataStream is null || !wanted(path))
                    continue;
                await using FileStream output = new(destination, FileMode.CreateNew, FileAccess.Write);
                await entry.DataStream.CopyToAsync(output, cancellation).ConfigureAwait(false);
                return path;
            }
        }
        catch (Exception e) when (e is InvalidDataException or EndOfStreamException or FormatException or OverflowException or SharpCompress.Common.SharpCompressException
            or SharpCompress.Compressors.ZStandard.ZstdException)
        {
            throw Invalid(package, $"its content cannot be unpacked ({e.Message})", e);
        }

        throw Invalid(package, "it does not hold the file that was looked for");
    }

    /// <summary>
    /// Extracts every file for which <paramref name="destination"/> gives a place, in one pass; returns their paths in the package. Errors: ImageInvalid, also when there is none.
    /// </summary>
    public static async Task<IReadOnlyList<string>> ExtractAllAsync(string package, Func<string, string?> destination, CancellationToken cancellation)
    {
        List<string> found = [];
        bool Place(string path, out string place) => (place = destination(path) ?? "").Length > 0;
        try
        {
            await using FileStream file = new(package, FileMode.Open, FileAccess.Read, FileShare.Read);
            await using Stream data = OpenData(package, file);
            await using var tar = new TarReader(data);
            while (await tar.GetNextEntryAsync(copyData: false, cancellation).ConfigureAwait(false) is { } entry)
            {
                string path = entry.Name.TrimStart('.', '/');
                if (entry.EntryType is not (TarEntryType.RegularFile or TarEntryType.V7RegularFile) || entry.DataStream is null || !Place(path, out string place))
                    continue;
                await using FileStream output = new(place, FileMode.CreateNew, FileAccess.Write);
                await entry.DataStream.CopyToAsync(output, cancellation).ConfigureAwait(false);
                found.Add(path);
            }
        }
        catch (Exception e) when (e is InvalidDataException or EndOfStreamException or FormatException or OverflowException or SharpCompress.Common.SharpCompressException
            or SharpCompress.Compressors.ZStandard.ZstdException)
        {
            throw Invalid(package, $"its content cannot be unpacked ({e.Message})", e);
        }

        return found.Count > 0 ? found : throw Invalid(package, "it does not hold the files that were looked for");
    }

    private static Stream OpenData(string package, FileStream file)
    {
        Span<byte> magic = stackalloc byte[8];
        if (file.ReadAtLeast(magic, 8, throwOnEndOfStream: false) < 8 || !magic.SequenceEqual("!<arch>\n"u8))
            throw Invalid(package, "it does not begin as an ar archive");
        Span<byte> header = stackalloc byte[MemberHeaderSize];
        while (file.ReadAtLeast(header, MemberHeaderSize, throwOnEndOfStream: false) == MemberHeaderSize)
        {
            string name = Encoding.ASCII.GetString(header[..16]).TrimEnd(' ', '/');
            if (header[58] != 0x60 || !long.TryParse(Encoding.ASCII.GetString(header[48..58]), NumberStyles.AllowTrailingWhite, CultureInfo.InvariantCulture, out long size)
                || size > file.Length - file.Position)
                throw Invalid(package, $"the archive member at offset 0x{file.Position - MemberHeaderSize:X} is damaged or cut off");
            switch (name)
            {
                case "data.tar":
                    return file;
                case "data.tar.gz":
                    return new GZipStream(file, CompressionMode.Decompress);
                case "data.tar.xz":
                    return new XZStream(file);
                case "data.tar.zst":
                    return new ZstandardStream(file);
            }

            if (name.StartsWith("data.tar", StringComparison.Ordinal))
                throw Invalid(package, $"its content is compressed as '{name}', which is not known");
            file.Seek(size + (size & 1), SeekOrigin.Current);
        }

        throw Invalid(package, "it has no member data.tar");
    }

    private static VirtException Invalid(string package, string problem, Exception? inner = null) =>
        new(ErrorIds.ImageInvalid, $"The package '{package}' is not usable: {problem}.", "Fetch it again.", package, inner);
}
