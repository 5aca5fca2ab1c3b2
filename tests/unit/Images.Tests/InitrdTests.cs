using System.IO.Compression;
using VirtPS.Client.Images;
using VirtPS.Sdk;

namespace VirtPS.Images.Tests;

public class InitrdTests
{
    private const UnixFileMode OwnerAll = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute;

    [Fact]
    public async Task CpioUnderstandsWhatIsWritten()
    {
        Assert.SkipUnless(Scratch.Program("cpio") is not null, "cpio is not installed");
        using var scratch = new Scratch();
        await Sample(scratch).WriteFileAsync(scratch.PathOf("initrd"), compress: false);
        string list = scratch.Shell("cpio -itv < initrd");
        Assert.Matches(@"drwxr-xr-x .* a\n", list);
        Assert.Matches(@"drwx------ .* a/private\n", list);
        Assert.Matches(@"-rwx------ .* 5 .* a/private/file\n", list);
        Assert.Matches(@"-rw-r--r-- .* 3 .* a/text\n", list);
        Assert.Matches(@"lrwxrwxrwx .* link -> a/text\n", list);
        Assert.Matches(@"crw------- .* 5, +1 .* dev/console\n", list);
        Assert.Matches(@"brw------- .* 8, +1 .* dev/sda1\n", list);
        Directory.CreateDirectory(scratch.PathOf("out"));
        scratch.Shell("cd out && cpio -id --no-absolute-filenames < ../initrd");
        Assert.Equal("hi\n", File.ReadAllText(scratch.PathOf("out/a/text")));
        Assert.Equal([1, 2, 3, 4, 5], File.ReadAllBytes(scratch.PathOf("out/a/private/file")));
    }

    [Fact]
    public async Task ParentsComeBeforeTheirContentAndTheArchiveIsDeterministic()
    {
        using var scratch = new Scratch();
        InitrdBuilder builder = Sample(scratch);
        List<string> paths = [.. builder.Paths];
        Assert.True(paths.IndexOf("a") < paths.IndexOf("a/private") && paths.IndexOf("a/private") < paths.IndexOf("a/private/file"));
        using MemoryStream first = new(), second = new();
        await builder.WriteAsync(first);
        await Sample(scratch).WriteAsync(second);
        Assert.Equal(first.ToArray(), second.ToArray());
        Assert.Equal(0, first.Length % 512);
    }

    [Fact]
    public async Task CompressedIsTheSameInsideGzip()
    {
        using var scratch = new Scratch();
        await Sample(scratch).WriteFileAsync(scratch.PathOf("plain"), compress: false);
        await Sample(scratch).WriteFileAsync(scratch.PathOf("gz"), compress: true);
        using var inner = new MemoryStream();
        using (var gzip = new GZipStream(File.OpenRead(scratch.PathOf("gz")), CompressionMode.Decompress))
            gzip.CopyTo(inner);
        Assert.Equal(File.ReadAllBytes(scratch.PathOf("plain")), inner.ToArray());
    }

    [Fact]
    public async Task AHostTreeIsCopiedWithModesAndLinks()
    {
        Assert.SkipUnless(Scratch.Program("cpio") is not null, "cpio is not installed");
        using var scratch = new Scratch();
        File.SetUnixFileMode(scratch.Write("tree/sub/run", [1]), OwnerAll);
        File.CreateSymbolicLink(scratch.PathOf("tree/link"), "sub/run");
        await new InitrdBuilder().AddHostTree("/opt", scratch.PathOf("tree")).WriteFileAsync(scratch.PathOf("initrd"), compress: false);
        string list = scratch.Shell("cpio -itv < initrd");
        Assert.Matches(@"-rwx------ .* opt/sub/run\n", list);
        Assert.Matches(@"opt/link -> sub/run\n", list);
    }

    [Theory]
    [InlineData("/a/../b")]
    [InlineData("//")]
    [InlineData("/a//b")]
    [InlineData("/./a")]
    public void PathsThatAGuestCannotHaveAreRefused(string path) =>
        Assert.Equal("ImageInvalid", Assert.Throws<VirtException>(() => new InitrdBuilder().AddFile(path, [])).ErrorId);

    [Fact]
    public void AFileCannotBeAFolderToo() =>
        Assert.Contains("which is a file", Assert.Throws<VirtException>(() => new InitrdBuilder().AddFile("/a", []).AddFile("/a/b", [])).Message, StringComparison.Ordinal);

    [Fact]
    public async Task CancellingLeavesNothingBehind()
    {
        using var scratch = new Scratch();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => Sample(scratch).WriteFileAsync(scratch.PathOf("initrd"), true, new CancellationToken(canceled: true)));
        Assert.DoesNotContain(Directory.EnumerateFiles(scratch.Folder), f => f.Contains("initrd", StringComparison.Ordinal));
    }

    [Fact]
    public async Task AFolderThatDoesNotExistIsNamed()
    {
        using var scratch = new Scratch();
        VirtException e = await Assert.ThrowsAsync<VirtException>(() => Sample(scratch).WriteFileAsync(scratch.PathOf("no/such/initrd"), false));
        Assert.Equal("StoreWriteFailed", e.ErrorId);
        Assert.Contains("no/such/initrd", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void BusyboxMustBeAStaticProgram()
    {
        using var scratch = new Scratch();
        Assert.Contains("not a program for x86-64", Assert.Throws<VirtException>(() => BusyboxInitrd.Create(scratch.Write("b", "#!/bin/sh\n"u8.ToArray()))).Message, StringComparison.Ordinal);
        Assert.Equal("ImageNotFound", Assert.Throws<VirtException>(() => BusyboxInitrd.Create(scratch.PathOf("none"))).ErrorId);
        Assert.Contains("needs shared libraries", Assert.Throws<VirtException>(() => BusyboxInitrd.Create(scratch.Write("dynamic", Elf(segmentType: 3)))).Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task TheBusyboxInitIsAScriptThatTheShellAccepts()
    {
        Assert.SkipUnless(Scratch.Program("cpio") is not null && OperatingSystem.IsLinux(), "cpio is not installed");
        using var scratch = new Scratch();
        string busybox = scratch.Write("busybox", Elf(segmentType: 1));
        var options = new BusyboxInitrdOptions { Marker = "it's ready", Script = "echo started", PowerOff = true };
        await BusyboxInitrd.Create(busybox, options).WriteFileAsync(scratch.PathOf("initrd"), compress: false);
        scratch.Shell("cpio -id --no-absolute-filenames init etc/start < initrd");
        Assert.Equal("", scratch.Shell("sh -n init && sh -n etc/start"));
        string marker = scratch.Shell("sh -c \"$(grep '^echo' init)\"");
        Assert.StartsWith("it's ready Linux ", marker, StringComparison.Ordinal);
        Assert.EndsWith("poweroff -f\n", File.ReadAllText(scratch.PathOf("init")), StringComparison.Ordinal);
    }

    internal static byte[] Elf(int segmentType)
    {
        byte[] elf = new byte[256];
        "\u007fELF"u8.CopyTo(elf);
        elf[4] = 2;
        elf[18] = 62;
        elf[32] = 64;
        elf[54] = 56;
        elf[56] = 1;
        elf[64] = (byte)segmentType;
        return elf;
    }

    private static InitrdBuilder Sample(Scratch scratch) => new InitrdBuilder()
        .AddHostFile("/a/private/file", scratch.Write("source", [1, 2, 3, 4, 5]), OwnerAll)
        .AddFolder("/a/private", OwnerAll)
        .AddText("/a/text", "hi\r\n")
        .AddSymbolicLink("/link", "a/text")
        .AddCharacterDevice("/dev/console", 5, 1)
        .AddBlockDevice("/dev/sda1", 8, 1);
}
