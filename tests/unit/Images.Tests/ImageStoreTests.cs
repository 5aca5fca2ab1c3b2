using System.Globalization;
using System.Security.Cryptography;
using VirtPS.Client.Images;
using VirtPS.Sdk;
using VirtPS.Sdk.Machine;

// Some tests change PATH, which all of the process sees.
[assembly: Xunit.v3.Parallelization(Mode = Xunit.Sdk.ParallelMode.None)]

namespace VirtPS.Images.Tests;

/// <summary>The store, with an apt of the test's own on the path: a shell script that knows one package.</summary>
public sealed class ImageStoreTests : IDisposable
{
    private readonly Scratch _scratch = new();
    private readonly string? _path = Environment.GetEnvironmentVariable("PATH");
    private readonly byte[] _busybox = InitrdTests.Elf(segmentType: 1);

    public ImageStoreTests() => Assert.SkipUnless(OperatingSystem.IsLinux(), "apt is Linux's");

    [Fact]
    public async Task SavesOnceAndThenTakesTheCache()
    {
        UseFakeApt(announcedHash: null);
        var store = new ImageStore(_scratch.Folder);
        Assert.All(store.List(), i => Assert.Null(i.Path));
        List<ImageProgress> reports = [];
        VirtImage image = await store.SaveAsync("busybox", progress: new Reporter(reports));
        Assert.Equal(_busybox, File.ReadAllBytes(image.Path!));
        Assert.Equal(Convert.ToHexStringLower(SHA256.HashData(_busybox)), image.Sha256);
        Assert.Equal(("1:2.0", (long?)_busybox.Length), (image.Version, image.Length));
        Assert.True(File.GetUnixFileMode(image.Path!).HasFlag(UnixFileMode.UserExecute));
        Assert.Equal(100, reports[^1].PercentComplete);
        Assert.Equal(image, store.List().Single(i => i.Name == "busybox"));
        await store.SaveAsync("BusyBox");
        Assert.Equal("1", File.ReadAllText(_scratch.PathOf("downloads")).Trim());
        await store.SaveAsync("busybox", force: true);
        Assert.Equal("2", File.ReadAllText(_scratch.PathOf("downloads")).Trim());
        Assert.Empty(Directory.EnumerateDirectories(_scratch.PathOf("images"), ".*"));
    }

    [Fact]
    public async Task ADamagedCacheIsFetchedAgain()
    {
        UseFakeApt(announcedHash: null);
        var store = new ImageStore(_scratch.Folder);
        VirtImage image = await store.SaveAsync("busybox");
        byte[] damaged = [.. _busybox];
        damaged[^1] ^= 1;
        File.WriteAllBytes(image.Path!, damaged);
        image = await store.SaveAsync("busybox");
        Assert.Equal(_busybox, File.ReadAllBytes(image.Path!));
    }

    [Fact]
    public async Task ManyWhoWantItAtOnceShareOneFetch()
    {
        UseFakeApt(announcedHash: null, delay: TimeSpan.FromSeconds(0.3));
        VirtImage[] images = await Task.WhenAll(Enumerable.Range(0, 8).Select(_ => Task.Run(() => new ImageStore(_scratch.Folder).SaveAsync("busybox"))));
        Assert.All(images, i => Assert.Equal(_busybox, File.ReadAllBytes(i.Path!)));
        Assert.Equal("1", File.ReadAllText(_scratch.PathOf("downloads")).Trim());
    }

    [Fact]
    public async Task ForcedFetchesAtOnceAllEndWell()
    {
        UseFakeApt(announcedHash: null);
        await new ImageStore(_scratch.Folder).SaveAsync("busybox");
        await Task.WhenAll(Enumerable.Range(0, 6).Select(i => Task.Run(() => new ImageStore(_scratch.Folder).SaveAsync("busybox", force: i % 2 == 0))));
        Assert.Equal(_busybox, File.ReadAllBytes(new ImageStore(_scratch.Folder).List().Single(i => i.Name == "busybox").Path!));
        Assert.Empty(Directory.EnumerateDirectories(_scratch.PathOf("images"), ".*"));
    }

    [Fact]
    public async Task WhoWaitsForAnotherFetchIsToldSoAndCanCancel()
    {
        UseFakeApt(announcedHash: null, delay: TimeSpan.FromSeconds(30));
        using CancellationTokenSource first = new(), second = new();
        Task<VirtImage> fetch = new ImageStore(_scratch.Folder).SaveAsync("busybox", cancellation: first.Token);
        var waiter = new Reporter([], r => { if (r.Activity.StartsWith("Waiting", StringComparison.Ordinal)) second.Cancel(); });
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => new ImageStore(_scratch.Folder).SaveAsync("busybox", progress: waiter, cancellation: second.Token));
        Assert.False(fetch.IsCompleted);
        first.Cancel();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => fetch);
        AssertNothingStored();
    }

    [Fact]
    public async Task WhatAKilledFetchLeftIsTakenAway()
    {
        UseFakeApt(announcedHash: null);
        _scratch.Write("images/.busybox.tmp/result/busybox", [1, 2, 3]);
        _scratch.Write("images/.busybox.tmp/half.deb", [4]);
        VirtImage image = await new ImageStore(_scratch.Folder).SaveAsync("busybox");
        Assert.Equal(_busybox, File.ReadAllBytes(image.Path!));
        Assert.Empty(Directory.EnumerateDirectories(_scratch.PathOf("images"), ".*"));
    }

    [Fact]
    public async Task AWrongHashIsRefusedAndLeavesNothing()
    {
        UseFakeApt(announcedHash: new string('a', 64));
        VirtException e = await Assert.ThrowsAsync<VirtException>(() => new ImageStore(_scratch.Folder).SaveAsync("busybox"));
        Assert.Equal("ImageInvalid", e.ErrorId);
        AssertNothingStored();
    }

    [Fact]
    public async Task AFailingAptSaysWhy()
    {
        UseFakeApt(announcedHash: null, fail: "E: Unable to locate package");
        VirtException e = await Assert.ThrowsAsync<VirtException>(() => new ImageStore(_scratch.Folder).SaveAsync("busybox"));
        Assert.Equal("ImageUnavailable", e.ErrorId);
        Assert.Contains("E: Unable to locate package", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task WithoutAptTheErrorPointsToKernel()
    {
        Environment.SetEnvironmentVariable("PATH", _scratch.Folder);
        VirtException e = await Assert.ThrowsAsync<VirtException>(() => new ImageStore(_scratch.Folder).SaveAsync("debian-cloud-kernel"));
        Assert.Equal("ImageUnavailable", e.ErrorId);
        Assert.Contains("no apt", e.Message, StringComparison.Ordinal);
        Assert.Contains("-Kernel", e.RecommendedAction!, StringComparison.Ordinal);
    }

    [Fact]
    public async Task AnUnknownNameListsWhatThereIs()
    {
        VirtException e = await Assert.ThrowsAsync<VirtException>(() => new ImageStore(_scratch.Folder).SaveAsync("windows"));
        Assert.Equal("ImageNotFound", e.ErrorId);
        Assert.Contains("debian-cloud-kernel, debian-xen-blkfront, busybox", e.RecommendedAction!, StringComparison.Ordinal);
    }

    [Fact]
    public async Task CancellingEndsAptAndLeavesNothing()
    {
        UseFakeApt(announcedHash: null, delay: TimeSpan.FromSeconds(30));
        using var cancellation = new CancellationTokenSource(TimeSpan.FromSeconds(1));
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => new ImageStore(_scratch.Folder).SaveAsync("busybox", cancellation: cancellation.Token));
        AssertNothingStored();
    }

    [Fact]
    public async Task AMetaPackageLeadsToTheRealOne()
    {
        UseFakeApt(announcedHash: null);
        AptPackage package = await AptClient.ResolveAsync("meta", "busybox-", default);
        Assert.Equal(("busybox-static", "1:2.0"), (package.Name, package.Version));
    }

    public void Dispose()
    {
        Environment.SetEnvironmentVariable("PATH", _path);
        _scratch.Dispose();
    }

    /// <summary>Locks stay behind, empty of meaning; nothing else does.</summary>
    private void AssertNothingStored() => Assert.All(Directory.EnumerateFileSystemEntries(_scratch.PathOf("images")), e => Assert.Equal(".busybox.lock", Path.GetFileName(e)));

    /// <summary>apt-cache and apt-get as scripts: they print what the real ones print, and count downloads.</summary>
    private void UseFakeApt(string? announcedHash, string? fail = null, TimeSpan delay = default)
    {
        byte[] deb = DebPackageTests.Deb("data.tar.gz", Tar(_busybox));
        _scratch.Write("package.deb", deb);
        string hash = announcedHash ?? Convert.ToHexStringLower(SHA256.HashData(deb));
        string folder = _scratch.Folder;
        Script("apt-cache", $"""
            #!/bin/sh
            [ "$3" = meta ] && echo 'Depends: libc6 (>= 2), busybox-static (= 1:2.0)'
            echo 'Version: 1:2.0'
            """);
        Script("apt-get", $"""
            #!/bin/sh
            {(fail is null ? "" : $"echo '{fail}' >&2; exit 100")}
            if [ "$1" = --print-uris ]; then
              echo "'http://x/b.deb' busybox.deb {deb.Length} SHA256:{hash}"
            else
              {(delay > TimeSpan.Zero ? string.Create(CultureInfo.InvariantCulture, $"sleep {delay.TotalSeconds}") : "")}
              cp {folder}/package.deb busybox.deb
              echo $(( $(cat {folder}/downloads 2>/dev/null || echo 0) + 1 )) > {folder}/downloads
            fi
            """);
        Environment.SetEnvironmentVariable("PATH", _scratch.PathOf("bin") + ":/usr/bin:/bin");
    }

    private void Script(string name, string text) => File.SetUnixFileMode(_scratch.Write("bin/" + name, System.Text.Encoding.ASCII.GetBytes(text)),
        UnixFileMode.UserRead | UnixFileMode.UserExecute);

    private static byte[] Tar(byte[] busybox)
    {
        var buffer = new MemoryStream();
        using (var gzip = new System.IO.Compression.GZipStream(buffer, System.IO.Compression.CompressionLevel.Fastest, leaveOpen: true))
        using (var writer = new System.Formats.Tar.TarWriter(gzip, System.Formats.Tar.TarEntryFormat.Gnu))
            writer.WriteEntry(new System.Formats.Tar.GnuTarEntry(System.Formats.Tar.TarEntryType.RegularFile, "./bin/busybox") { DataStream = new MemoryStream(busybox) });
        return buffer.ToArray();
    }

    private sealed class Reporter(List<ImageProgress> reports, Action<ImageProgress>? told = null) : IProgress<ImageProgress>
    {
        public void Report(ImageProgress value)
        {
            reports.Add(value);
            told?.Invoke(value);
        }
    }
}
