using VirtPS.Strategy.Para.Mmu;

namespace VirtPS.Strategy.Para;

// memory_op: what memory there is, and giving some back (ballooning).
internal sealed unsafe partial class XenVcpu
{
    private const int ReservationBatch = 512;
    private const ulong NoFrameNumber = 0x5555_5555_5555_5555;

    private long MemoryOperation(ulong* a)
    {
        // The command's upper bits say where a continued call goes on; we change the list itself.
        const uint decrease = 1, maximumPage = 2, current = 3, maximum = 4, populate = 6, memoryMap = 9, machineToPhysical = 12;
        switch (a[0])
        {
            case decrease or populate:
                return ChangeReservation(a, a[0] == populate);
            case maximumPage:
                return (long)Domain.Frames.RamFrames - 1;
            case current:
                return (long)Domain.Frames.OwnedFrames;
            case maximum:
                return (long)Domain.Frames.RamFrames;
            case memoryMap:
                return MemoryMap(a[1]);
            case machineToPhysical:
                ulong* m = stackalloc ulong[3];
                (m[0], m[1], m[2]) = (XenArea.M2PAddress, XenArea.M2PAddress + (Domain.Frames.RamFrames * 8 + 4095 & ~4095ul), Domain.Frames.RamFrames - 1);
                return CopyTo(a[1], m, 24) ? 0 : Errno.EFAULT;
            default:
                return Errno.ENOSYS;
        }
    }

    /// <summary>struct xen_memory_map: room for entries of 20 bytes, filled with one that is all RAM.</summary>
    private long MemoryMap(ulong argument)
    {
        ulong* a = stackalloc ulong[2];
        if (!CopyFrom(argument, a, 16))
            return Errno.EFAULT;
        if ((uint)a[0] < 1)
            return Errno.EINVAL;
        byte* entry = stackalloc byte[20];
        *(ulong*)entry = 0;
        *(ulong*)(entry + 8) = Domain.Frames.RamFrames << 12;
        *(uint*)(entry + 16) = 1;
        return CopyTo(a[1], entry, 20) && Write(argument, 1u) ? 0 : Errno.EFAULT;
    }

    /// <summary>struct xen_memory_reservation: list, number, order, flags, domain. Returns how many single frames were served; larger extents are not there.</summary>
    private long ChangeReservation(ulong* a, bool populate)
    {
        ulong* r = stackalloc ulong[4];
        if (!CopyFrom(a[1], r, 32))
            return Errno.EFAULT;
        if (!IsSelf((ushort)r[3]) || (uint)r[2] != 0)
            return 0;
        long done = 0;
        using MmuHold hold = Domain.EnterMmu(Cpu);
        // One batch; the guest asks again for what is missing.
        long count = (long)Math.Min(r[1], ReservationBatch);
        bool removed = false;
        for (; done < count; done++)
        {
            ulong at = r[0] + (ulong)done * 8;
            if (!Read(at, out ulong frame) || !(populate ? GiveFrame(at, frame) : TakeFrame(frame)))
                break;
            removed |= !populate;
        }

        if (removed)
        {
            Cpu.FlushTranslations();
            Cpu.FlushOthers(AllVcpus);
        }

        return done;
    }

    private bool TakeFrame(ulong mfn)
    {
        if (!Domain.Frames.TryRelease(mfn))
            return false;
        Domain.Area.M2P[mfn] = NoFrameNumber;
        return true;
    }

    private bool GiveFrame(ulong at, ulong pfn)
    {
        if (!Domain.Frames.TryAllocate(Domain.Memory, out ulong mfn))
            return false;
        Domain.Area.M2P[mfn] = pfn;
        return Write(at, mfn);
    }
}
