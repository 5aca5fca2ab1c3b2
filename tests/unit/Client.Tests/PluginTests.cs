using VirtPS.Sdk;
using VirtPS.Sdk.Machine;

namespace VirtPS.Client.Tests;

public class PluginTests
{
    [Fact]
    public async Task Manifests_tell_of_plugins_models_and_strategies_and_a_broken_one_costs_no_other()
    {
        using var store = new TestStore();
        store.AddPlugin("broken", "{ \"id\": 7 }");
        store.AddPlugin("old", """{ "id": "old", "version": "9", "kind": "device", "assembly": "old.dll", "sdk": "[9.0,10.0)", "models": [] }""");
        IReadOnlyList<VirtPluginInfo> plugins = await store.Host.GetPluginsAsync();
        Assert.Equal(PluginStatus.Ready, plugins.Single(p => p.Id == "standin").Status);
        Assert.Equal(PluginStatus.Broken, plugins.Single(p => p.Id == "broken").Status);
        VirtPluginInfo old = plugins.Single(p => p.Id == "old");
        Assert.Equal(PluginStatus.Broken, old.Status);
        Assert.Contains("[9.0,10.0)", old.StatusReason);
        Assert.Equal("standin/port", Assert.Single(await store.Host.GetDeviceModelsAsync()).Model);
        Assert.Equal(["Full", "Other"], (await store.Host.GetStrategiesAsync(probe: false)).Select(s => s.Name));
    }

    [Fact]
    public async Task A_foreign_plugin_is_ready_once_registered_and_changed_when_a_file_differs()
    {
        using var store = new TestStore();
        string folder = Path.Combine(store.Folder, "foreign");
        Directory.CreateDirectory(folder);
        File.WriteAllText(Path.Combine(folder, "plugin.json"), """{ "id": "foreign", "version": "1", "kind": "device", "assembly": "foreign.dll", "sdk": "[0.1,)", "models": [] }""");
        File.WriteAllText(Path.Combine(folder, "foreign.dll"), "code");
        VirtPluginInfo plugin = await store.Host.RegisterPluginAsync(folder);
        Assert.Equal((PluginStatus.Ready, PluginSource.Registered), (plugin.Status, plugin.Source));
        File.AppendAllText(Path.Combine(folder, "foreign.dll"), "!");
        VirtPluginInfo changed = (await store.Host.GetPluginsAsync()).Single(p => p.Id == "foreign");
        Assert.Equal(PluginStatus.Changed, changed.Status);
        Assert.Contains("foreign.dll", changed.StatusReason);
        await store.Host.UnregisterPluginAsync("foreign");
        Assert.DoesNotContain(await store.Host.GetPluginsAsync(), p => p.Id == "foreign");
        Assert.Equal(ErrorIds.PluginNotFound, (await Assert.ThrowsAsync<VirtException>(() => store.Host.UnregisterPluginAsync("foreign"))).ErrorId);
    }
}
