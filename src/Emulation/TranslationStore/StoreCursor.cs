namespace VirtPS.Emulation;

/// <summary>
/// The records of a <see cref="StoreFile"/> that one vCPU is expected to want next: those behind the ones that it took last. Several, because a file holds what several runs wrote, and a run has blocks of each in
/// turn. A cursor that has taken nothing expects the first records. Not for several threads.
/// </summary>
internal unsafe struct StoreCursor
{
    public const int Length = 4;

    /// <summary>So many records may have been passed over, and it is still the same run's.</summary>
    private const uint NearBy = 32;

    private fixed uint _next[Length];
    private int _replaced;

    /// <summary>A record's number; the last one may be behind the file's end.</summary>
    public readonly uint Next(int i) => _next[i];

    /// <summary>What was expected was right.</summary>
    public void Advance(int i) => _next[i]++;

    /// <summary>A record was taken that was not expected.</summary>
    public void Follow(uint ordinal)
    {
        for (int i = 0; i < Length; i++)
        {
            if (ordinal - _next[i] < NearBy)
            {
                _next[i] = ordinal + 1;
                return;
            }
        }

        _next[_replaced] = ordinal + 1;
        _replaced = (_replaced + 1) % Length;
    }
}
