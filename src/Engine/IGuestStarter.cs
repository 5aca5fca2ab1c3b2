using VirtPS.Sdk;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Machine;
using VirtPS.Sdk.Memory;
using VirtPS.Sdk.Plugins;

namespace VirtPS.Engine;

/// <summary>
/// Puts a guest into memory and the bootstrap processor at its entry. Called with all vCPUs stopped: at power-on and again at every reset, since there is
/// no firmware ROM that could do it; memory then holds what the former run left.
/// </summary>
public interface IGuestStarter
{
    /// <summary>Throws <see cref="VirtException"/> (<c>ImageInvalid</c> …) that names file, place and remedy.</summary>
    void Start(GuestStart start);
}

/// <summary>What a starter works on. Valid during <see cref="IGuestStarter.Start"/> only.</summary>
public sealed unsafe class GuestStart
{
    public required GuestMemory Memory { get; init; }

    public required VmConfiguration Configuration { get; init; }

    public required int VcpuCount { get; init; }

    /// <summary>vCPU 0 in RESET state; the machine commits it to the backend afterwards.</summary>
    public required VcpuState* Bootstrap { get; init; }

    /// <summary>Loads the guest itself; null on a PC.</summary>
    public IGuestPlatform? Platform { get; init; }

    /// <summary>Where randomness for the guest comes from.</summary>
    public required NondeterminismSource Nondeterminism { get; init; }

    public required ILog Log { get; init; }
}
