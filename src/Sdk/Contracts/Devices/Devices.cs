using System.Text.Json.Nodes;
using VirtPS.Sdk.Backends;
using VirtPS.Sdk.Interrupts;
using VirtPS.Sdk.Memory;
using VirtPS.Sdk.Time;

namespace VirtPS.Sdk.Devices;

/// <summary>
/// A device model. Every member is called under the machine's device lock. Fields stand in three groups: configuration, wiring, guest-visible
/// state; only the last is saved.
/// </summary>
public interface IDevice : IDisposable
{
    /// <summary>Puts the guest-visible state as after power-on (cold) or a platform reset (warm).</summary>
    void Reset(ResetKind kind);

    /// <summary>Stops starting host work and waits until none is under way; called before <see cref="Save"/> and before a pause.</summary>
    void Quiesce();

    /// <summary>The whole guest-visible state.</summary>
    DeviceState Save();

    /// <summary>Restores into a fresh device of the same spec. Throws <see cref="VirtException"/> (<c>DeviceStateInvalid</c>) for another type or a newer schema.</summary>
    void Restore(DeviceState state);

    /// <summary>Undoes <see cref="Quiesce"/>: re-drives lines, re-arms alarms.</summary>
    void Resume();
}

public enum ResetKind
{
    Cold,
    Warm,
}

/// <summary>Saved state with its type id (<c>virtps.serial/16550a</c>) and schema version.</summary>
public sealed record DeviceState(string TypeId, int SchemaVersion, JsonNode Data)
{
    /// <summary>Serialises a plain DTO.</summary>
    public static DeviceState From<T>(string typeId, int schemaVersion, T data) =>
        new(typeId, schemaVersion, System.Text.Json.JsonSerializer.SerializeToNode(data, DeviceJson.Options)!);

    /// <summary>The DTO back, after type and version were checked; an older schema is the device's own business.</summary>
    public T Read<T>(string typeId, int newestSchema)
    {
        if (TypeId != typeId)
            throw new VirtException("DeviceStateInvalid", $"Saved state of '{TypeId}' cannot be restored into a '{typeId}'.");
        if (SchemaVersion > newestSchema || SchemaVersion < 1)
            throw new VirtException("DeviceStateInvalid", $"Saved state of '{TypeId}' has schema {SchemaVersion}; this version knows up to {newestSchema}.", "Restore it with the version that saved it, or newer.");
        return System.Text.Json.JsonSerializer.Deserialize<T>(Data, DeviceJson.Options)
            ?? throw new VirtException("DeviceStateInvalid", $"Saved state of '{TypeId}' is empty.");
    }
}

/// <summary>How device specs and device state are written as JSON.</summary>
public static class DeviceJson
{
    public static readonly System.Text.Json.JsonSerializerOptions Options = new()
    {
        IncludeFields = true,
        PropertyNameCaseInsensitive = true,
        PropertyNamingPolicy = System.Text.Json.JsonNamingPolicy.CamelCase,
        Converters = { new System.Text.Json.Serialization.JsonStringEnumConverter() },
        NumberHandling = System.Text.Json.Serialization.JsonNumberHandling.AllowReadingFromString,
    };
}

/// <summary>A device on the I/O port bus. Offsets are relative to the region it asked for.</summary>
public interface IPortDevice
{
    /// <summary>Reads 1, 2 or 4 bytes (the bus splits what the region does not take).</summary>
    uint ReadPort(int offset, int size);

    void WritePort(int offset, int size, uint value);
}

/// <summary>A device in guest-physical address space.</summary>
public interface IMmioDevice
{
    /// <summary>Reads 1, 2, 4 or 8 bytes, naturally aligned.</summary>
    ulong ReadMmio(ulong offset, int size);

    void WriteMmio(ulong offset, int size, ulong value);
}

/// <summary>A region on a bus; dispose to take it away (while running, too).</summary>
public interface IBusRegion : IDisposable
{
    ulong Start { get; }

    ulong Length { get; }

    /// <summary>Moves the region (a BAR was rewritten); null takes it off the bus without giving it up.</summary>
    void Move(ulong? start);
}

/// <summary>
/// What a device model gets from its machine. Everything it asks for here it gets only during <see cref="IDeviceFactory.Create"/>, except regions,
/// which may come and go.
/// </summary>
public abstract class DeviceContext
{
    /// <summary>The device's name in this VM, unique: <c>com1</c>.</summary>
    public abstract string Name { get; }

    public abstract ILog Log { get; }

    public abstract VirtualClock Clock { get; }

    public abstract GuestMemory Memory { get; }

    /// <summary>Claims ports. Widths beyond <paramref name="maxAccess"/> (1, 2, 4) are split into consecutive accesses. Overlap is a <see cref="VirtException"/> that names both owners.</summary>
    public abstract IBusRegion MapPorts(ushort first, int count, IPortDevice device, int maxAccess = 1);

    /// <summary>Claims guest-physical addresses.</summary>
    public abstract IBusRegion MapMmio(ulong start, ulong length, IMmioDevice device, int maxAccess = 8);

    /// <summary>A driver's end of an ISA interrupt, 0–15 (both the 8259 pair and the IOAPIC see it).</summary>
    public abstract InterruptLine IsaInterrupt(int irq);

    /// <summary>A driver's end of a global system interrupt (IOAPIC pin), 0–23; 16–23 are for PCI.</summary>
    public abstract InterruptLine GlobalInterrupt(int gsi);

    /// <summary>Where this device's MSIs go.</summary>
    public abstract IMsiTarget Msi { get; }

    /// <summary>An MSI that threads of the host side raise without the device lock, by file descriptor where the partition takes one (KVM's irqfd).</summary>
    public virtual IMsiSignal CreateMsiSignal() => new SoftwareMsiSignal(Msi);

    /// <summary>
    /// Lets a place in one of the device's own MMIO regions only ring: the writing vCPU goes on at once and <paramref name="rung"/> runs under the device lock soon after; several
    /// writes may become one call. Null where the partition can't: the writes then reach the region as any others. Dispose it when the region moves or goes.
    /// </summary>
    /// <param name="address">Guest-physical.</param>
    /// <param name="size">Width of the write: 1, 2, 4, 8 bytes; other widths reach the region.</param>
    /// <param name="value">Only writes of this value; null: of any.</param>
    /// <param name="rung">What the device does about it.</param>
    public virtual IDisposable? TryMapDoorbell(ulong address, int size, ulong? value, Action rung) => null;

    /// <summary>The host side of a byte stream that the spec names (<c>console</c>, …); a null backend where it names none.</summary>
    public abstract ICharBackend OpenChar(string? name);

    /// <summary>The host side of a disk; opened from the spec's backend properties.</summary>
    public abstract IBlockBackend OpenBlock(JsonObject spec);

    public abstract INetBackend OpenNet(JsonObject spec);

    /// <summary>Runs <paramref name="work"/> under the device lock soon; how completions of host work reach the device. Any thread.</summary>
    public abstract void Post(Action work);

    /// <summary>A part of the machine that this device serves or needs (interface types of this package); null where the machine has none.</summary>
    public abstract T? GetService<T>() where T : class;

    /// <summary>Offers a part to the machine (an <see cref="IInterruptInput"/> as PIC, a PCI bus …). One of each type and <paramref name="key"/>.</summary>
    public abstract void Provide<T>(T service, string key = "") where T : class;
}

/// <summary>What a guest can do to its machine; devices get it through <see cref="DeviceContext.GetService{T}"/>.</summary>
public interface IMachineControl
{
    /// <summary>The guest switched itself off (ACPI S5, debug-exit port). Never returns control to the guest after the current instruction.</summary>
    void RequestPowerOff(string reason, int? exitCode = null);

    /// <summary>The guest asked for a platform reset (0xCF9, i8042, ACPI reset register, triple fault).</summary>
    void RequestReset(string reason);

    /// <summary>A20 gate (real-mode address line 20).</summary>
    bool A20 { get; set; }

    int VcpuCount { get; }
}

/// <summary>Makes devices of one model. Found by the catalog through <see cref="Plugins.PluginAttribute"/>; stateless, thread-safe.</summary>
public interface IDeviceFactory
{
    /// <summary>Model id inside the plugin, lower case: <c>16550a</c>.</summary>
    string Model { get; }

    /// <summary>
    /// Makes a device from its spec (the JSON object stored in vm.json, with <c>model</c> and <c>name</c>). Throws <see cref="VirtException"/>
    /// (<c>DevicePropertyInvalid</c>) that names the property and what it may be.
    /// </summary>
    IDevice Create(JsonObject spec, DeviceContext context);
}

/// <summary>The usual base: the spec as a type of its own.</summary>
public abstract class DeviceFactory<TSpec> : IDeviceFactory where TSpec : class, new()
{
    public abstract string Model { get; }

    public IDevice Create(JsonObject spec, DeviceContext context)
    {
        TSpec typed;
        try
        {
            typed = SpecReader.TryRead<TSpec>(spec) ?? System.Text.Json.JsonSerializer.Deserialize<TSpec>(spec, DeviceJson.Options) ?? new TSpec();
        }
        catch (System.Text.Json.JsonException e)
        {
            throw new VirtException("DevicePropertyInvalid", $"Device '{context.Name}' ({Model}): property '{e.Path?.TrimStart('$', '.')}' has a value of the wrong kind.", "Get-VirtDeviceModel lists the properties and their types.", context.Name, e);
        }

        return Create(typed, context);
    }

    protected abstract IDevice Create(TSpec spec, DeviceContext context);
}
