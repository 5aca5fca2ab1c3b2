using VirtPS.Sdk.Cpu;
using VirtPS.Strategy.Para.Mmu;
using VirtPS.X86;

namespace VirtPS.Strategy.Para;

// mmuext_op: pins, roots, flushes, local descriptor tables (struct mmuext_op, 24 bytes: command, argument, argument).
internal sealed unsafe partial class XenVcpu
{
    private readonly TableWrite _tableWrite = new();

    private long ExtendedOperations(ulong* a) => ServeList(a, 24, &ServeExtended);

    private static long ServeExtended(XenVcpu v, ulong* op)
    {
        const uint pinL1 = 0, pinL4 = 3, unpin = 4, newRoot = 5, flushLocal = 6, flushPageLocal = 7, flushMulti = 8, flushPageMulti = 9, flushAll = 10, flushPageAll = 11, flushCache = 12,
            setLdt = 13, newUserRoot = 15, clearPage = 16, copyPage = 17, flushCacheGlobal = 18;
        uint command = (uint)op[0];
        ulong mfn = op[1];
        switch (command)
        {
            case >= pinL1 and <= pinL4:
                return v.Pin(mfn, (FrameType)(command + 1));
            case unpin:
                return v.Unpin(mfn);
            case newRoot:
                return v.SetKernelRootLocked(v._state, mfn);
            case newUserRoot:
                return v.SetUserRoot(mfn);
            case flushLocal:
                v.Flush(1ul << v.Index, null);
                return 0;
            case flushPageLocal:
                v.Flush(1ul << v.Index, op[1]);
                return 0;
            case flushMulti or flushPageMulti:
                if (!v.Read(op[2], out ulong vcpus))
                    return Errno.EFAULT;
                v.Flush(vcpus, command == flushMulti ? null : op[1]);
                return 0;
            case flushAll or flushPageAll:
                v.Flush(v.AllVcpus, command == flushAll ? null : op[1]);
                return 0;
            case flushCache or flushCacheGlobal:
                return 0;
            case setLdt:
                return v.SetLocalTable(op[1], op[2]);
            case clearPage or copyPage:
                return v.FillPage(mfn, command == copyPage ? op[2] : null);
            default:
                return Errno.ENOSYS;
        }
    }

    private long Pin(ulong mfn, FrameType type)
    {
        Frame* f = Domain.Frames.Find(mfn);
        if (f == null || (f->Pinned && f->TypeCount != 0))
            return Errno.EINVAL;
        long error = Domain.Types.Get(Cpu, mfn, type);
        if (error == 0)
            f->Pinned = true;
        return error;
    }

    private long Unpin(ulong mfn)
    {
        Frame* f = Domain.Frames.Find(mfn);
        if (f == null || !f->Pinned)
            return Errno.EINVAL;
        f->Pinned = false;
        return Release(mfn);
    }

    /// <summary>MOV to CR3, which is emulated.</summary>
    private long SetKernelRoot(VcpuState* s, ulong mfn)
    {
        using MmuHold hold = Domain.EnterMmu(Cpu);
        Domain.Types.Budget = int.MaxValue;
        return SetKernelRootLocked(s, mfn);
    }

    private long SetKernelRootLocked(VcpuState* s, ulong mfn)
    {
        ulong old = KernelRoot;
        if (old != mfn)
        {
            long error = Domain.Types.Get(Cpu, mfn, FrameType.L4);
            if (error != 0)
                return error;
            KernelRoot = mfn;
            s->Cr3 = mfn << 12;
            _effect |= SupervisorEffect.Mode;
        }

        DropForRoot(old, mfn);
        return old != mfn ? Release(old) : 0;
    }

    /// <summary>
    /// Another kernel root: all translations go, but where both have the same upper half, and nothing in it has changed since all was dropped last, those of the upper half would only be found
    /// again as they are.
    /// </summary>
    private void DropForRoot(ulong old, ulong now)
    {
        if (_flushedAt == Volatile.Read(ref Domain.Types.UpperChanges) && HaveSameUpperHalf(old, now))
            DropLowerHalf();
        else
            FlushAll(sameRoot: false);
    }

    private void DropLowerHalf()
    {
        _programRan = false;
        Cpu.FlushLowerHalf();
    }

    private bool HaveSameUpperHalf(ulong one, ulong other)
    {
        const int first = XenArea.FirstSlot + XenArea.SlotCount, count = 512 - first;
        ulong* a = (ulong*)Domain.Frames.Pointer(one) + first, b = (ulong*)Domain.Frames.Pointer(other) + first;
        if (new ReadOnlySpan<ulong>(a, count).SequenceEqual(new ReadOnlySpan<ulong>(b, count)))
            return true;
        // The processor sets accessed bits in each for itself.
        for (int i = 0; i < count; i++)
        {
            if (((a[i] ^ b[i]) & ~(PageBits.A | PageBits.D)) != 0)
                return false;
        }

        return true;
    }

    /// <summary>The table under which programs run; 0 for none.</summary>
    private long SetUserRoot(ulong mfn)
    {
        ulong old = UserRoot;
        if (old == mfn)
            return 0;
        if (mfn != 0)
        {
            long error = Domain.Types.Get(Cpu, mfn, FrameType.L4);
            if (error != 0)
                return error;
        }

        UserRoot = mfn;
        // Translations of programs are made while programs run: a switch of both roots drops them once.
        if (_programRan)
            DropLowerHalf();
        return old != 0 ? Release(old) : 0;
    }

    private long FillPage(ulong mfn, ulong? source)
    {
        FrameTable frames = Domain.Frames;
        if (!frames.IsRam(mfn) || (source is { } from && (!frames.IsRam(from) || frames.Find(from) == null)))
            return Errno.EINVAL;
        long error = Domain.Types.Get(Cpu, mfn, FrameType.Writable);
        if (error != 0)
            return error;
        frames.NoteWrite(Domain.Memory, mfn);
        var page = new Span<byte>(frames.Pointer(mfn), XenAbi.PageSize);
        if (source is { } s)
            new ReadOnlySpan<byte>(frames.Pointer(s), XenAbi.PageSize).CopyTo(page);
        else
            page.Clear();
        frames.NoteWrite(Domain.Memory, mfn);
        return Domain.Types.Put(mfn);
    }
}
