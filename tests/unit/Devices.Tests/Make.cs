using System.Text.Json.Nodes;
using VirtPS.Sdk.Plugins;

namespace VirtPS.Devices.Tests;

/// <summary>Makes devices as the catalog does: from a spec, through the plugin's factory.</summary>
internal static class Make
{
    public static IDevice Device<TPlugin>(TestMachine machine, string spec = "{}", string? model = null) where TPlugin : IPlugin, new() =>
        new TPlugin().DeviceFactories.Single(f => model is null || f.Model == model).Create(JsonNode.Parse(spec)!.AsObject(), machine);
}
