namespace VirtPS.Strategy.Para.Mmu;

/// <summary>What a guest's segment descriptors may be.</summary>
internal static class Descriptor
{
    private const ulong Present = 1ul << 47, NotSystem = 1ul << 44, Accessed = 1ul << 40, Code = 1ul << 43, Long = 1ul << 53, Default = 1ul << 54, Dpl3 = 3ul << 45;

    /// <summary>
    /// Makes a descriptor fit for a kernel in ring 3: privilege level 3, and the accessed bit set, so that nothing has to write the table. False for what a guest must not have: system
    /// descriptors (gates into, and task states of, a ring that is not its own).
    /// </summary>
    public static bool TryAdjust(ulong descriptor, out ulong adjusted)
    {
        adjusted = descriptor;
        if ((descriptor & Present) == 0)
            return true;
        if ((descriptor & NotSystem) == 0)
            return false;
        // A code segment with both L and D set is reserved (SDM Vol. 3A §5.2.1).
        if ((descriptor & (Code | Long | Default)) == (Code | Long | Default))
            return false;
        adjusted = descriptor | Dpl3 | Accessed;
        return true;
    }
}
