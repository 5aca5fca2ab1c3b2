namespace VirtPS.Sdk.Devices.Pci;

/// <summary>
/// An entry in a function's capabilities list (PCI Local Bus 3.0 §6.7). Its bytes are part of <see cref="PciFunction"/>'s configuration space; a derived class says which the guest
/// may write, and reacts. Under the device lock.
/// </summary>
public abstract class PciCapability(byte id, int length)
{
    /// <summary>Capability ID.</summary>
    public byte Id { get; } = id;

    /// <summary>Bytes, the ID and the next pointer included.</summary>
    public int Length { get; } = length;

    /// <summary>Offset in configuration space, once added.</summary>
    public int Offset { get; internal set; }

    /// <summary>The function that it belongs to, once added.</summary>
    public PciFunction Function { get; internal set; } = null!;

    /// <summary>Writes initial bytes and write masks; called once, when the capability is added.</summary>
    protected internal abstract void Initialize();

    /// <summary>The guest is about to read bytes of this capability (offset in the capability).</summary>
    protected internal virtual void Reading(int offset, int size)
    {
    }

    /// <summary>The guest has written bytes of this capability (offset in the capability).</summary>
    protected internal virtual void Written(int offset, int size)
    {
    }

    /// <summary>Back to the state after a bus reset. The bytes in configuration space are back already.</summary>
    protected internal virtual void Reset()
    {
    }

    /// <summary>State beyond the bytes in configuration space; null where there is none.</summary>
    protected internal virtual byte[]? Save() => null;

    /// <summary>Restores what <see cref="Save"/> gave; the bytes in configuration space are restored already.</summary>
    protected internal virtual void Restore(byte[]? state)
    {
    }
}
