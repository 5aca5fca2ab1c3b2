namespace VirtPS.Device.LocalApic;

/// <summary>Register offsets in the xAPIC page; an x2APIC MSR is 0x800 + offset / 16 (SDM Vol. 3A table 10-1, table 10-6).</summary>
internal static class Reg
{
    public const int Id = 0x20, Version = 0x30, Tpr = 0x80, Apr = 0x90, Ppr = 0xA0, Eoi = 0xB0, Ldr = 0xD0, Dfr = 0xE0, Svr = 0xF0,
        Isr = 0x100, Tmr = 0x180, Irr = 0x200, Esr = 0x280, IcrLow = 0x300, IcrHigh = 0x310, LvtTimer = 0x320, LvtThermal = 0x330,
        LvtPerformance = 0x340, LvtLint0 = 0x350, LvtLint1 = 0x360, LvtError = 0x370, InitialCount = 0x380, CurrentCount = 0x390,
        DivideConfiguration = 0x3E0, SelfIpi = 0x3F0;
}

/// <summary>Local vector table (SDM Vol. 3A §10.5.1, figure 10-8), in register order.</summary>
internal static class Lvt
{
    public const int Timer = 0, Thermal = 1, Performance = 2, Lint0 = 3, Lint1 = 4, Error = 5, Count = 6;

    public const uint RemoteIrr = 1 << 14, LevelTriggered = 1 << 15, Masked = 1 << 16;

    /// <summary>Timer mode field, bits 18–17.</summary>
    public const uint TimerMode = 3 << 17, OneShot = 0, Periodic = 1 << 17, TscDeadline = 2 << 17;

    /// <summary>Bits that can be written, per entry.</summary>
    public static uint Writable(int entry) => entry switch
    {
        Timer => 0xFF | Masked | TimerMode,
        Thermal or Performance => 0x7FF | Masked,
        Lint0 or Lint1 => 0x7FF | (1 << 13) | LevelTriggered | Masked,
        _ => 0xFF | Masked,
    };
}

/// <summary>Spurious-interrupt vector register (SDM Vol. 3A figure 10-23).</summary>
internal static class Svr
{
    public const uint Enable = 1 << 8, SuppressEoiBroadcast = 1 << 12, Writable = 0xFF | Enable | (1 << 9) | SuppressEoiBroadcast;
}

/// <summary>Error status register (SDM Vol. 3A figure 10-9).</summary>
internal static class Esr
{
    public const uint SendIllegalVector = 1 << 5, ReceiveIllegalVector = 1 << 6, IllegalRegister = 1 << 7;
}

/// <summary>256 vector bits, as IRR, ISR and TMR have them.</summary>
internal sealed class VectorSet
{
    private readonly ulong[] _words = new ulong[4];

    public bool this[int vector]
    {
        get => (_words[vector >> 6] >> (vector & 63) & 1) != 0;
        set
        {
            if (value)
                _words[vector >> 6] |= 1ul << (vector & 63);
            else
                _words[vector >> 6] &= ~(1ul << (vector & 63));
        }
    }

    /// <summary>The highest vector in the set; -1 when empty.</summary>
    public int Highest
    {
        get
        {
            for (int i = 3; i >= 0; i--)
            {
                if (_words[i] != 0)
                    return (i * 64) + 63 - System.Numerics.BitOperations.LeadingZeroCount(_words[i]);
            }

            return -1;
        }
    }

    /// <summary>32 bits, as the eight registers at 0x10 distance show them.</summary>
    public uint Register(int index) => (uint)(_words[index >> 1] >> ((index & 1) * 32));

    public void Clear() => Array.Clear(_words);

    public ulong[] Save() => [.. _words];

    public void Restore(ulong[] words) => words.AsSpan(0, 4).CopyTo(_words);
}
