using VirtPS.Sdk.Interrupts;

namespace VirtPS.Device.IoApic;

/// <summary>An entry of the redirection table (82093AA data sheet §3.2.4).</summary>
internal readonly record struct RedirectionEntry(ulong Bits)
{
    public const ulong DeliveryStatus = 1 << 12, RemoteIrrBit = 1 << 14, LevelBit = 1 << 15, MaskBit = 1 << 16;

    /// <summary>Vector, modes, polarity, trigger, mask and the destination; delivery status and remote IRR are read-only.</summary>
    public const ulong Writable = 0xFF00_0000_0001_AFFF;

    public static readonly RedirectionEntry AfterReset = new(MaskBit);

    public byte Vector => (byte)Bits;

    public DeliveryMode Mode => (DeliveryMode)(Bits >> 8 & 7);

    public bool RemoteIrr => (Bits & RemoteIrrBit) != 0;

    public bool IsMasked => (Bits & MaskBit) != 0;

    /// <summary>Level-triggered; NMI, SMI, INIT and ExtINT are edge-triggered whatever the bit says (§3.2.4, delivery mode).</summary>
    public bool IsLevel => (Bits & LevelBit) != 0 && Mode is (DeliveryMode.Fixed or DeliveryMode.LowestPriority);

    public RedirectionEntry WithRemoteIrr(bool value) => new(value ? Bits | RemoteIrrBit : Bits & ~RemoteIrrBit);

    /// <summary>The message as it travels (SDM Vol. 3A §10.11): destination, destination mode and redirection hint; vector, mode and trigger.</summary>
    public MsiMessage ToMessage()
    {
        ulong destination = Bits >> 56;
        bool logical = (Bits & (1 << 11)) != 0;
        ulong address = 0xFEE0_0000 | (destination << 12) | (Mode == DeliveryMode.LowestPriority ? 8u : 0u) | (logical ? 4u : 0u);
        uint data = Vector | ((uint)Mode << 8) | (IsLevel ? 0xC000u : 0);
        return new MsiMessage(address, data);
    }
}
