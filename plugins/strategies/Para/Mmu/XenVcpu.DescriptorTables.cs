using VirtPS.Sdk.Cpu;
using VirtPS.Strategy.Para.Mmu;
using VirtPS.X86;

namespace VirtPS.Strategy.Para;

// The global and local descriptor tables: pages of the guest, read-only to it, shown to the processor in the VMM's area.
internal sealed unsafe partial class XenVcpu
{
    private const ulong NoFrame = ulong.MaxValue;

    private readonly ulong[] _gdtFrames = new ulong[XenArea.GuestDescriptorPages];
    private readonly ulong[] _ldtFrames = new ulong[XenArea.TablePages];

    /// <summary>Frames of its descriptor tables.</summary>
    public IEnumerable<ulong> DescriptorFrames => _gdtFrames.Concat(_ldtFrames).Where(f => f != NoFrame);

    private void ResetDescriptorTables()
    {
        Array.Fill(_gdtFrames, NoFrame);
        Array.Fill(_ldtFrames, NoFrame);
    }

    /// <summary>set_gdt(frames, entries).</summary>
    private long SetGlobalTable(ulong list, ulong entries)
    {
        if (entries > XenArea.GuestDescriptorPages * 512)
            return Errno.EINVAL;
        int pages = ((int)entries + 511) / 512;
        ulong* frames = stackalloc ulong[XenArea.GuestDescriptorPages];
        if (!CopyFrom(list, frames, pages * 8))
            return Errno.EFAULT;
        using MmuHold hold = Domain.EnterMmu(Cpu);
        Domain.Types.Budget = TableBudget;
        return ReplacePages(_gdtFrames, XenArea.GlobalTable(Index), frames, pages);
    }

    /// <summary>MMUEXT_SET_LDT(address, entries): pages of the kernel's address space.</summary>
    private long SetLocalTable(ulong linear, ulong entries)
    {
        if (entries > 8192 || (linear & 0xFFF) != 0)
            return Errno.EINVAL;
        int pages = ((int)entries + 511) / 512;
        ulong* frames = stackalloc ulong[XenArea.TablePages];
        for (int i = 0; i < pages; i++)
        {
            if (!FindLeaf(linear + ((ulong)i << 12), out ulong table, out int index))
                return Errno.EINVAL;
            ulong entry = ((ulong*)Domain.Frames.Pointer(table))[index];
            if ((entry & PageBits.P) == 0)
                return Errno.EINVAL;
            frames[i] = (entry & PageTypes.FrameMask) >> 12;
        }

        long result = ReplacePages(_ldtFrames, XenArea.LocalTable(Index), frames, pages);
        if (result == 0)
            LoadLocalTable(_state, (int)entries);
        return result;
    }

    private void LoadLocalTable(VcpuState* s, int entries)
    {
        s->LDTR = entries == 0
            ? new SegmentRegister(0, 0, 0, SegmentRegister.Unusable | SystemType.Ldt)
            : new SegmentRegister(0xE008, XenArea.LocalTable(Index), (uint)(entries * 8) - 1, SegmentRegister.P | SystemType.Ldt);
        _effect |= SupervisorEffect.Mode;
    }

    /// <summary>Takes the new pages first: what is refused leaves the table as it was.</summary>
    private long ReplacePages(ulong[] current, ulong address, ulong* frames, int count)
    {
        for (int i = 0; i < count; i++)
        {
            if (Domain.Types.Get(Cpu, frames[i], FrameType.Descriptors) == 0)
                continue;
            while (i-- > 0)
                Domain.Types.Put(frames[i]);
            return Errno.EINVAL;
        }

        for (int i = 0; i < current.Length; i++)
        {
            ulong old = current[i];
            current[i] = i < count ? frames[i] : NoFrame;
            if (old == NoFrame && i >= count)
                continue;
            Domain.Area.MapDescriptors(address, i, i < count ? frames[i] : null);
            Cpu.FlushTranslation(address + ((ulong)i << 12));
            if (old != NoFrame)
                Domain.Types.Put(old);
        }

        return 0;
    }

    /// <summary>update_descriptor(machine address, descriptor).</summary>
    private long UpdateDescriptor(ulong machine, ulong descriptor)
    {
        ulong mfn = machine >> 12;
        if ((machine & 7) != 0 || !Domain.Frames.IsRam(mfn) || !Descriptor.TryAdjust(descriptor, out ulong adjusted))
            return Errno.EINVAL;
        using MmuHold hold = Domain.EnterMmu(Cpu);
        Frame* f = Domain.Frames.Find(mfn);
        if (f == null)
            return Errno.EINVAL;
        FrameType type = f->TypeCount != 0 && f->Type == FrameType.Descriptors ? FrameType.Descriptors : FrameType.Writable;
        if (Domain.Types.Get(Cpu, mfn, type) != 0)
            return Errno.EINVAL;
        Domain.Frames.NoteWrite(Domain.Memory, mfn);
        Volatile.Write(ref *(ulong*)(Domain.Frames.Pointer(mfn) + (machine & 0xFFF)), adjusted);
        return Domain.Types.Put(mfn);
    }
}
