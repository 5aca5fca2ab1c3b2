using System.Formats.Tar;
using System.IO.Compression;
using System.Text;
using VirtPS.Client.Images;
using VirtPS.Sdk;

namespace VirtPS.Images.Tests;

public class DebPackageTests
{
    private static readonly byte[] Kernel = [.. Enumerable.Range(0, 70_000).Select(i => (byte)(i >> 3))];

    [Theory]
    [InlineData("data.tar")]
    [InlineData("data.tar.gz")]
    [InlineData("data.tar.xz")]
    [InlineData("data.tar.zst")]
    public async Task TakesAFileOutOfEveryCompression(string member)
    {
        using var scratch = new Scratch();
        string deb = scratch.Write("p.deb", Deb(member, Compress(scratch, member)));
        string found = await DebPackage.ExtractAsync(deb, p => p.StartsWith("boot/vmlinuz-", StringComparison.Ordinal), scratch.PathOf("out"), TestContext.Current.CancellationToken);
        Assert.Equal("boot/vmlinuz-1", found);
        Assert.Equal(Kernel, File.ReadAllBytes(scratch.PathOf("out")));
    }

    [Theory]
    [InlineData("not ar", "does not begin as an ar archive")]
    [InlineData("cut", "offset 0x48 is damaged or cut off")]
    [InlineData("no data", "has no member data.tar")]
    [InlineData("lzip", "compressed as 'data.tar.lz'")]
    [InlineData("garbage", "cannot be unpacked")]
    [InlineData("other file", "does not hold the file")]
    public async Task DamageIsOneClearError(string defect, string expected)
    {
        using var scratch = new Scratch();
        byte[] good = Deb("data.tar.gz", Compress(scratch, "data.tar.gz"));
        byte[] bytes = defect switch
        {
            "not ar" => [1, 2, 3],
            "cut" => good[..200],
            "no data" => good[..72],
            "lzip" => Deb("data.tar.lz", [1, 2]),
            "garbage" => Deb("data.tar.xz", [0xFD, 0x37, 0x7A, 0x58, 0x5A, 0, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9]),
            _ => good,
        };
        string deb = scratch.Write("p.deb", bytes);
        VirtException e = await Assert.ThrowsAsync<VirtException>(() => DebPackage.ExtractAsync(deb, p => p == "boot/nothing", scratch.PathOf("out"), default));
        Assert.Equal("ImageInvalid", e.ErrorId);
        Assert.Contains(expected, e.Message, StringComparison.Ordinal);
        Assert.Contains(deb, e.Message, StringComparison.Ordinal);
    }

    /// <summary>ar(5): debian-binary, then one data member.</summary>
    internal static byte[] Deb(string member, byte[] data)
    {
        var deb = new MemoryStream();
        deb.Write("!<arch>\n"u8);
        foreach ((string name, byte[] content) in (ReadOnlySpan<(string, byte[])>)[("debian-binary", "2.0\n"u8.ToArray()), (member, data)])
        {
            deb.Write(Encoding.ASCII.GetBytes($"{name,-16}{0,-12}{0,-6}{0,-6}{100644,-8}{content.Length,-10}`\n"));
            deb.Write(content);
            if ((content.Length & 1) != 0)
                deb.WriteByte((byte)'\n');
        }

        return deb.ToArray();
    }

    private static byte[] Compress(Scratch scratch, string member)
    {
        var tar = new MemoryStream();
        using (var writer = new TarWriter(tar, TarEntryFormat.Gnu, leaveOpen: true))
        {
            writer.WriteEntry(new GnuTarEntry(TarEntryType.Directory, "./boot"));
            writer.WriteEntry(new GnuTarEntry(TarEntryType.RegularFile, "./boot/config-1") { DataStream = new MemoryStream([1, 2]) });
            writer.WriteEntry(new GnuTarEntry(TarEntryType.SymbolicLink, "./boot/vmlinuz-link") { LinkName = "vmlinuz-1" });
            writer.WriteEntry(new GnuTarEntry(TarEntryType.RegularFile, "./boot/vmlinuz-1") { DataStream = new MemoryStream(Kernel) });
        }

        var buffer = new MemoryStream();
        switch (member)
        {
            case "data.tar.gz":
                using (var gzip = new GZipStream(buffer, CompressionLevel.Fastest, leaveOpen: true))
                    gzip.Write(tar.ToArray());
                return buffer.ToArray();
            case "data.tar.zst":
                using (var zstd = new SharpCompress.Compressors.ZStandard.CompressionStream(buffer, 3, 0, leaveOpen: true))
                    zstd.Write(tar.ToArray());
                return buffer.ToArray();
            case "data.tar.xz":
                Assert.SkipUnless(Scratch.Program("xz") is not null, "xz is not installed");
                scratch.Write("data.tar", tar.ToArray());
                scratch.Shell("xz -f data.tar");
                return File.ReadAllBytes(scratch.PathOf("data.tar.xz"));
            default:
                return tar.ToArray();
        }
    }
}
