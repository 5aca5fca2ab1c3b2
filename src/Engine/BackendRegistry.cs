using System.Text.Json.Nodes;
using VirtPS.Sdk;
using VirtPS.Sdk.Backends;

namespace VirtPS.Engine;

/// <summary>
/// The host sides that a machine's devices can be connected to, given from outside before the machine is built. The machine does not dispose what stands here
/// by name; backends opened by the two functions belong to the device that asked.
/// </summary>
public sealed class BackendRegistry
{
    /// <summary>The name under which the platform's first serial port looks for its host side.</summary>
    public const string Console = "console";

    /// <summary>
    /// Byte streams by name. A backend may raise <see cref="ICharBackend.InputAvailable"/> on any thread: the machine brings it under its device lock.
    /// </summary>
    public IDictionary<string, ICharBackend> Char { get; } = new Dictionary<string, ICharBackend>(StringComparer.Ordinal);

    /// <summary>Opens a disk from a device spec; null where this host offers none.</summary>
    public Func<JsonObject, IBlockBackend>? OpenBlock { get; set; }

    /// <summary>Opens a network attachment from a device spec; null where this host offers none.</summary>
    public Func<JsonObject, INetBackend>? OpenNet { get; set; }

    /// <summary>The backend of that name; null for a console that nobody watches.</summary>
    internal ICharBackend? FindChar(string name, string device)
    {
        if (Char.TryGetValue(name, out ICharBackend? backend))
            return backend;
        if (name == Console)
            return null;
        throw new VirtException("DevicePropertyInvalid", $"Device '{device}': there is no character backend '{name}'. There are: {string.Join(", ", Char.Keys.Append(Console).Distinct().Order())}.", null, device);
    }
}
