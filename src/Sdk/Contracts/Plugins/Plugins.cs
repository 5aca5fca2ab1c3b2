using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Rings;

namespace VirtPS.Sdk.Plugins;

/// <summary>On a plugin's entry assembly: the type that makes its parts. The type implements <see cref="IPlugin"/> and has a public constructor without parameters.</summary>
[AttributeUsage(AttributeTargets.Assembly)]
public sealed class PluginAttribute(Type type) : Attribute
{
    public Type Type { get; } = type;
}

/// <summary>A plugin's entry. Its constructor does nothing that can fail.</summary>
public interface IPlugin
{
    IEnumerable<Devices.IDeviceFactory> DeviceFactories => [];

    IEnumerable<IStrategy> Strategies => [];
}

/// <summary>A virtualization strategy: a CPU backend under a guest interface. Stateless, thread-safe.</summary>
public interface IStrategy
{
    StrategyInfo Info { get; }

    /// <summary>Whether this host can run it, and if not exactly why and what to do. Quick (below 100 ms); no lasting effect.</summary>
    HostSupport Probe();

    /// <summary>Makes the CPU backend. <paramref name="options"/> are the VM's strategy properties.</summary>
    ICpuBackend CreateBackend(IReadOnlyDictionary<string, string> options, ILog log);

    /// <summary>What the guest believes it runs on.</summary>
    IGuestInterface GuestInterface { get; }

    /// <summary>CPUID that this strategy offers on this host to a guest with <paramref name="vcpuCount"/> processors.</summary>
    CpuidPolicy CreateCpuidPolicy(int vcpuCount, IReadOnlyDictionary<string, string> options);
}

/// <summary>What the guest believes it runs on: a bare PC, a PC with enlightenments, Xen PV.</summary>
public interface IGuestInterface
{
    /// <summary>For people: <c>Bare PC</c>.</summary>
    string Name { get; }

    /// <summary>The machine gets a PC's devices and firmware tables.</summary>
    bool IsPc { get; }

    /// <summary>Makes what stands for the platform in one machine; null: hardware devices and firmware do.</summary>
    IGuestPlatform? CreatePlatform(GuestPlatformContext context) => null;

    /// <summary>The name of a hypercall; null where the number means none.</summary>
    string? HypercallName(int number) => null;

    /// <summary>VMCALL/VMMCALL on a vCPU; false = #UD.</summary>
    unsafe bool Hypercall(IVcpu vcpu, VcpuState* state);

    /// <summary>The ring the guest believes this code runs in.</summary>
    unsafe int GuestRing(VcpuState* state);

    /// <summary>Where the textbook model of this strategy puts code of <paramref name="guestRing"/>.</summary>
    string ClassicalRing(int guestRing);
}

/// <summary>A strategy's name and what it is made of.</summary>
public sealed record StrategyInfo
{
    /// <summary><c>Full</c>, <c>Para</c>, <c>Hardware</c>.</summary>
    public required string Name { get; init; }

    public required string Description { get; init; }

    public required RingFidelity RingFidelity { get; init; }

    /// <summary>Preferred among those the host can run: higher first.</summary>
    public required int Preference { get; init; }

    /// <summary>The rows of Show-VirtRing: what runs in which ring, top (least privileged) first.</summary>
    public required IReadOnlyList<RingModelRow> RingModel { get; init; }
}

/// <summary>One row of the ring diagram.</summary>
/// <param name="Ring">Guest ring, or -1 for the VMM's own row.</param>
/// <param name="Guest">What runs there from the guest's view.</param>
/// <param name="Classical">Where the textbook model puts it.</param>
/// <param name="Actual">What the host really does.</param>
public sealed record RingModelRow(int Ring, string Guest, string Classical, string Actual);

/// <summary>Answer of a probe.</summary>
public sealed record HostSupport(bool IsSupported, string Reason, string? RecommendedAction = null);
