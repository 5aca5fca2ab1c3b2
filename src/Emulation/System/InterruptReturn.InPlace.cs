using VirtPS.Sdk.Rings;
using VirtPS.X86;

namespace VirtPS.Emulation;

// IRETQ to the ring, segments and mode that it is executed in. Linux serializes by it (sync_core): a hundred thousand times in a boot, while it rewrites its code for the processor that it finds. If both descriptors
// in memory are those that the last full return loaded, all that it checks and loads is what is there.
public sealed unsafe partial class SoftVcpu
{
    /// <summary>What the last full return within a ring loaded: both segments, and their descriptors as they are in the GDT.</summary>
    private struct LoadedPair
    {
        public SegmentRegister Code, Stack;
        public ulong CodeDescriptor, StackDescriptor;
    }

    private LoadedPair _returned;

    /// <summary>After a full IRETQ within a ring of 64-bit mode. Nothing is noted where a selector is of the LDT.</summary>
    private void NoteReturn()
    {
        if (_returned.Code == S->CS && _returned.Stack == S->SS)
            return;
        _returned = default;
        if (!TryPeekDescriptor(S->CS.Selector, out ulong code) || !TryPeekStackDescriptor(S->SS.Selector, out ulong stack))
            return;
        _returned = new LoadedPair { Code = S->CS, Stack = S->SS, CodeDescriptor = code, StackDescriptor = stack };
    }

    /// <summary>As <see cref="TryPeekDescriptor"/>; a null selector, which Linux has in SS until its first task switch, has no descriptor (0).</summary>
    private bool TryPeekStackDescriptor(ushort selector, out ulong descriptor)
    {
        descriptor = 0;
        return IsNull(selector) || TryPeekDescriptor(selector, out descriptor);
    }

    /// <summary>Reads a descriptor of the GDT if the TLB says where it is; faults and changes nothing.</summary>
    private bool TryPeekDescriptor(ushort selector, out ulong descriptor)
    {
        descriptor = 0;
        uint offset = selector & 0xFFF8u;
        if (offset == 0 || (selector & 4) != 0 || offset + 7 > S->Gdtr.Limit)
            return false;
        ulong linear = S->Gdtr.Base + offset;
        TlbEntry* e = Tlb.Entry(_views[ViewSupervisor].Entries, linear);
        if (!Tlb.Hit(e->ReadTag, linear, sizeof(ulong)))
            return false;
        descriptor = *(ulong*)(linear + e->Addend);
        return true;
    }

    /// <summary>Does an IRETQ that changes nothing but RIP, RSP, the status flags, DF and ID. False: it is another, and nothing was done.</summary>
    private bool TryReturnInPlace()
    {
        // N->Tlb is empty where accesses have to be looked at one by one: alignment checks, breakpoints.
        ulong sp = S->Gpr[(int)Gpr.Rsp];
        TlbEntry* e = Tlb.Entry(N->Tlb, sp);
        if (!In64BitMode || S->NmiBlocked || !Tlb.Hit(e->ReadTag, sp, 5 * sizeof(ulong)))
            return false;
        var frame = (ulong*)(sp + e->Addend);
        (ulong rip, ulong cs, ulong popped, ulong rsp, ulong ss) = (frame[0], frame[1], frame[2], frame[3], frame[4]);
        if ((ushort)cs != _returned.Code.Selector || (ushort)ss != _returned.Stack.Selector || ((int)cs & 3) != S->Cpl || S->CS != _returned.Code || S->SS != _returned.Stack
            || !TryPeekDescriptor((ushort)cs, out ulong code) || code != _returned.CodeDescriptor || !TryPeekStackDescriptor((ushort)ss, out ulong stack) || stack != _returned.StackDescriptor)
            return false;
        ulong old = GetFlags(), flags = MergeReturnFlags(popped, 8);
        if (((flags ^ old) & ~(Rflags.Status | Rflags.DF | Rflags.ID | Rflags.RF)) != 0 || (old & (Rflags.TF | Rflags.NT)) != 0 || !IsCanonical(rip))
            return false;
        RingMark from = MarkRing();
        S->Gpr[(int)Gpr.Rsp] = rsp;
        SetReturnFlags(flags);
        Jump(rip);
        RecordTransfer(from, RingCause.Iret, 0, 0);
        return true;
    }
}
