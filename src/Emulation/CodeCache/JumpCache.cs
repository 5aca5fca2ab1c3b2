using System.Numerics;
using System.Runtime.CompilerServices;

namespace VirtPS.Emulation;

/// <summary>
/// Where indirect branches find the generated code of their targets: linear address → host address, for ring 3 or for the supervisor. Direct-mapped; what is pushed out of its
/// place goes to a second table with another hash, at which a common stub looks before it leaves generated code. Only the vCPU's thread uses it.
/// <code>
/// tags · host addresses · second tags · second host addresses
/// </code>
/// A tag is minus the target. Entry 0 of each table stays empty: all look-ups are sent there (by way of <see cref="VcpuMemory.JumpMaskOffset"/>) when somebody wants attention.
/// </summary>
internal sealed unsafe class JumpCache
{
    public const ulong Mask = VcpuMemory.JumpEntries - 1;

    /// <summary>How far a target is rotated before it is added to itself for its place: page numbers count, too.</summary>
    public const int Fold = 11, SecondFold = 18;

    /// <summary>
    /// Tags of empty entries match addresses that are not canonical, and that are looked up elsewhere: the first one's place is 0, the second one's (which stands in entry 0) is 1.
    /// Only when somebody wants attention may the second one be met; its host address leads out.
    /// </summary>
    private const ulong Empty = 1ul << 63, EmptyAtZero = (1ul << 63) - 1;

    private const int Next = VcpuMemory.JumpArrayBytes / 8;
    private readonly ulong* _tags;
    private readonly ulong* _second;

    /// <summary>Filled places of both tables (those of the second have <see cref="InSecond"/>), since they were last empty; a place may be here twice.</summary>
    private readonly int[] _filled = new int[VcpuMemory.JumpEntries];
    private const int InSecond = 1 << 30;
    private int _count;

    /// <param name="memory"><see cref="VcpuMemory.JumpCacheBytes"/>, which outlive it.</param>
    /// <param name="nowhere">Host address of empty entries.</param>
    public JumpCache(byte* memory, byte* nowhere)
    {
        // SAFETY: places are masked by Mask, which is below the entries of each array.
        _tags = (ulong*)memory;
        _second = (ulong*)(memory + 2 * VcpuMemory.JumpArrayBytes);
        foreach (nint table in (ReadOnlySpan<nint>)[(nint)_tags, (nint)_second])
        {
            new Span<ulong>((ulong*)table + Next, VcpuMemory.JumpEntries).Fill((ulong)nowhere);
            ClearAll((ulong*)table);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static ulong Place(ulong target, int fold) => (target + BitOperations.RotateRight(target, fold)) & Mask;

    public void Add(ulong target, byte* host)
    {
        ulong place = Place(target, Fold);
        if (place == 0)
            return;
        if (_tags[place] != Empty && _tags[place] != 0 - target)
            AddSecond(place);
        Set(_tags, place, 0 - target, (ulong)host, 0);
    }

    /// <summary>Moves an entry out of the way.</summary>
    private void AddSecond(ulong from)
    {
        ulong place = Place(0 - _tags[from], SecondFold);
        if (place != 0)
            Set(_second, place, _tags[from], _tags[from + Next], InSecond);
    }

    private void Set(ulong* tags, ulong place, ulong tag, ulong host, int table)
    {
        if (_count == _filled.Length)
            Clear();
        if (tags[place] == Empty)
            _filled[_count++] = (int)place | table;
        tags[place] = tag;
        tags[place + Next] = host;
    }

    /// <summary>The code at a target is gone.</summary>
    public void Remove(ulong target)
    {
        Remove(_tags, Place(target, Fold), target);
        Remove(_second, Place(target, SecondFold), target);
    }

    private static void Remove(ulong* tags, ulong place, ulong target)
    {
        if (place != 0 && tags[place] == 0 - target)
            tags[place] = Empty;
    }

    public void Clear()
    {
        for (int i = 0; i < _count; i++)
            ((_filled[i] & InSecond) != 0 ? _second : _tags)[_filled[i] & ~InSecond] = Empty;
        _count = 0;
    }

    private static void ClearAll(ulong* tags)
    {
        new Span<ulong>(tags, VcpuMemory.JumpEntries).Fill(Empty);
        tags[0] = EmptyAtZero;
    }
}
