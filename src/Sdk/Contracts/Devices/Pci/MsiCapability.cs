using System.Numerics;
using VirtPS.Sdk.Interrupts;

namespace VirtPS.Sdk.Devices.Pci;

/// <summary>MSI with 64-bit addresses and per-vector masking (PCI Local Bus 3.0 §6.8.1). Under the device lock.</summary>
public sealed class MsiCapability : PciCapability
{
    private const int Control = 2, Address = 4, Data = 12, Mask = 16, Pending = 20;
    private const uint Enable = 1, Address64 = 1 << 7, PerVectorMasking = 1 << 8;

    private readonly int _vectors;

    /// <param name="vectors">1, 2, 4, 8, 16 or 32.</param>
    public MsiCapability(int vectors) : base(id: 0x05, length: 24)
    {
        if (vectors is < 1 or > 32 || !BitOperations.IsPow2(vectors))
            throw new ArgumentOutOfRangeException(nameof(vectors), vectors, "1, 2, 4, 8, 16 or 32.");
        _vectors = vectors;
    }

    public bool IsEnabled => (Function.GetConfig(Offset + Control, 2) & Enable) != 0;

    /// <summary>Vectors that the guest has granted (multiple message enable).</summary>
    public int EnabledVectors => Math.Min(_vectors, 1 << (int)Math.Min(Function.GetConfig(Offset + Control, 2) >> 4 & 7, 5));

    protected internal override void Initialize()
    {
        uint log2 = (uint)BitOperations.Log2((uint)_vectors);
        Function.SetInitial(Offset + Control, 2, (log2 << 1) | Address64 | PerVectorMasking);
        Function.SetWritable(Offset + Control, 2, Enable | (7 << 4));
        Function.SetWritable(Offset + Address, 4, 0xFFFF_FFFC);
        Function.SetWritable(Offset + Address + 4, 4, uint.MaxValue);
        Function.SetWritable(Offset + Data, 2, 0xFFFF);
        Function.SetWritable(Offset + Mask, 4, (uint)((1ul << _vectors) - 1));
    }

    /// <summary>
    /// Sends a vector's message; a masked one becomes pending. Vectors beyond those granted use the last granted one. Nothing happens while MSI is disabled or
    /// the function may not master the bus.
    /// </summary>
    public void Signal(int vector)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual((uint)vector, (uint)_vectors, nameof(vector));
        if (!IsEnabled)
            return;
        vector = Math.Min(vector, EnabledVectors - 1);
        uint bit = 1u << vector, pending = Function.GetConfig(Offset + Pending, 4);
        if ((Function.GetConfig(Offset + Mask, 4) & bit) != 0)
            Function.SetConfig(Offset + Pending, 4, pending | bit);
        else
            Send(vector);
    }

    private void Send(int vector)
    {
        if (!Function.IsBusMaster)
            return;
        ulong address = Function.GetConfig(Offset + Address, 4) | ((ulong)Function.GetConfig(Offset + Address + 4, 4) << 32);
        // The low bits of the data are the vector's number (§6.8.3.4).
        uint data = (Function.GetConfig(Offset + Data, 2) & ~((uint)EnabledVectors - 1)) | (uint)vector;
        Function.MessageTarget.Send(new MsiMessage(address, data));
    }

    protected internal override void Written(int offset, int size)
    {
        if (!IsEnabled)
            return;
        uint ready = Function.GetConfig(Offset + Pending, 4) & ~Function.GetConfig(Offset + Mask, 4);
        Function.SetConfig(Offset + Pending, 4, Function.GetConfig(Offset + Pending, 4) & ~ready);
        for (; ready != 0; ready &= ready - 1)
            Send(BitOperations.TrailingZeroCount(ready));
    }
}
