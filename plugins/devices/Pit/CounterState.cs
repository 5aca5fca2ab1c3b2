namespace VirtPS.Device.Pit;

/// <summary>RW field of the control word (Intel 8254 data sheet 231164, figure 7).</summary>
internal static class AccessMode
{
    public const byte Latch = 0, Lsb = 1, Msb = 2, LsbThenMsb = 3;
}

/// <summary>One counter's saved state. Times are in ticks of the 1.193182 MHz clock since VM time 0.</summary>
internal sealed record CounterState
{
    /// <summary>0–5; 6 and 7 of the control word mean 2 and 3. At power-on 0, so that OUT0 is low.</summary>
    public byte Mode { get; set; }
    public byte Access { get; set; } = AccessMode.LsbThenMsb;
    public bool Bcd { get; set; }
    public bool Gate { get; set; } = true;

    /// <summary>First byte of a two-byte count, while the second is awaited.</summary>
    public byte? HalfWritten { get; set; }

    /// <summary>The next read of a two-byte count gives the MSB.</summary>
    public bool ReadMsbNext { get; set; }

    public ushort? LatchedCount { get; set; }
    public byte? LatchedStatus { get; set; }

    /// <summary>Count register: 1–65536 (BCD: 1–10000) clocks; 0 = none written since the control word.</summary>
    public int Reload { get; set; }

    /// <summary>The counting element's initial count; 0 = not loaded.</summary>
    public int Loaded { get; set; }

    /// <summary>Reload waits for the end of the (half) period or for a trigger.</summary>
    public bool ReloadPending { get; set; }

    /// <summary>Modes 2 and 3: the tick at which a pending reload takes place, and the tick from which the new count is then reckoned.</summary>
    public long PendingFrom { get; set; }

    public long PendingBase { get; set; }

    /// <summary>Tick at which the counting element held <see cref="Loaded"/>; while stopped, meaningless.</summary>
    public long LoadedAt { get; set; }

    /// <summary>Set while counting is held by GATE or a half-written count: clocks counted so far.</summary>
    public long? HeldElapsed { get; set; }
}
