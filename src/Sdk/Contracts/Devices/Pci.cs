namespace VirtPS.Sdk.Devices;

/// <summary>A PCI function's configuration space; offsets 0–255, sizes 1, 2, 4, naturally aligned (PCI Local Bus 3.0 §6).</summary>
public interface IPciFunction
{
    uint ReadConfig(int offset, int size);

    void WriteConfig(int offset, int size, uint value);
}

/// <summary>The root bus, as PCI devices see it; provided by the host bridge.</summary>
public interface IPciBus
{
    /// <summary>Puts a function on the bus. <paramref name="device"/> 0–31 or null for the first free one; returns the device number. Taken: <see cref="VirtException"/>.</summary>
    int Add(IPciFunction function, int? device = null, int functionNumber = 0);

    /// <summary>Takes a function off (hot unplug).</summary>
    void Remove(IPciFunction function);

    /// <summary>The driver's end of INTA#–INTD# (0–3) of a device number, swizzled to the global interrupts.</summary>
    Interrupts.InterruptLine GetPin(int device, int pin);
}
