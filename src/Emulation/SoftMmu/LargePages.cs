namespace VirtPS.Emulation;

/// <summary>
/// Where pieces of large pages may be in the TLB, which has entries of 4 KiB: INVLPG of any address of such a page must drop all of it (SDM Vol. 3A §4.10.4.1). Hashed: what is said of an address may hold for another one,
/// which costs the time to drop more and nothing else. A vCPU's own.
/// </summary>
internal sealed class LargePages
{
    /// <summary>Bytes of a large page, but for the 4 MiB ones of two-level paging, which are two; and of what is called huge.</summary>
    public const ulong Size = 1ul << SizeShift;
    private const int SizeShift = 21, HugeShift = 30;

    private const int LargeBits = 14, HugeBits = 10;
    private readonly ulong[] _large = new ulong[1 << (LargeBits - 6)], _huge = new ulong[1 << (HugeBits - 6)];

    /// <summary>A piece of a large page, at this address, comes into the TLB.</summary>
    public void Note(ulong linear, in Translation t)
    {
        if (t.Huge)
        {
            Mark(_huge, Hash(linear >> HugeShift, HugeBits));
            return;
        }

        // Both halves of what may be a page of 4 MiB.
        Mark(_large, Hash(linear >> SizeShift, LargeBits));
        Mark(_large, Hash((linear >> SizeShift) ^ 1, LargeBits));
    }

    public bool MayBeLarge(ulong linear) => IsMarked(_large, Hash(linear >> SizeShift, LargeBits));

    public bool MayBeHuge(ulong linear) => IsMarked(_huge, Hash(linear >> HugeShift, HugeBits));

    /// <summary>Nothing is in the TLB.</summary>
    public void Clear()
    {
        Array.Clear(_large);
        Array.Clear(_huge);
    }

    private static int Hash(ulong n, int bits) => (int)(n * 0x9E37_79B9_7F4A_7C15 >> (64 - bits));

    private static void Mark(ulong[] marks, int n) => marks[n >> 6] |= 1ul << (n & 63);

    private static bool IsMarked(ulong[] marks, int n) => (marks[n >> 6] >> (n & 63) & 1) != 0;
}
