using VirtPS.Sdk.Plugins;
using VirtPS.Strategy.Full;

[assembly: Plugin(typeof(FullPlugin))]

namespace VirtPS.Strategy.Full;

/// <summary>Brings the strategy <c>Full</c>.</summary>
public sealed class FullPlugin : IPlugin
{
    public IEnumerable<IStrategy> Strategies => [new FullStrategy()];
}
