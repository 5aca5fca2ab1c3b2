using System.Text.Json.Nodes;
using VirtPS.Engine.Host;
using VirtPS.Engine.Storage;
using VirtPS.Sdk;
using VirtPS.Sdk.Backends;

namespace VirtPS.Engine.Tests;

/// <summary>The raw disk: what it keeps, what it refuses, and what its user hears of the host's failures.</summary>
public sealed class DiskTests : IDisposable
{
    private static readonly IHostPlatform s_platform = HostPlatform.Create();

    private readonly string _folder = Directory.CreateTempSubdirectory("virtps-disk-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public async Task What_is_written_is_read_and_stands_in_the_file()
    {
        string path = MakeFile(1 << 20);
        byte[] data = [.. Enumerable.Range(0, 4096).Select(i => (byte)(i * 7))];
        await using (IBlockBackend disk = Open(path))
        {
            Assert.Equal(1ul << 20, disk.Geometry.Length);
            await disk.WriteAsync(8192, data, durable: false, default);
            byte[] back = new byte[4096];
            await disk.ReadAsync(8192, back, default);
            Assert.Equal(data, back);
            await disk.FlushAsync(default);
            Assert.Equal((1, 4096, 1, 4096, 1), (disk.Counters.Writes, disk.Counters.BytesWritten, disk.Counters.Reads, disk.Counters.BytesRead, disk.Counters.Flushes));
        }

        Assert.Equal(data, File.ReadAllBytes(path)[8192..12288]);
    }

    [Fact]
    public async Task Discard_gives_the_room_back_and_the_size_stays()
    {
        string path = MakeFile(8 << 20);
        File.WriteAllBytes(path, [.. Enumerable.Repeat((byte)0xA5, 8 << 20)]);
        await using IBlockBackend disk = Open(path);
        Assert.SkipUnless(disk.Geometry.CanDiscard, "This file system cannot punch holes.");
        await disk.DiscardAsync(1 << 20, 4 << 20, zero: false, default);
        byte[] back = new byte[512];
        await disk.ReadAsync(1 << 20, back, default);
        Assert.All(back, b => Assert.Equal(0, b));
        await disk.ReadAsync((1 << 20) - 512, back, default);
        Assert.All(back, b => Assert.Equal(0xA5, b));
        Assert.Equal(8 << 20, new FileInfo(path).Length);
        Assert.Equal(4 << 20, disk.Counters.BytesDiscarded);
    }

    [Theory]
    [InlineData(0ul, 100)]
    [InlineData(100ul, 512)]
    [InlineData((1ul << 20) - 512, 1024)]
    [InlineData(ulong.MaxValue - 511, 512)]
    public async Task A_request_that_is_not_whole_sectors_of_the_disk_is_refused(ulong offset, int length)
    {
        await using IBlockBackend disk = Open(MakeFile(1 << 20));
        BlockException e = await Assert.ThrowsAsync<BlockException>(async () => await disk.ReadAsync(offset, new byte[length], default));
        Assert.Equal(BlockFault.OutOfRange, e.Fault);
        Assert.Equal(1, disk.Counters.ReadErrors);
    }

    [Fact]
    public async Task A_read_only_disk_takes_no_writes_and_may_be_shared()
    {
        string path = MakeFile(1 << 20);
        await using IBlockBackend first = Open(path, readOnly: true);
        await using IBlockBackend second = Open(path, readOnly: true);
        await first.FlushAsync(default);
        foreach (Func<Task> change in (Func<Task>[])[() => first.WriteAsync(0, new byte[512], false, default).AsTask(), () => first.DiscardAsync(0, 512, true, default).AsTask()])
            Assert.Equal(BlockFault.ReadOnly, (await Assert.ThrowsAsync<BlockException>(change)).Fault);
        Assert.Equal("DiskInUse", Assert.Throws<VirtException>(() => Open(path)).ErrorId);
    }

    [Fact]
    public async Task A_disk_belongs_to_one_writer_until_it_is_closed()
    {
        string path = MakeFile(1 << 20);
        IBlockBackend first = Open(path);
        Assert.Equal("DiskInUse", Assert.Throws<VirtException>(() => Open(path)).ErrorId);
        Assert.Equal("DiskInUse", Assert.Throws<VirtException>(() => Open(path, readOnly: true)).ErrorId);
        await first.DisposeAsync();
        await Open(path).DisposeAsync();
    }

    [Fact]
    public void What_is_no_disk_is_one_error_that_names_it()
    {
        string odd = MakeFile(1000), empty = MakeFile(0);
        Assert.Equal("DiskNotFound", Fails(Path.Combine(_folder, "none")).ErrorId);
        Assert.Equal("DiskInvalid", Fails(_folder).ErrorId);
        Assert.Equal("DiskInvalid", Fails(empty).ErrorId);
        VirtException e = Fails(odd);
        Assert.Equal("DiskInvalid", e.ErrorId);
        Assert.Contains(odd, e.Message);
        Assert.Contains("1024", e.RecommendedAction);
        Assert.Equal("DevicePropertyInvalid", Fails("relative.img").ErrorId);
        Assert.Equal("DevicePropertyInvalid", Assert.Throws<VirtException>(() => DiskOpener.Open(new JsonObject { ["path"] = odd, ["sectorSize"] = 1000 }, s_platform, NullLog.Instance)).ErrorId);
        Assert.Equal("DevicePropertyInvalid", Assert.Throws<VirtException>(() => DiskOpener.Open(new JsonObject { ["path"] = odd, ["format"] = "qcow2" }, s_platform, NullLog.Instance)).ErrorId);
        if (OperatingSystem.IsLinux())
            Assert.Equal("DiskInvalid", Fails("/dev/null").ErrorId);

        VirtException Fails(string path) => Assert.Throws<VirtException>(() => Open(path));
    }

    [Fact]
    public async Task The_hosts_failure_is_the_requests_failure_and_is_counted()
    {
        var file = new ScriptedFile { WriteFault = BlockFault.NoSpace };
        await using var disk = new RawDisk("d", file, readOnly: false, 512, discard: true, NullLog.Instance);
        BlockException e = await Assert.ThrowsAsync<BlockException>(async () => await disk.WriteAsync(0, new byte[512], false, default));
        Assert.Equal(BlockFault.NoSpace, e.Fault);
        file.WriteFault = null;
        await disk.WriteAsync(0, new byte[512], false, default);
        Assert.Equal((1, 1), (disk.Counters.WriteErrors, disk.Counters.Writes));
    }

    [Fact]
    public async Task After_a_failed_flush_no_flush_succeeds()
    {
        var file = new ScriptedFile { FlushFails = true };
        await using var disk = new RawDisk("d", file, readOnly: false, 512, discard: true, NullLog.Instance);
        await Assert.ThrowsAsync<BlockException>(async () => await disk.FlushAsync(default));
        file.FlushFails = false;
        await Assert.ThrowsAsync<BlockException>(async () => await disk.FlushAsync(default));
        await Assert.ThrowsAsync<BlockException>(async () => await disk.WriteAsync(0, new byte[512], durable: true, default));
        Assert.Equal(2, disk.Counters.FlushErrors);
    }

    [Fact]
    public async Task Closing_waits_for_what_was_accepted_and_refuses_the_rest()
    {
        var file = new ScriptedFile();
        file.Gate.Reset();
        var disk = new RawDisk("d", file, readOnly: false, 512, discard: true, NullLog.Instance);
        // More than the queue takes at once: the rest waits without a thread.
        Task[] writes = [.. Enumerable.Range(0, 250).Select(_ => disk.WriteAsync(0, new byte[512], false, default).AsTask())];
        Task closing = disk.DisposeAsync().AsTask();
        await Assert.ThrowsAsync<ObjectDisposedException>(async () => await disk.WriteAsync(0, new byte[512], false, default));
        Assert.False(closing.IsCompleted);
        file.Gate.Set();
        await closing.WaitAsync(TimeSpan.FromSeconds(10));
        await Task.WhenAll(writes).WaitAsync(TimeSpan.FromSeconds(10));
        Assert.Equal((250, 1, true), (file.Writes, file.Flushes, file.Closed));
    }

    [Fact]
    public async Task The_queue_is_bounded()
    {
        var file = new ScriptedFile();
        file.Gate.Reset();
        await using var disk = new RawDisk("d", file, readOnly: false, 512, discard: true, NullLog.Instance);
        Task[] writes = [.. Enumerable.Range(0, 256).Select(_ => disk.WriteAsync(0, new byte[512], false, default).AsTask())];
        using var impatient = new CancellationTokenSource();
        Task late = disk.WriteAsync(0, new byte[512], false, impatient.Token).AsTask();
        await impatient.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => late);
        file.Gate.Set();
        await Task.WhenAll(writes).WaitAsync(TimeSpan.FromSeconds(10));
        Assert.Equal(256, file.Writes);
    }

    private string MakeFile(long length)
    {
        string path = Path.Combine(_folder, $"{Guid.NewGuid():N}.img");
        using FileStream file = File.Create(path);
        file.SetLength(length);
        return path;
    }

    private static IBlockBackend Open(string path, bool readOnly = false) =>
        DiskOpener.Open(new JsonObject { ["name"] = "disk0", ["path"] = path, ["readOnly"] = readOnly }, s_platform, NullLog.Instance);

    private sealed class ScriptedFile : HostDiskFile
    {
        private int _writes, _flushes;

        public BlockFault? WriteFault { get; set; }

        public bool FlushFails { get; set; }

        public ManualResetEventSlim Gate { get; } = new(true);

        public int Writes => _writes;

        public int Flushes => _flushes;

        public bool Closed { get; private set; }

        public override ulong Length => 1 << 20;

        public override int BlockSize => 4096;

        public override bool CanPunchHoles => false;

        public override void Read(Span<byte> buffer, ulong offset) => buffer.Clear();

        public override void Write(ReadOnlySpan<byte> buffer, ulong offset)
        {
            Gate.Wait();
            if (WriteFault is { } fault)
                throw new BlockException(fault, "no");
            Interlocked.Increment(ref _writes);
        }

        public override void Flush()
        {
            if (FlushFails)
                throw new BlockException(BlockFault.Io, "no");
            Interlocked.Increment(ref _flushes);
        }

        public override bool TryPunchHole(ulong offset, ulong length) => false;

        public override void Dispose() => Closed = true;
    }
}
