using VirtPS.Engine.Firmware;

namespace VirtPS.Engine.Boot;

/// <summary>Keeps track of which usable RAM the loader has given to what, so that nothing overwrites another part unnoticed.</summary>
internal sealed class RamPlan
{
    private readonly MemoryLayout _layout;
    private readonly List<(ulong Start, ulong End, string Owner)> _taken = [];

    public RamPlan(MemoryLayout layout)
    {
        _layout = layout;
        _taken.Add((0, FirmwareWriter.BiosDataEnd, "the interrupt vectors and BIOS data"));
    }

    /// <summary>
    /// Takes a range at a fixed place. <paramref name="file"/> is blamed when it is not all RAM or is taken: the error says by what, and how much memory would do.
    /// </summary>
    public void Take(ulong start, ulong size, string owner, string file)
    {
        if (size == 0)
            return;
        ulong end = start + size;
        if (end < start)
            throw ImageFault.Of(file, $"{owner} (0x{start:X}, 0x{size:X} bytes) is beyond the address space", "The file is damaged, or not for this kind of machine.");
        if (!IsRam(start, end))
            throw OutsideRam(start, end, owner, file);
        foreach ((ulong s, ulong e, string other) in _taken)
        {
            if (start < e && s < end)
                throw ImageFault.Of(file, $"{owner} (0x{start:X}–0x{end - 1:X}) overlaps {other} (0x{s:X}–0x{e - 1:X})", "Link or load it at another address.");
        }

        _taken.Add((start, end, owner));
    }

    /// <summary>Takes the lowest free place in [<paramref name="min"/>, <paramref name="max"/>); null when none is free.</summary>
    public ulong? TakeLowest(ulong size, ulong alignment, ulong min, ulong max, string owner)
    {
        foreach (E820Entry ram in _layout.E820.Where(e => e.Type == E820Type.Ram))
        {
            ulong start = AlignUp(Math.Max(ram.Start, min), alignment);
            while (start + size <= Math.Min(ram.End, max))
            {
                ulong? blocker = BlockerEnd(start, start + size);
                if (blocker is null)
                    return Add(start, size, owner);
                start = AlignUp(blocker.Value, alignment);
            }
        }

        return null;
    }

    /// <summary>Takes the highest free place in [<paramref name="min"/>, <paramref name="max"/>); null when none is free.</summary>
    public ulong? TakeHighest(ulong size, ulong alignment, ulong min, ulong max, string owner)
    {
        foreach (E820Entry ram in _layout.E820.Where(e => e.Type == E820Type.Ram).Reverse())
        {
            ulong bottom = Math.Max(ram.Start, min), top = Math.Min(ram.End, max);
            while (top > bottom && top - bottom >= size)
            {
                ulong start = (top - size) & ~(alignment - 1);
                if (start < bottom)
                    break;
                ulong? blocker = BlockerStart(start, start + size);
                if (blocker is null)
                    return Add(start, size, owner);
                top = blocker.Value;
            }
        }

        return null;
    }

    private ulong Add(ulong start, ulong size, string owner)
    {
        _taken.Add((start, start + size, owner));
        return start;
    }

    private ulong? BlockerEnd(ulong start, ulong end)
    {
        foreach ((ulong s, ulong e, _) in _taken)
        {
            if (start < e && s < end)
                return e;
        }

        return null;
    }

    private ulong? BlockerStart(ulong start, ulong end)
    {
        foreach ((ulong s, ulong e, _) in _taken)
        {
            if (start < e && s < end)
                return s;
        }

        return null;
    }

    private bool IsRam(ulong start, ulong end) => _layout.E820.Any(e => e.Type == E820Type.Ram && start >= e.Start && end <= e.End);

    private static Exception OutsideRam(ulong start, ulong end, string owner, string file)
    {
        string range = $"{owner} belongs at 0x{start:X}–0x{end - 1:X}";
        MemoryLayout larger = MemoryLayout.ForRam(AlignUp(Math.Clamp(end, MemoryLayout.OneMegabyte, MemoryLayout.FourGigabytes), MemoryLayout.OneMegabyte));
        bool moreWouldDo = end <= MemoryLayout.FourGigabytes && larger.E820.Any(e => e.Type == E820Type.Ram && start >= e.Start && end <= e.End);
        return moreWouldDo
            ? ImageFault.NeedsMemory(file, range, end)
            : ImageFault.Of(file, $"{range}, where this machine never has usable RAM", "Link or load it at another address, such as 0x100000.");
    }

    private static ulong AlignUp(ulong value, ulong alignment) => (value + alignment - 1) & ~(alignment - 1);
}
