using System.Numerics;
using System.Runtime.CompilerServices;

namespace VirtPS.Emulation;

/// <summary>
/// Where indirect branches find the generated code of their targets: linear address → host address, for ring 3 or for the supervisor. Direct-mapped, by the target's low 16 bits; what is pushed out of its
/// place goes to a second table with another hash, at which a common stub looks before it leaves generated code. Only the vCPU's thread uses it.
/// <code>
/// tags · host addresses · second tags · second host addresses
/// </code>
/// A tag is minus the target. When somebody wants attention, look-ups go to empty entries: in the first table's stead there is another (<see cref="VcpuMemory.JumpTagsOffset"/>), in the second all go to entry 0,
/// which stays empty (<see cref="VcpuMemory.JumpMaskOffset"/>).
/// </summary>
internal sealed unsafe class JumpCache
{
    /// <summary>Of the second table.</summary>
    public const ulong Mask = VcpuMemory.SecondJumpEntries - 1;

    /// <summary>How far a target is rotated before it is added to itself for its place in the second table: page numbers count there, too.</summary>
    public const int SecondFold = 18;

    /// <summary>
    /// Tags of empty entries match addresses that are not canonical, and that are looked up elsewhere: the first one's place is 0, the second one's (which stands in entry 0) is 1.
    /// Only in the second table, when somebody wants attention, may the second one be met; its host address leads out.
    /// </summary>
    private const ulong Empty = 1ul << 63, EmptyAtZero = (1ul << 63) - 1;

    private const int Next = VcpuMemory.JumpArrayBytes / 8, NextSecond = VcpuMemory.SecondJumpArrayBytes / 8;
    private readonly ulong* _tags;
    private readonly ulong* _second;

    /// <summary>Filled places of both tables (those of the second have <see cref="InSecond"/>), since they were last empty; a place may be here twice.</summary>
    private readonly int[] _filled = new int[VcpuMemory.JumpEntries / 2];
    private const int InSecond = 1 << 30;
    private int _count;

    /// <param name="memory"><see cref="VcpuMemory.JumpCacheBytes"/>, which outlive it.</param>
    /// <param name="nowhere">Host address of empty entries.</param>
    public JumpCache(byte* memory, byte* nowhere)
    {
        // SAFETY: places are below the entries of each array.
        _tags = (ulong*)memory;
        _second = (ulong*)(memory + VcpuMemory.SecondJumpOffset);
        FillEmpty(_tags, VcpuMemory.JumpEntries);
        FillEmpty(_second, VcpuMemory.SecondJumpEntries);
        new Span<ulong>(_second + NextSecond, VcpuMemory.SecondJumpEntries).Fill((ulong)nowhere);
    }

    /// <summary>Makes tags that nothing matches.</summary>
    public static void FillEmpty(ulong* tags, int entries)
    {
        new Span<ulong>(tags, entries).Fill(Empty);
        tags[0] = EmptyAtZero;
    }

    private static ulong Place(ulong target) => (ushort)target;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static ulong SecondPlace(ulong target) => (target + BitOperations.RotateRight(target, SecondFold)) & Mask;

    private static ulong EmptyOf(ulong place) => place == 0 ? EmptyAtZero : Empty;

    /// <summary>The code of a target; null if it is not known.</summary>
    public byte* Find(ulong target)
    {
        ulong place = Place(target);
        if (_tags[place] == 0 - target && _tags[place] != EmptyOf(place))
            return (byte*)_tags[place + Next];
        place = SecondPlace(target);
        return place != 0 && _second[place] == 0 - target && _second[place] != Empty ? (byte*)_second[place + NextSecond] : null;
    }

    public void Add(ulong target, byte* host)
    {
        ulong place = Place(target);
        if (_tags[place] != EmptyOf(place) && _tags[place] != 0 - target)
            AddSecond(place);
        if (_tags[place] == EmptyOf(place))
            Note((int)place);
        (_tags[place], _tags[place + Next]) = (0 - target, (ulong)host);
    }

    /// <summary>Moves an entry out of the way.</summary>
    private void AddSecond(ulong from)
    {
        // Noting a place may empty both tables: what is moved is read before.
        (ulong tag, ulong host) = (_tags[from], _tags[from + Next]);
        ulong place = SecondPlace(0 - tag);
        if (place == 0)
            return;
        if (_second[place] == Empty)
            Note((int)place | InSecond);
        (_second[place], _second[place + NextSecond]) = (tag, host);
    }

    private void Note(int place)
    {
        if (_count == _filled.Length)
            Clear();
        _filled[_count++] = place;
    }

    /// <summary>The code at a target is gone.</summary>
    public void Remove(ulong target)
    {
        ulong place = Place(target), second = SecondPlace(target);
        if (_tags[place] == 0 - target)
            _tags[place] = EmptyOf(place);
        if (second != 0 && _second[second] == 0 - target)
            _second[second] = Empty;
    }

    public void Clear()
    {
        for (int i = 0; i < _count; i++)
        {
            int place = _filled[i] & ~InSecond;
            if ((_filled[i] & InSecond) != 0)
                _second[place] = Empty;
            else
                _tags[place] = EmptyOf((ulong)place);
        }

        _count = 0;
    }
}
