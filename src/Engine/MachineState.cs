using System.Text.Json;
using VirtPS.Engine.Enlightenments;
using VirtPS.Sdk;
using VirtPS.Sdk.Devices;

namespace VirtPS.Engine;

/// <summary>A whole machine's state without its memory (<see cref="Machine.SaveMemory"/>). Serialisable as JSON.</summary>
public sealed record MachineState
{
    public const int CurrentSchema = 1;

    public int SchemaVersion { get; init; } = CurrentSchema;

    public required string Strategy { get; init; }

    /// <summary>Bytes of RAM, which the machine that takes the state must have too.</summary>
    public required ulong Memory { get; init; }

    /// <summary>VM time.</summary>
    public required ulong Nanoseconds { get; init; }

    public required DateTimeOffset PowerOnUtc { get; init; }

    public required ulong TscFrequency { get; init; }

    public required IReadOnlyList<VcpuSnapshot> Vcpus { get; init; }

    /// <summary>By device name.</summary>
    public required IReadOnlyDictionary<string, DeviceState> Devices { get; init; }

    /// <summary>The partition's own interrupt controller; null where the machine's devices are it.</summary>
    public byte[]? InterruptController { get; init; }

    /// <summary>What else the partition keeps (a paravirtual clock); null for nothing.</summary>
    public byte[]? Partition { get; init; }

    /// <summary>KVM's interface where the machine answers it; else null.</summary>
    public KvmState? Kvm { get; init; }

    /// <summary>The address line 20 gate as the guest set it.</summary>
    public required bool A20 { get; init; }

    public byte[] ToJson() => JsonSerializer.SerializeToUtf8Bytes(this, DeviceJson.Options);

    /// <summary>Throws <see cref="VirtException"/> (<c>MachineStateInvalid</c>) for damaged or newer content.</summary>
    public static MachineState FromJson(ReadOnlySpan<byte> json)
    {
        MachineState? state;
        try
        {
            state = JsonSerializer.Deserialize<MachineState>(json, DeviceJson.Options);
        }
        catch (JsonException e)
        {
            throw new VirtException("MachineStateInvalid", $"The saved machine is damaged at '{e.Path}'.", null, null, e);
        }

        if (state is null || state.SchemaVersion is < 1 or > CurrentSchema)
            throw new VirtException("MachineStateInvalid", $"The saved machine has schema {state?.SchemaVersion}; this version knows {CurrentSchema}.", "Restore it with the version that saved it, or newer.");
        return state;
    }
}
