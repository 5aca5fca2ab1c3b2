using System.Runtime.InteropServices;
using VirtPS.Sdk;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Interrupts;
using VirtPS.Sdk.Memory;

namespace VirtPS.Emulation;

/// <summary>What the interpreters of a partition know together about one guest page.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct PageInfo
{
    /// <summary>Changes whenever code decoded from the page may have become wrong. Read by all, changed under <see cref="SoftPartition.CodeLock"/>.</summary>
    public uint Generation;

    /// <summary>One bit per vCPU (index modulo 32) that may hold a host pointer for writing the page.</summary>
    public uint Writers;

    /// <summary>One bit per 64 bytes: code was decoded from there. Under the lock.</summary>
    public ulong Coverage;
}

/// <summary>A memory slot as the software MMU sees it. Immutable; its page table lives until the partition is disposed.</summary>
internal sealed unsafe class MappedSlot
{
    public readonly MemorySlot Slot;
    public readonly ulong Gpa, Size;
    public readonly byte* Host;
    public readonly byte* Flags;
    public readonly PageInfo* Pages;
    public readonly bool ReadOnly;

    /// <summary>Null where nobody populates memory ahead.</summary>
    public readonly MemoryAhead.Region? Ahead;

    public MappedSlot(MemorySlot slot, MemoryAhead? ahead)
    {
        (Slot, Gpa, Size, ReadOnly) = (slot, slot.Gpa, slot.Size, slot.ReadOnly);
        Host = slot.Address;
        Flags = slot.PageFlags;
        // SAFETY: freed by the partition when no vCPU exists any more.
        Pages = (PageInfo*)NativeMemory.AllocZeroed((nuint)slot.PageCount, (nuint)sizeof(PageInfo));
        if (!ReadOnly)
            Ahead = ahead?.Add(Host, Size, inOrder: false);
    }
}

/// <summary>One guest's memory map and vCPUs, in software.</summary>
public sealed unsafe class SoftPartition : IPartition
{
    private readonly Lock _gate = new();
    private readonly List<MappedSlot> _everMapped = [];
    private MappedSlot[] _slots = [];
    private SoftVcpu[] _vcpus = [];
    private bool _held;

    internal SoftPartition(PartitionOptions options, EngineOptions engine)
    {
        if (engine.LockStep && options.VcpuCount != 1)
            throw new VirtException("StrategyOptionInvalid", $"lockstep=true needs a VM of one vCPU; this one has {options.VcpuCount}: the others would write memory between the two executions.", "Use -ProcessorCount 1, or leave lockstep out.", "lockstep");
        Options = options;
        Engine = engine;
        DecodingTables.BeginMaking();
        if (engine.StoreFolder is { } folder && engine.Translate && EngineOptions.CanTranslate)
            Store = new TranslationStore(folder, engine, options.Log);
    }

    internal EngineOptions Engine { get; }

    /// <summary>Blocks of former runs; null: none are kept.</summary>
    internal TranslationStore? Store { get; }

    /// <summary>Null: memory gets its pages when it is touched.</summary>
    internal MemoryAhead? Ahead { get; } = MemoryAhead.TryCreate();

    public PartitionOptions Options { get; }

    public IPartitionInterruptController? InterruptController => null;

    /// <summary>Serialises what changes <see cref="PageInfo"/> and the code flag of pages. Held for some tens of nanoseconds.</summary>
    internal Lock CodeLock { get; } = new();

    /// <summary>vCPUs that wait for writers of a page to let go; under <see cref="CodeLock"/>.</summary>
    internal int WaitingForWriters { get; set; }

    /// <summary>Held by the vCPU that has stopped the others; see <see cref="SoftVcpu.BeginExclusive"/>.</summary>
    internal object ExclusiveGate { get; } = new();

    internal bool Held
    {
        get => Volatile.Read(ref _held);
        set => Volatile.Write(ref _held, value);
    }

    /// <summary>The slots now; ascending order is not promised.</summary>
    internal MappedSlot[] Slots => Volatile.Read(ref _slots);

    internal SoftVcpu[] Vcpus => Volatile.Read(ref _vcpus);

    internal MappedSlot? Find(ulong gpa)
    {
        foreach (MappedSlot s in Volatile.Read(ref _slots))
        {
            if (gpa - s.Gpa < s.Size)
                return s;
        }

        return null;
    }

    public void MapMemory(MemorySlot slot)
    {
        lock (_gate)
        {
            var mapped = new MappedSlot(slot, Ahead);
            _everMapped.Add(mapped);
            Volatile.Write(ref _slots, [.. _slots.Append(mapped).OrderByDescending(s => s.Size)]);
        }

        FlushAll(SoftVcpu.RequestFlushTlb);
    }

    public void UnmapMemory(MemorySlot slot)
    {
        MappedSlot? mapped;
        lock (_gate)
        {
            mapped = Array.Find(_slots, s => s.Slot == slot);
            Volatile.Write(ref _slots, [.. _slots.Where(s => s.Slot != slot)]);
        }

        if (mapped is not null)
        {
            InvalidateCode(mapped, 0, mapped.Size);
            mapped.Ahead?.Stop();
        }

        FlushAll(SoftVcpu.RequestFlushTlb);
    }

    public void RestartDirtyTracking(MemorySlot slot) => FlushAll(SoftVcpu.RequestFlushWrites);

    /// <summary>The interpreter marks as it writes; nothing to collect.</summary>
    public void CollectDirty(MemorySlot slot)
    {
    }

    public void InvalidateCode(MemorySlot slot, ulong offset, ulong length)
    {
        foreach (MappedSlot s in Slots)
        {
            if (s.Slot == slot)
                InvalidateCode(s, offset, length);
        }
    }

    /// <summary>Makes all code decoded from the range invalid and lets the pages have write tags again.</summary>
    internal void InvalidateCode(MappedSlot slot, ulong offset, ulong length)
    {
        lock (CodeLock)
        {
            for (ulong page = offset >> 12; page <= (offset + length - 1) >> 12; page++)
            {
                if ((slot.Flags[page] & MemorySlot.CodeFlag) == 0)
                    continue;
                PageInfo* info = slot.Pages + page;
                Volatile.Write(ref info->Generation, info->Generation + 1);
                info->Coverage = 0;
                MemorySlot.AtomicAnd(slot.Flags + page, unchecked((byte)~MemorySlot.CodeFlag));
                foreach (SoftVcpu v in Vcpus)
                    v.NoteStaleCode(slot.Gpa + (page << 12));
            }
        }
    }

    /// <summary>Asks every vCPU to drop translations and waits until none that runs can use an old one.</summary>
    internal void FlushAll(uint request)
    {
        foreach (SoftVcpu v in Vcpus)
            v.RequestFlush(request);
        foreach (SoftVcpu v in Vcpus)
            v.WaitFlushed();
    }

    public IVcpu CreateVcpu(int index, IVcpuHost host)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(index);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(index, Options.VcpuCount);
        lock (_gate)
        {
            if (Array.Exists(_vcpus, v => v.Index == index))
                throw new ArgumentException($"vCPU {index} exists already.", nameof(index));
            var vcpu = new SoftVcpu(this, index, host);
            Volatile.Write(ref _vcpus, [.. _vcpus, vcpu]);
            return vcpu;
        }
    }

    internal void Remove(SoftVcpu vcpu)
    {
        lock (_gate)
            Volatile.Write(ref _vcpus, [.. _vcpus.Where(v => v != vcpu)]);
    }

    /// <summary>What was decoded and translated is put on disk for the next run.</summary>
    public void Finish()
    {
        if (Store is null)
            return;
        foreach (SoftVcpu v in Vcpus)
            v.KeepBlocks(Store);
        Store.Save();
    }

    /// <summary>Disposes the vCPUs that still exist; none may be running.</summary>
    public void Dispose()
    {
        Ahead?.Dispose();
        foreach (SoftVcpu v in Vcpus)
            v.Dispose();
        Store?.Dispose();
        lock (_gate)
        {
            _slots = [];
            foreach (MappedSlot s in _everMapped)
                NativeMemory.Free(s.Pages);
            _everMapped.Clear();
        }
    }
}
