using Iced.Intel;
using VirtPS.Sdk.Cpu;
using VirtPS.X86;

namespace VirtPS.Emulation;

// Instructions on the system flags, with the virtual interrupt flag of VME and PVI (SDM Vol. 3A §20.3, §20.4).
internal static unsafe partial class SystemHandlers
{
    private static void RegisterFlags(HandlerTableBuilder b)
    {
        b.Register(Code.Cli, &Cli);
        b.Register(Code.Sti, &Sti);
        b.Register(Code.Stac, &Stac);
        b.Register(Code.Clac, &Clac);
        b.Register(Code.Pushfw, &Pushf<Word>);
        b.Register(Code.Pushfd, &Pushf<Dword>);
        b.Register(Code.Pushfq, &Pushf<Qword>);
        b.Register(Code.Popfw, &Popf<Word>);
        b.Register(Code.Popfd, &Popf<Dword>);
        b.Register(Code.Popfq, &Popf<Qword>);
    }

    /// <summary>CLI and STI act on VIF: in virtual-8086 mode with VME, in ring 3 with PVI, where IOPL &lt; 3.</summary>
    private static bool UsesVirtualInterruptFlag(SoftVcpu cpu) =>
        cpu.S->Cpl == 3 && cpu.Iopl < 3 && (cpu.S->Cr4 & (cpu.InVirtual8086 ? Cr4.VME : Cr4.PVI)) != 0;

    private static bool Cli(SoftVcpu cpu, Op* op)
    {
        if (!cpu.InProtectedMode || cpu.S->Cpl <= cpu.Iopl)
            cpu.S->Rflags &= ~Rflags.IF;
        else if (UsesVirtualInterruptFlag(cpu))
            cpu.S->Rflags &= ~Rflags.VIF;
        else
            return cpu.Raise(Vector.GP, 0);
        return true;
    }

    private static bool Sti(SoftVcpu cpu, Op* op)
    {
        if (!cpu.InProtectedMode || cpu.S->Cpl <= cpu.Iopl)
        {
            if ((cpu.S->Rflags & Rflags.IF) == 0)
            {
                cpu.S->Rflags |= Rflags.IF;
                HoldOffInterrupts(cpu, InterruptShadow.Sti);
            }

            return true;
        }

        if (!UsesVirtualInterruptFlag(cpu) || (cpu.S->Rflags & Rflags.VIP) != 0)
            return cpu.Raise(Vector.GP, 0);
        cpu.S->Rflags |= Rflags.VIF;
        return true;
    }

    private static bool Stac(SoftVcpu cpu, Op* op) => SetAlignmentCheck(cpu, Rflags.AC);

    private static bool Clac(SoftVcpu cpu, Op* op) => SetAlignmentCheck(cpu, 0);

    private static bool SetAlignmentCheck(SoftVcpu cpu, ulong ac)
    {
        if (cpu.S->Cpl != 0 || (cpu.Cpuid(7, 0).Ebx & (1u << 20)) == 0)
            return cpu.Raise(Vector.UD);
        if ((cpu.S->Rflags & Rflags.AC) == ac)
            return true;
        cpu.S->Rflags ^= Rflags.AC;
        cpu.ModeChanged();
        return true;
    }

    private static bool Pushf<TSize>(SoftVcpu cpu, Op* op) where TSize : ISize
    {
        ulong image = cpu.GetFlags() & ~(Rflags.RF | Rflags.VM);
        if (cpu.InVirtual8086 && cpu.Iopl < 3)
        {
            if ((cpu.S->Cr4 & Cr4.VME) == 0 || TSize.Bytes != 2)
                return cpu.Raise(Vector.GP, 0);
            image = (image & ~Rflags.IF) | Rflags.IoplMask | ((image & Rflags.VIF) != 0 ? Rflags.IF : 0);
        }

        return cpu.PushValue(TSize.Bytes, image);
    }

    private static bool Popf<TSize>(SoftVcpu cpu, Op* op) where TSize : ISize
    {
        bool extended = cpu.InVirtual8086 && cpu.Iopl < 3;
        if (extended && ((cpu.S->Cr4 & Cr4.VME) == 0 || TSize.Bytes != 2))
            return cpu.Raise(Vector.GP, 0);
        return cpu.PopFlags(TSize.Bytes, extended);
    }
}

public sealed unsafe partial class SoftVcpu
{
    /// <summary>POPF. <paramref name="extended"/>: virtual-8086 mode with VME and IOPL &lt; 3, where IF means VIF.</summary>
    internal bool PopFlags(int size, bool extended)
    {
        StackCursor stack = CurrentStack();
        if (!Pop(ref stack, size, out ulong popped))
            return false;
        ulong old = GetFlags();
        ulong mask = Rflags.Status | Rflags.TF | Rflags.DF | Rflags.NT;
        if (size >= 4)
            mask |= Rflags.AC | Rflags.ID;
        bool real = !InProtectedMode;
        if (real || S->Cpl == 0)
            mask |= Rflags.IoplMask;
        if (!extended && (real || S->Cpl <= Iopl))
            mask |= Rflags.IF;
        ulong flags = ((old & ~mask) | (popped & mask)) & ~Rflags.RF;
        if (extended)
        {
            if ((popped & Rflags.TF) != 0 || ((popped & Rflags.IF) != 0 && (old & Rflags.VIP) != 0))
                return Raise(Vector.GP, 0);
            flags = (popped & Rflags.IF) != 0 ? flags | Rflags.VIF : flags & ~Rflags.VIF;
        }

        CommitStackPointer(stack);
        SetFlags(flags);
        if (((old ^ flags) & Rflags.AC) != 0)
            ModeChanged();
        LeaveBlock();
        return true;
    }

    /// <summary>INT n. In virtual-8086 mode IOPL and VME's redirection bitmap decide (SDM Vol. 3A table 20-2).</summary>
    internal bool SoftwareInterrupt(byte vector, ulong next)
    {
        if (InVirtual8086)
        {
            bool redirect = false;
            if ((S->Cr4 & Cr4.VME) != 0 && !ReadRedirection(vector, out redirect))
                return false;
            if (redirect)
                return DeliverVirtual8086(vector, next);
            if (Iopl < 3)
                return Raise(Vector.GP, 0);
        }

        return DeliverSoftware(vector, EventKind.SoftwareInterrupt, next);
    }

    /// <summary>The 32 bytes below the I/O bitmap: a clear bit sends INT n to the program's own vector table (SDM Vol. 3A figure 20-5).</summary>
    private bool ReadRedirection(byte vector, out bool redirect)
    {
        redirect = false;
        if (S->TR.Limit < 103)
            return Raise(Vector.GP, 0);
        if (!LoadTss(0x66, 2, out uint map))
            return false;
        uint at = map - 32 + vector / 8u;
        if (map < 32 || at > S->TR.Limit)
            return Raise(Vector.GP, 0);
        if (!LoadLinear(WrapLinear(S->TR.Base + at), supervisor: true, out byte bits))
            return false;
        redirect = (bits >> (vector & 7) & 1) == 0;
        return true;
    }

    /// <summary>INT n redirected to the vector table at linear address 0 of the virtual-8086 program.</summary>
    private bool DeliverVirtual8086(byte vector, ulong next)
    {
        if (!LoadLinear(vector * 4u, supervisor: false, out uint entry))
            return false;
        ulong flags = GetFlags();
        bool extended = Iopl < 3;
        ulong image = flags;
        if (extended)
            image = (image & ~Rflags.IF) | Rflags.IoplMask | ((flags & Rflags.VIF) != 0 ? Rflags.IF : 0);
        StackCursor stack = CurrentStack();
        if (!Push(ref stack, 2, image) || !Push(ref stack, 2, S->CS.Selector) || !Push(ref stack, 2, next))
            return false;
        RingMark from = MarkRing();
        CommitStackPointer(stack);
        SetFlags(flags & ~(Rflags.TF | Rflags.NT | Rflags.RF | (extended ? Rflags.VIF : Rflags.IF)));
        S->CS = Virtual8086Segment((ushort)(entry >> 16));
        ModeChanged();
        SetRip(entry & 0xFFFF);
        RecordTransfer(from, Sdk.Rings.RingCause.SoftwareInterrupt, vector, S->Gpr[(int)Gpr.Rax]);
        return true;
    }
}
