using System.Diagnostics;
using System.Text.Json.Nodes;
using VirtPS.Client.Store;
using VirtPS.Sdk;
using VirtPS.Sdk.Machine;

namespace VirtPS.Client.Tests;

public class StoreTests
{
    [Fact]
    public async Task What_is_created_is_found_by_name_wildcard_and_id()
    {
        using var store = new TestStore();
        VirtualMachine alpha = await store.CreateAsync("Alpha");
        await store.CreateAsync("beta");
        Assert.Equal(["Alpha", "beta"], Names(await store.Host.GetAsync()));
        Assert.Equal(["Alpha"], Names(await store.Host.GetAsync(new VmQuery { Names = ["al*"] })));
        Assert.Equal(["beta"], Names(await store.Host.GetAsync(new VmQuery { Names = ["BETA"] })));
        Assert.Equal(["Alpha"], Names(await store.Host.GetAsync(new VmQuery { Ids = [alpha.Id] })));
        Assert.Equal(["Alpha", "beta"], Names(await store.Host.GetAsync(new VmQuery { Names = ["[ab]*", "beta"] })));
        VmQueryResult missing = await store.Host.GetAsync(new VmQuery { Names = ["beta", "gamma", "x*"], Ids = [Guid.Empty] });
        Assert.Equal(["beta"], Names(missing));
        Assert.All(missing.Errors, e => Assert.Equal(ErrorIds.VMNotFound, e.ErrorId));
        Assert.Equal(2, missing.Errors.Count);
    }

    [Fact]
    public async Task A_vm_that_cannot_be_read_is_an_error_with_file_and_offset_and_hides_no_other()
    {
        using var store = new TestStore();
        VirtualMachine good = await store.CreateAsync("good");
        VirtualMachine bad = await store.CreateAsync("bad");
        string file = Path.Combine(bad.Path, "vm.json");
        byte[] content = File.ReadAllBytes(file);
        content[200] = (byte)'}';
        File.WriteAllBytes(file, content);
        VmQueryResult all = await store.Host.GetAsync();
        Assert.Equal(good.Id, Assert.Single(all.Machines).Id);
        VirtException error = Assert.Single(all.Errors);
        Assert.Equal(ErrorIds.StoreUnreadable, error.ErrorId);
        Assert.Contains(file, error.Message);
        Assert.Matches("offset [0-9]+", error.Message);
        Assert.Empty((await store.Host.GetAsync(new VmQuery { Names = ["good"] })).Errors);
        await store.Host.RemoveAsync(bad.Id);
        Assert.Empty((await store.Host.GetAsync()).Errors);
    }

    [Theory]
    [InlineData("{\"schemaVersion\":2}", "schema version 2")]
    [InlineData("[]", "offset 0")]
    [InlineData("{\"schemaVersion\":1}", "'boot' is missing")]
    [InlineData("{\"schemaVersion\":\"x\"}", "'schemaVersion' is not a whole number")]
    public void What_is_wrong_in_a_document_is_named(string json, string said)
    {
        VirtException e = Assert.Throws<VirtException>(() => VmDocument.Parse(System.Text.Encoding.UTF8.GetBytes(json), "/x/vm.json"));
        Assert.Contains(said, e.Message);
        Assert.Contains("/x/vm.json", e.Message);
    }

    [Fact]
    public async Task Properties_that_this_version_does_not_know_survive_a_change()
    {
        using var store = new TestStore();
        VirtualMachine vm = await store.CreateAsync();
        string file = Path.Combine(vm.Path, "vm.json");
        JsonObject json = JsonNode.Parse(File.ReadAllText(file))!.AsObject();
        json["future"] = new JsonObject { ["a"] = 1 };
        json["boot"]!["later"] = "kept";
        File.WriteAllText(file, json.ToJsonString());
        await store.Host.SetAsync(vm.Id, new VmChanges { ProcessorCount = 2 });
        JsonObject after = JsonNode.Parse(File.ReadAllText(file))!.AsObject();
        Assert.Equal(1, (int)after["future"]!["a"]!);
        Assert.Equal("kept", (string)after["boot"]!["later"]!);
        Assert.Equal(2, (int)after["processorCount"]!);
    }

    [Fact]
    public async Task A_full_disk_loses_nothing()
    {
        string disk = Directory.CreateTempSubdirectory("virtps-disk-").FullName;
        Assert.SkipUnless(OperatingSystem.IsLinux() && Mount(disk), "A small tmpfs cannot be mounted here: that needs root.");
        try
        {
            using var store = new TestStore(Path.Combine(disk, "store"));
            VirtualMachine vm = await store.CreateAsync();
            string file = Path.Combine(vm.Path, "vm.json");
            byte[] before = File.ReadAllBytes(file);
            Fill(Path.Combine(disk, "filler"));
            VirtException e = await Assert.ThrowsAsync<VirtException>(() => store.Host.SetAsync(vm.Id, new VmChanges { Notes = new string('x', 100_000) }));
            Assert.Equal(ErrorIds.StoreWriteFailed, e.ErrorId);
            Assert.Equal(before, File.ReadAllBytes(file));
            Assert.DoesNotContain(Directory.GetFiles(vm.Path), f => f.EndsWith(".tmp", StringComparison.Ordinal));
            await Assert.ThrowsAsync<VirtException>(() => store.Host.CreateAsync(new VmSpecification { Name = "second", Memory = 1 << 20, Notes = new string('x', 100_000) }));
            Assert.Single((await store.Host.GetAsync()).Machines);
            File.Delete(Path.Combine(disk, "filler"));
            Assert.Equal("y", (await store.Host.SetAsync(vm.Id, new VmChanges { Notes = "y" })).Notes);
        }
        finally
        {
            using Process umount = Process.Start("umount", [disk]);
            umount.WaitForExit();
            Directory.Delete(disk);
        }
    }

    [Fact]
    public async Task A_thousand_vms_are_listed_within_half_a_second()
    {
        using var store = new TestStore();
        VirtualMachine first = await store.CreateAsync("vm0");
        string json = File.ReadAllText(Path.Combine(first.Path, "vm.json"));
        for (int i = 1; i < 1000; i++)
        {
            Guid id = Guid.NewGuid();
            string folder = Path.Combine(Path.GetDirectoryName(first.Path)!, id.ToString());
            Directory.CreateDirectory(folder);
            File.WriteAllText(Path.Combine(folder, "vm.json"), json.Replace(first.Id.ToString(), id.ToString(), StringComparison.Ordinal).Replace("\"vm0\"", $"\"vm{i}\"", StringComparison.Ordinal));
        }

        long best = long.MaxValue;
        for (int round = 0; round < 3; round++)
        {
            long began = Stopwatch.GetTimestamp();
            Assert.Equal(1000, (await store.Host.GetAsync()).Machines.Count);
            best = Math.Min(best, (long)Stopwatch.GetElapsedTime(began).TotalMilliseconds);
        }

        Assert.True(best < 500, $"{best} ms");
    }

    private static IEnumerable<string> Names(VmQueryResult result) => result.Machines.Select(m => m.Name);

    private static bool Mount(string folder)
    {
        using Process mount = Process.Start(new ProcessStartInfo("mount", ["-t", "tmpfs", "-o", "size=256k", "tmpfs", folder]) { RedirectStandardError = true })!;
        mount.WaitForExit();
        if (mount.ExitCode == 0)
            return true;
        Directory.Delete(folder);
        return false;
    }

    private static void Fill(string file)
    {
        using var stream = new FileStream(file, FileMode.Create, FileAccess.Write, FileShare.None, 0);
        try
        {
            while (true)
                stream.Write(new byte[4096]);
        }
        catch (IOException)
        {
            // Full, as wanted.
        }
    }
}
