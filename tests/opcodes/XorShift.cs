namespace VirtPS.Opcodes;

/// <summary>xorshift64*: small, and the same everywhere, so that a seed names a run for good.</summary>
internal sealed class XorShift(ulong seed)
{
    private ulong _state = seed * 0x9E37_79B9_7F4A_7C15 | 1;

    public ulong Next()
    {
        _state ^= _state >> 12;
        _state ^= _state << 25;
        _state ^= _state >> 27;
        return _state * 0x2545_F491_4F6C_DD1D;
    }

    /// <summary>0 … <paramref name="bound"/> - 1.</summary>
    public int Below(int bound) => (int)((Next() >> 32) * (ulong)bound >> 32);

    public bool OneIn(int n) => Below(n) == 0;

    public T Pick<T>(ReadOnlySpan<T> items) => items[Below(items.Length)];

    /// <summary>A 64-bit value as bugs like it: small, extreme, a sign-extended byte, a power of two, or anything.</summary>
    public ulong Interesting() => Below(8) switch
    {
        0 => (ulong)(Below(19) - 9),
        1 => 1ul << Below(64),
        2 => (1ul << Below(64)) - 1,
        3 => (ulong)(sbyte)Next(),
        4 => (ulong)(int)Next(),
        5 => (uint)Next(),
        _ => Next(),
    };
}
