using VirtPS.Sdk.Devices;
using VirtPS.Sdk.Plugins;
using VirtPS.Strategy.Para;
using VirtPS.Strategy.Para.Block;

[assembly: Plugin(typeof(ParaPlugin))]

namespace VirtPS.Strategy.Para;

/// <summary>Brings the strategy <c>Para</c> and its device models.</summary>
public sealed class ParaPlugin : IPlugin
{
    public IEnumerable<IStrategy> Strategies => [new ParaStrategy()];

    public IEnumerable<IDeviceFactory> DeviceFactories => [new BlockDeviceFactory()];
}
