using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;
using VirtPS.Sdk.Cpu;

namespace VirtPS.Sdk.Memory;

/// <summary>
/// The guest's RAM: slots that come and go while the machine runs. Reads and writes are the DMA view: guest-physical, little-endian, never faulting the
/// guest; an address without memory gives false. Thread-safe; adding and removing slots is serialised internally.
/// </summary>
public sealed unsafe class GuestMemory : IDisposable
{
    private readonly Lock _gate = new();
    private readonly List<DirtyTracker> _trackers = [];
    private MemorySlot[] _slots = [];
    private IPartition? _partition;

    /// <summary>The slots, ascending by guest-physical address; an immutable snapshot.</summary>
    public IReadOnlyList<MemorySlot> Slots => Volatile.Read(ref _slots);

    /// <summary>Bytes of RAM in all slots that are not read-only.</summary>
    public ulong TotalRam => Slots.Where(s => !s.ReadOnly).Aggregate(0ul, (n, s) => n + s.Size);

    /// <summary>Connects the partition; existing and later slots are mapped into it.</summary>
    public void Attach(IPartition partition)
    {
        lock (_gate)
        {
            _partition = partition;
            foreach (MemorySlot slot in _slots)
                partition.MapMemory(slot);
        }
    }

    /// <summary>Adds a slot. Throws <see cref="ArgumentException"/> when it overlaps another or is not page-aligned.</summary>
    public void Add(MemorySlot slot)
    {
        lock (_gate)
        {
            foreach (MemorySlot other in _slots)
            {
                if (slot.Gpa < other.End && other.Gpa < slot.End)
                    throw new ArgumentException($"Memory slot 0x{slot.Gpa:X}-0x{slot.End - 1:X} overlaps 0x{other.Gpa:X}-0x{other.End - 1:X}.", nameof(slot));
            }

            _partition?.MapMemory(slot);
            Volatile.Write(ref _slots, [.. _slots.Append(slot).OrderBy(s => s.Gpa)]);
        }
    }

    /// <summary>
    /// Removes a slot: no new access finds it, the partition unmaps it, then its open leases are waited for. Afterwards its host memory may be freed.
    /// </summary>
    public void Remove(MemorySlot slot)
    {
        lock (_gate)
        {
            Volatile.Write(ref _slots, [.. _slots.Where(s => s != slot)]);
            _partition?.UnmapMemory(slot);
        }

        slot.WaitForLeases();
    }

    /// <summary>The slot that holds <paramref name="gpa"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public bool TryFind(ulong gpa, [NotNullWhen(true)] out MemorySlot? slot)
    {
        foreach (MemorySlot s in Volatile.Read(ref _slots))
        {
            if (gpa - s.Gpa < s.Size)
            {
                slot = s;
                return true;
            }
        }

        slot = null;
        return false;
    }

    /// <summary>
    /// Direct access to <paramref name="length"/> bytes at <paramref name="gpa"/>, all in one slot; dispose soon. A writable lease marks its pages dirty
    /// and drops code cached from them when it is opened and again when it is disposed.
    /// </summary>
    public bool TryLease(ulong gpa, int length, bool writable, out MemoryLease lease)
    {
        lease = default;
        if (length < 0 || !TryFind(gpa, out MemorySlot? slot) || (ulong)length > slot.End - gpa || (writable && slot.ReadOnly) || !slot.TryAddLease())
            return false;
        lease = new MemoryLease(this, slot, gpa - slot.Gpa, length, writable);
        if (writable)
            NoteWrite(slot, gpa - slot.Gpa, (ulong)length);
        return true;
    }

    /// <summary>Copies guest memory out, over slot boundaries; false (and an undefined part copied) where some address has no memory.</summary>
    public bool TryRead(ulong gpa, Span<byte> destination)
    {
        while (destination.Length > 0)
        {
            if (!TryFind(gpa, out MemorySlot? slot))
                return false;
            int n = (int)Math.Min((ulong)destination.Length, slot.End - gpa);
            if (!TryLease(gpa, n, writable: false, out MemoryLease lease))
                return false;
            using (lease)
                lease.Span.CopyTo(destination);
            destination = destination[n..];
            gpa += (ulong)n;
        }

        return true;
    }

    /// <summary>Copies into guest memory, over slot boundaries; false where some address has no writable memory.</summary>
    public bool TryWrite(ulong gpa, ReadOnlySpan<byte> source)
    {
        while (source.Length > 0)
        {
            if (!TryFind(gpa, out MemorySlot? slot))
                return false;
            int n = (int)Math.Min((ulong)source.Length, slot.End - gpa);
            if (!TryLease(gpa, n, writable: true, out MemoryLease lease))
                return false;
            using (lease)
                source[..n].CopyTo(lease.Span);
            source = source[n..];
            gpa += (ulong)n;
        }

        return true;
    }

    /// <summary>Reads a value; false where there is no memory.</summary>
    public bool TryRead<T>(ulong gpa, out T value) where T : unmanaged
    {
        T v = default;
        bool ok = TryRead(gpa, new Span<byte>(&v, sizeof(T)));
        value = v;
        return ok;
    }

    public bool TryWrite<T>(ulong gpa, T value) where T : unmanaged => TryWrite(gpa, new ReadOnlySpan<byte>(&value, sizeof(T)));

    /// <summary>A new, independent consumer of dirty information (checkpoint, migration, display …); at most six at a time.</summary>
    public DirtyTracker CreateDirtyTracker(string name)
    {
        lock (_gate)
        {
            int bit = Enumerable.Range(2, 6).FirstOrDefault(b => _trackers.All(t => t.Bit != b), -1);
            if (bit < 0)
                throw new InvalidOperationException($"Six consumers track dirty memory already; '{name}' cannot be added. Dispose one first.");
            var tracker = new DirtyTracker(this, name, bit);
            _trackers.Add(tracker);
            return tracker;
        }
    }

    internal void Remove(DirtyTracker tracker)
    {
        lock (_gate)
            _trackers.Remove(tracker);
    }

    /// <summary>Harvests one tracker's marks of one slot; see <see cref="DirtyTracker.Harvest"/>.</summary>
    internal void Harvest(MemorySlot slot, int bit, Span<ulong> bitmap)
    {
        lock (_gate)
        {
            _partition?.CollectDirty(slot);
            byte mask = (byte)(1 << bit);
            for (ulong page = 0; page < slot.PageCount; page++)
            {
                byte* flags = slot.PageFlags + page;
                if ((Volatile.Read(ref *flags) & mask) == 0)
                    continue;
                MemorySlot.AtomicAnd(flags, (byte)~mask);
                bitmap[(int)(page >> 6)] |= 1ul << (int)(page & 63);
            }

            _partition?.RestartDirtyTracking(slot);
        }
    }

    internal void NoteWrite(MemorySlot slot, ulong offset, ulong length)
    {
        if (length == 0)
            return;
        for (ulong page = offset >> 12; page <= (offset + length - 1) >> 12; page++)
        {
            byte old = slot.MarkDirty(page);
            if ((old & MemorySlot.CodeFlag) != 0)
                _partition?.InvalidateCode(slot, page << 12, 4096);
        }
    }

    public void Dispose()
    {
        foreach (MemorySlot slot in Slots)
            slot.Dispose();
        _slots = [];
    }
}

/// <summary>One consumer's view of which pages changed since it last asked.</summary>
public sealed class DirtyTracker : IDisposable
{
    private readonly GuestMemory _memory;

    internal DirtyTracker(GuestMemory memory, string name, int bit) => (_memory, Name, Bit) = (memory, name, bit);

    public string Name { get; }

    internal int Bit { get; }

    /// <summary>
    /// Sets a bit in <paramref name="bitmap"/> ((PageCount+63)/64 words) for each page written since the last harvest, and forgets them. Content that is copied
    /// after the call includes every write whose mark was harvested. Safe while the guest runs.
    /// </summary>
    public void Harvest(MemorySlot slot, Span<ulong> bitmap) => _memory.Harvest(slot, Bit, bitmap);

    public void Dispose() => _memory.Remove(this);
}
