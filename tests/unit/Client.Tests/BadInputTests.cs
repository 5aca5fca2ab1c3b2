using System.Text.Json.Nodes;
using VirtPS.Client.Store;
using VirtPS.Sdk;
using VirtPS.Sdk.Machine;

namespace VirtPS.Client.Tests;

public class BadInputTests
{
    [Theory]
    [InlineData("")]
    [InlineData("  ")]
    [InlineData(" a")]
    [InlineData("a/b")]
    [InlineData("a\\b")]
    [InlineData("..")]
    [InlineData("a*")]
    [InlineData("a\nb")]
    public void A_name_that_cannot_be_is_refused(string name) =>
        Assert.Equal(ErrorIds.VMNameInvalid, Assert.Throws<VirtException>(() => VmNames.Validate(name)).ErrorId);

    [Fact]
    public void A_name_of_300_characters_is_refused_and_the_message_is_short()
    {
        VirtException e = Assert.Throws<VirtException>(() => VmNames.Validate(new string('x', 300)));
        Assert.Contains("300", e.Message);
        Assert.True(e.Message.Length < 200);
        Assert.Throws<VirtException>(() => VmNames.Validate("a\uD800x"));
        VmNames.Validate(new string('x', 100));
        VmNames.Validate("Ünïcode 名前 😀 (1)");
    }

    [Theory]
    [InlineData(0ul)]
    [InlineData(1ul)]
    [InlineData((1ul << 20) + 1)]
    [InlineData(1ul << 60)]
    public async Task Memory_that_cannot_be_is_refused(ulong memory)
    {
        using var store = new TestStore();
        VirtException e = await Assert.ThrowsAsync<VirtException>(() => store.Host.CreateAsync(new VmSpecification { Name = "vm", Memory = memory }));
        Assert.Equal(ErrorIds.MemoryInvalid, e.ErrorId);
        Assert.Empty((await store.Host.GetAsync()).Machines);
    }

    [Fact]
    public async Task An_unknown_strategy_model_or_property_is_refused_with_what_there_is()
    {
        using var store = new TestStore();
        VirtException strategy = await Assert.ThrowsAsync<VirtException>(() => store.Host.CreateAsync(new VmSpecification { Name = "vm", Strategy = "Fool" }));
        Assert.Equal(ErrorIds.StrategyNotFound, strategy.ErrorId);
        Assert.Contains("Full, Other", strategy.Message);
        Assert.Equal("Full", (await store.Host.CreateAsync(new VmSpecification { Name = "vm", Strategy = "full" })).Strategy);
        Guid id = (await store.Host.GetAsync()).Machines[0].Id;
        Assert.Contains("standin/port", (await RefusedAsync(store, id, "{'model':'standin/x'}", ErrorIds.DeviceModelNotFound)).Message);
        Assert.Contains("number, speed", (await RefusedAsync(store, id, "{'model':'standin/port','number':1,'colour':'red'}", ErrorIds.DevicePropertyInvalid)).Message);
        Assert.Contains("slow, fast", (await RefusedAsync(store, id, "{'model':'standin/port','number':1,'speed':'red'}", ErrorIds.DevicePropertyInvalid)).Message);
        Assert.Contains("integer", (await RefusedAsync(store, id, "{'model':'standin/port','number':'one'}", ErrorIds.DevicePropertyInvalid)).Message);
        await RefusedAsync(store, id, "{'model':'standin/port'}", ErrorIds.DevicePropertyInvalid);
        await RefusedAsync(store, id, "{'model':'port'}", ErrorIds.DevicePropertyInvalid);
    }

    [Fact]
    public async Task Devices_get_names_and_leave_again()
    {
        using var store = new TestStore();
        VirtualMachine vm = await store.CreateAsync();
        VirtVMDevice first = await store.Host.AddDeviceAsync(vm.Id, Json("{'model':'standin/port','number':7}"));
        VirtVMDevice second = await store.Host.AddDeviceAsync(vm.Id, Json("{'model':'standin/port','number':8}"));
        Assert.Equal(("port0", "port1"), (first.Name, second.Name));
        Assert.Equal(8L, second.Property["number"]);
        await RefusedAsync(store, vm.Id, "{'model':'standin/port','number':7,'name':'PORT1'}", ErrorIds.DeviceNameInUse);
        await store.Host.RemoveDeviceAsync(vm.Id, "port0");
        Assert.Equal("port1", Assert.Single(await store.Host.GetDevicesAsync(vm.Id)).Name);
        VirtException e = await Assert.ThrowsAsync<VirtException>(() => store.Host.RemoveDeviceAsync(vm.Id, "port0"));
        Assert.Equal(ErrorIds.DeviceNotFound, e.ErrorId);
        Assert.Contains("port1", e.Message);
    }

    [Fact]
    public async Task Files_that_are_not_there_are_named()
    {
        using var store = new TestStore();
        async Task<VirtException> Refused(BootConfiguration boot) => await Assert.ThrowsAsync<VirtException>(() => store.Host.CreateAsync(new VmSpecification { Name = "vm", Boot = boot }));
        Assert.Equal(ErrorIds.ImageNotFound, (await Refused(new BootConfiguration { Kernel = "/no/such/kernel" })).ErrorId);
        Assert.Equal(ErrorIds.ImageInvalid, (await Refused(new BootConfiguration { Kernel = Path.GetTempPath() })).ErrorId);
        Assert.Equal(ErrorIds.ConfigurationInvalid, (await Refused(new BootConfiguration { Kernel = "relative" })).ErrorId);
        Assert.Equal(ErrorIds.ConfigurationInvalid, (await Refused(new BootConfiguration { Kind = BootKind.Linux })).ErrorId);
    }

    [Fact]
    public async Task A_name_in_use_is_refused_in_any_case()
    {
        using var store = new TestStore();
        VirtualMachine vm = await store.CreateAsync("One");
        await store.CreateAsync("two");
        Assert.Equal(ErrorIds.VMNameInUse, (await Assert.ThrowsAsync<VirtException>(() => store.CreateAsync("ONE"))).ErrorId);
        Assert.Equal(ErrorIds.VMNameInUse, (await Assert.ThrowsAsync<VirtException>(() => store.Host.RenameAsync(vm.Id, "TWO"))).ErrorId);
        Assert.Equal("one", (await store.Host.RenameAsync(vm.Id, "one")).Name);
    }

    [Fact]
    public async Task A_store_that_cannot_be_used_is_said()
    {
        string file = Path.GetTempFileName();
        VirtHost host = VirtHost.Connect(new VirtHostOptions { StorePath = Path.Combine(file, "store") });
        Assert.Empty((await host.GetAsync()).Machines);
        using var module = new TestStore();
        VirtHost writer = VirtHost.Connect(new VirtHostOptions { StorePath = Path.Combine(file, "store"), ModulePath = module.Module });
        VirtException e = await Assert.ThrowsAsync<VirtException>(() => writer.CreateAsync(new VmSpecification { Name = "vm" }));
        Assert.Equal(ErrorIds.StoreUnreadable, e.ErrorId);
        File.Delete(file);
    }

    private static async Task<VirtException> RefusedAsync(TestStore store, Guid id, string device, string errorId)
    {
        VirtException e = await Assert.ThrowsAsync<VirtException>(() => store.Host.AddDeviceAsync(id, Json(device)));
        Assert.Equal(errorId, e.ErrorId);
        return e;
    }

    private static JsonObject Json(string text) => JsonNode.Parse(text.Replace('\'', '"'))!.AsObject();
}
