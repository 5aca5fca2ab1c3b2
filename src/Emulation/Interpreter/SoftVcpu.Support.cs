using VirtPS.X86;

namespace VirtPS.Emulation;

// Small services for the instruction handlers.
public sealed unsafe partial class SoftVcpu
{
    private int _pauses;

    /// <summary>What an exchanging instruction found in its destination.</summary>
    internal ulong Exchanged;

    /// <summary>Width of the stack pointer as a mask.</summary>
    internal ulong StackAddressMask => N->RipMask == ulong.MaxValue ? ulong.MaxValue : S->SS.IsDefault32 ? 0xFFFF_FFFF : 0xFFFF;

    /// <summary>A request waits that the present instruction should make way for.</summary>
    internal bool WantsBoundary => (Volatile.Read(ref S->Requests) & N->RequestMask) != 0 || N->Leave != 0;

    /// <summary>PAUSE: now and then gives the host processor to another vCPU's thread.</summary>
    internal void SpinHint()
    {
        if (Partition.Vcpus.Length == 1 || (++_pauses & 15) != 0)
            return;
        int before = EnterHost();
        Thread.Yield();
        LeaveHost(before);
    }

    /// <summary>Bytes of a string operation that all lie in one page of memory; null when they do not, or the access would fault.</summary>
    internal byte* BatchSource(SegmentName seg, ulong offset, int bytes)
    {
        if (!Linear(seg, offset, bytes, write: false, out ulong linear))
            return null;
        TlbEntry* e = Tlb.Entry(N->Tlb, linear);
        if (!Tlb.Hit(e->ReadTag, linear, bytes))
        {
            // Finding the page must not read it: it may be a device's.
            if ((linear & 0xFFF) + (ulong)bytes > 0x1000 || !CheckLinear(linear, 1, _view, seg, write: false) || !ReadTarget(linear, _view, out _)
                || !Tlb.Hit(e->ReadTag, linear, bytes))
                return null;
        }

        return (byte*)(linear + e->Addend);
    }

    internal byte* BatchDestination(SegmentName seg, ulong offset, int bytes) =>
        Linear(seg, offset, bytes, write: true, out ulong linear) ? WritePointer(linear, seg, bytes, out _) : null;
}
