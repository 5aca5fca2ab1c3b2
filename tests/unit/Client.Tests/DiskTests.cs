using VirtPS.Sdk;
using VirtPS.Sdk.Machine;

namespace VirtPS.Client.Tests;

/// <summary>Disk images, and the disks of VMs, as their user has them.</summary>
public sealed class DiskTests : IDisposable
{
    private readonly TestStore _store = new();

    public DiskTests() => _store.AddPlugin("disks", """
        { "id": "disks", "version": "0.1.0", "kind": "strategy,device", "assembly": "disks.dll", "sdk": "[0.1,)",
          "strategies": [ { "name": "WithDisk", "description": "It has one.", "disk": "disks/d" } ],
          "models": [ { "id": "d", "class": "disk", "description": "A disk.", "properties": [
            { "name": "path", "type": "string", "required": true }, { "name": "readOnly", "type": "bool" }, { "name": "cache", "type": "string" } ] } ] }
        """);

    public void Dispose() => _store.Dispose();

    private string PathOf(string name) => Path.Combine(_store.Folder, name);

    [Fact]
    public async Task An_image_takes_no_room_until_it_is_written()
    {
        VirtDisk disk = await _store.Host.CreateDiskAsync(PathOf("a.img"), 1ul << 30);
        Assert.Equal((1ul << 30, "Raw", false), (disk.Size, disk.Format, disk.InUse));
        if (OperatingSystem.IsLinux())
            Assert.True(disk.AllocatedSize < 1 << 20);
        Assert.Equal(2ul << 30, (await _store.Host.ResizeDiskAsync(disk.Path, 2ul << 30, shrink: false)).Size);
        await FailsAsync(ErrorIds.DiskInvalid, () => _store.Host.ResizeDiskAsync(disk.Path, 1 << 20, shrink: false));
        Assert.Equal(1ul << 20, (await _store.Host.ResizeDiskAsync(disk.Path, 1 << 20, shrink: true)).Size);
    }

    [Fact]
    public async Task What_cannot_be_made_leaves_what_is_there()
    {
        File.WriteAllText(PathOf("a.img"), "mine");
        await FailsAsync(ErrorIds.DiskExists, () => _store.Host.CreateDiskAsync(PathOf("a.img"), 512));
        Assert.Equal("mine", File.ReadAllText(PathOf("a.img")));
        await FailsAsync(ErrorIds.DiskInvalid, () => _store.Host.CreateDiskAsync(PathOf("b.img"), 1000));
        await FailsAsync(ErrorIds.DiskInvalid, () => _store.Host.CreateDiskAsync(PathOf("b.img"), ulong.MaxValue - 511));
        await FailsAsync(ErrorIds.DiskExists, () => _store.Host.CreateDiskAsync(_store.Folder, 512));
        Assert.False(File.Exists(PathOf("b.img")));
    }

    [Fact]
    public async Task An_image_that_is_locked_is_in_use()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "Elsewhere the file's share mode is the lock.");
        VirtDisk disk = await _store.Host.CreateDiskAsync(PathOf("a.img"), 1 << 20);
        using Store.FileLock? held = Store.FileLock.TryAcquire(disk.Path);
        Assert.True((await _store.Host.GetDiskAsync(disk.Path)).InUse);
        await FailsAsync(ErrorIds.DiskInUse, () => _store.Host.ResizeDiskAsync(disk.Path, 2 << 20, shrink: false));
    }

    [Fact]
    public async Task A_VM_gets_disks_and_gives_them_back()
    {
        VirtualMachine vm = await _store.Host.CreateAsync(new VmSpecification { Name = "vm", Memory = 1 << 20, Strategy = "WithDisk" });
        VirtDisk first = await _store.Host.CreateDiskAsync(PathOf("a.img"), 1 << 20), second = await _store.Host.CreateDiskAsync(PathOf("b.img"), 2 << 20);
        VirtVMDisk added = await _store.Host.AddDiskAsync(vm.Id, first.Path, readOnly: false, null, null, null);
        Assert.Equal(("disk0", "disks/d", 1ul << 20, false), (added.Name, added.Model, added.Size, added.ReadOnly));
        await FailsAsync(ErrorIds.DiskInvalid, () => _store.Host.AddDiskAsync(vm.Id, first.Path, false, null, null, null));
        await _store.Host.AddDiskAsync(vm.Id, second.Path, true, null, null, null);
        Assert.Equal(["disk0", "disk1"], (await _store.Host.GetDisksAsync(vm.Id)).Select(d => d.Name));
        Assert.Equal(["vm"], (await _store.Host.GetDiskAsync(first.Path)).VMName);
        Assert.False((await _store.Host.SetDiskAsync(vm.Id, "disk1", null, false)).ReadOnly);
        await _store.Host.RemoveDiskAsync(vm.Id, "disk0");
        await FailsAsync(ErrorIds.DeviceNotFound, () => _store.Host.RemoveDiskAsync(vm.Id, "disk0"));
        Assert.True(File.Exists(first.Path));
        File.Delete(second.Path);
        Assert.Null((await _store.Host.GetDisksAsync(vm.Id)).Single().Size);
    }

    [Theory]
    [InlineData("QFI\u00FBrest", "qcow2")]
    [InlineData("vhdxfilerest", "VHDX")]
    [InlineData("short", "512")]
    [InlineData("", "512")]
    public async Task What_is_no_raw_image_is_refused_by_its_name(string content, string named)
    {
        VirtualMachine vm = await _store.Host.CreateAsync(new VmSpecification { Name = "vm", Memory = 1 << 20, Strategy = "WithDisk" });
        File.WriteAllText(PathOf("x.img"), content, System.Text.Encoding.Latin1);
        VirtException e = await FailsAsync(ErrorIds.DiskInvalid, () => _store.Host.AddDiskAsync(vm.Id, PathOf("x.img"), false, null, null, null));
        Assert.Contains(named, e.Message);
        Assert.Contains(PathOf("x.img"), e.Message);
    }

    [Fact]
    public async Task A_strategy_without_a_disk_model_says_so()
    {
        VirtualMachine vm = await _store.CreateAsync();
        await _store.Host.CreateDiskAsync(PathOf("a.img"), 512);
        VirtException e = await FailsAsync(ErrorIds.DeviceModelNotFound, () => _store.Host.AddDiskAsync(vm.Id, PathOf("a.img"), false, null, null, null));
        Assert.Contains("WithDisk", e.Message);
        await FailsAsync(ErrorIds.DiskNotFound, () => _store.Host.AddDiskAsync(vm.Id, PathOf("none.img"), false, null, null, null));
        await FailsAsync(ErrorIds.DeviceModelNotFound, () => _store.Host.AddDiskAsync(vm.Id, PathOf("a.img"), false, null, "standin/port", null));
    }

    private static async Task<VirtException> FailsAsync(string errorId, Func<Task> work)
    {
        VirtException e = await Assert.ThrowsAsync<VirtException>(work);
        Assert.Equal(errorId, e.ErrorId);
        return e;
    }
}
