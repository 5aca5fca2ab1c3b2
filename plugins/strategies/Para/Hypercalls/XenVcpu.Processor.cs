using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Rings;
using VirtPS.Strategy.Para.Boot;
using VirtPS.Strategy.Para.Mmu;
using VirtPS.X86;

namespace VirtPS.Strategy.Para;

// Hypercalls on the processor's own state: traps, stacks, segment bases, debug registers, IRET.
internal sealed unsafe partial class XenVcpu
{
    private readonly ulong[] _debug = new ulong[8];

    /// <summary>trap_info: vector, flags, selector, padding, address; ends with address 0. A null pointer clears.</summary>
    private long SetTrapTable(ulong list)
    {
        if (list == 0)
        {
            _traps.AsSpan().Clear();
            return 0;
        }

        ulong* entry = stackalloc ulong[2];
        for (int i = 0; i < 257; i++, list += 16)
        {
            if (!CopyFrom(list, entry, 16))
                return Errno.EFAULT;
            if (entry[1] == 0)
                return 0;
            if (!IsCanonical(entry[1]))
                return Errno.EINVAL;
            _traps[(byte)entry[0]] = new TrapEntry { Flags = (byte)((entry[0] >> 8) & 7), Selector = (ushort)(entry[0] >> 16), Address = entry[1] };
        }

        return Errno.EINVAL;
    }

    private long SwitchStack(ulong segment, ulong stack)
    {
        (_kernelStackSegment, _kernelStack) = ((ushort)(segment | 3), stack);
        return 0;
    }

    private long SetTaskSwitched(ulong set)
    {
        _state->Cr0 = set != 0 ? _state->Cr0 | Cr0.TS : _state->Cr0 & ~Cr0.TS;
        _effect |= SupervisorEffect.Mode;
        return 0;
    }

    private bool GetDebugRegister(VcpuState* s, int register, out ulong value)
    {
        value = register is < 0 or > 7 or 4 or 5 ? 0 : register == 6 ? s->Dr6 : _debug[register];
        return register is >= 0 and <= 3 or 6 or 7;
    }

    /// <summary>Breakpoints on the guest's own addresses only; no general detect (SDM Vol. 3B §17.2).</summary>
    private bool SetDebugRegister(VcpuState* s, int register, ulong value)
    {
        const ulong dr7Reserved = 0xD800, dr7Fixed = 0x400, generalDetect = 0x2000, dr6Fixed = 0xFFFF_0FF0, dr6Settable = 0xE00F;
        switch (register)
        {
            case >= 0 and <= 3:
                if (!IsCanonical(value) || value - XenArea.Start < 1ul << 43)
                    return false;
                (&s->Dr0)[register] = value;
                break;
            case 6:
                s->Dr6 = dr6Fixed | (value & dr6Settable);
                break;
            case 7:
                if (value >> 32 != 0 || (value & generalDetect) != 0)
                    return false;
                s->Dr7 = value = (value & ~dr7Reserved) | dr7Fixed;
                break;
            default:
                return false;
        }

        _debug[register] = value;
        _effect |= SupervisorEffect.Mode;
        return true;
    }

    private long SetSegmentBase(ulong which, ulong value)
    {
        VcpuState* s = _state;
        switch (which)
        {
            case 0 when IsCanonical(value):
                s->FS.Base = value;
                break;
            case 1 when IsCanonical(value):
                s->KernelGsBase = value;
                break;
            case 2 when IsCanonical(value):
                s->GS.Base = value;
                break;
            case 3:
                LoadUserGs(s, (ushort)value);
                break;
            default:
                return Errno.EINVAL;
        }

        _effect |= SupervisorEffect.Mode;
        return 0;
    }

    /// <summary>The program's GS selector: its base becomes the inactive one. A selector that cannot be loaded is null.</summary>
    private void LoadUserGs(VcpuState* s, ushort selector)
    {
        ulong active = s->GS.Base;
        if (!TryReadDescriptor(selector, out ulong d) || !IsDataOrReadableCode(d))
            (selector, d) = (0, 0);
        SegmentRegister loaded = d == 0 ? VcpuStart.Null((ushort)(selector & 3)) : SegmentRegister.FromDescriptor((ushort)(selector | 3), d);
        s->KernelGsBase = loaded.Base;
        loaded.Base = active;
        s->GS = loaded;
    }

    private static bool IsDataOrReadableCode(ulong d) => (d & (1ul << 47)) != 0 && (d & (1ul << 44)) != 0 && ((d & (1ul << 43)) == 0 || (d & (1ul << 41)) != 0);

    /// <summary>From the global or local table as the processor sees it. False for null selectors and what is not there.</summary>
    private bool TryReadDescriptor(ushort selector, out ulong descriptor)
    {
        descriptor = 0;
        if ((selector & 0xFFFC) == 0)
            return false;
        ulong table = XenArea.GlobalTable(Index);
        if ((selector & 4) != 0)
        {
            if (!_state->LDTR.IsUsable || (selector | 7u) > _state->LDTR.Limit)
                return false;
            table = XenArea.LocalTable(Index);
        }

        return Read(table + (selector & 0xFFF8u), out descriptor);
    }

    /// <summary>Return to a program or to the kernel itself: the frame on the kernel's stack is rax, r11, rcx, flags, rip, cs, rflags, rsp, ss (struct iret_context).</summary>
    private long Iret()
    {
        const ulong inSyscall = 0x100;
        VcpuState* s = _state;
        ulong* f = stackalloc ulong[9];
        ulong fromRip = s->Rip - 2;
        if (!CopyFrom(s->Gpr[(int)Gpr.Rsp], f, 72))
        {
            Crash(s, $"IRET frame at 0x{s->Gpr[(int)Gpr.Rsp]:X} cannot be read.");
            return 0;
        }

        _effect = SupervisorEffect.All;
        // Whatever happens next, an NMI handler has ended (xen/arch/x86/pv/iret.c).
        _inNmi = false;
        bool toUser = (f[5] & 3) == 3;
        if (toUser && UserRoot == 0)
        {
            Crash(s, "IRET to a program without page tables for it.");
            return 0;
        }

        // Segments first: what is refused leaves the kernel where it is.
        if (!TryLoadReturnSegments(f, out SegmentRegister cs, out SegmentRegister ss) || !IsCanonical(f[4]))
        {
            Failsafe(s, f);
            return 0;
        }

        s->Gpr[(int)Gpr.Rax] = f[0];
        if ((f[3] & inSyscall) == 0)
            (s->Gpr[(int)Gpr.R11], s->Gpr[(int)Gpr.Rcx]) = (f[1], f[2]);
        else
            (s->Gpr[(int)Gpr.R11], s->Gpr[(int)Gpr.Rcx]) = (f[6], f[4]);
        s->Rip = f[4];
        s->Gpr[(int)Gpr.Rsp] = f[7];
        (s->CS, s->SS) = (cs, ss);
        const ulong settable = Rflags.Status | Rflags.TF | Rflags.DF | Rflags.NT | Rflags.RF | Rflags.AC | Rflags.ID;
        s->Rflags = (f[6] & settable) | Rflags.IF | Rflags.Fixed1;
        Info->UpcallMask = (f[6] & Rflags.IF) == 0 ? (byte)1 : (byte)0;
        if (toUser)
        {
            SwitchTo(s, kernel: false);
            Cpu.RecordTransfer(fromRip, 0, RingCause.Iret, 0, 0);
        }

        return 0;
    }

    private bool TryLoadReturnSegments(ulong* f, out SegmentRegister cs, out SegmentRegister ss)
    {
        const ulong present = 1ul << 47, code = 3ul << 43, writable = 1ul << 41, longMode = 1ul << 53;
        cs = ss = default;
        if (!TryReadDescriptor((ushort)f[5], out ulong d) || (d & (present | code)) != (present | code))
            return false;
        cs = SegmentRegister.FromDescriptor((ushort)(f[5] | 3), d);
        ushort stack = (ushort)f[8];
        if ((stack & 0xFFFC) == 0)
        {
            // The hardware would refuse a null stack segment in ring 3; Xen's guests have it where their kernel's is: take the flat one.
            ss = VcpuStart.FlatData;
            return (d & longMode) != 0;
        }

        if (!TryReadDescriptor(stack, out ulong sd) || (sd & (present | code | writable)) != (present | 1ul << 44 | writable))
            return false;
        ss = SegmentRegister.FromDescriptor((ushort)(stack | 3), sd);
        return true;
    }

    /// <summary>The return could not be made: the failsafe callback gets the frame and the data segments (public/arch-x86/xen.h).</summary>
    private void Failsafe(VcpuState* s, ulong* f)
    {
        TrapEntry entry = _callbacks[FailsafeCallback];
        if (entry.Address == 0)
        {
            Crash(s, $"IRET to CS 0x{f[5]:X}, RIP 0x{f[4]:X}, SS 0x{f[8]:X} is not possible.");
            return;
        }

        ulong* frame = stackalloc ulong[11];
        bool toUser = (f[5] & 3) == 3;
        (frame[0], frame[1]) = (f[2], f[1]);
        (frame[2], frame[3], frame[4], frame[5]) = (s->DS.Selector, s->ES.Selector, s->FS.Selector, s->GS.Selector);
        byte mask = (f[6] & Rflags.IF) == 0 ? (byte)1 : (byte)0;
        // The frame shows the state that could not be entered, as if the processor had failed to return to it.
        ulong selector = toUser ? (f[5] & 0xFFFF) | 3 : f[5] & 0xFFFC;
        (frame[6], frame[7], frame[8], frame[9], frame[10]) = (f[4], selector | (ulong)mask << 32, f[6], f[7], f[8]);
        ulong rsp = ((toUser ? _kernelStack : f[7]) & ~0xFul) - 88;
        if (!CopyTo(rsp, frame, 88))
        {
            Crash(s, $"the kernel's stack at 0x{rsp:X} cannot be written.");
            return;
        }

        s->Gpr[(int)Gpr.Rax] = f[0];
        (s->Gpr[(int)Gpr.R11], s->Gpr[(int)Gpr.Rcx]) = (f[1], f[2]);
        Info->UpcallMask = (entry.Flags & MaskEvents) != 0 ? (byte)1 : mask;
        s->Gpr[(int)Gpr.Rsp] = rsp;
        s->Rip = entry.Address;
        (s->CS, s->SS) = (VcpuStart.FlatCode, VcpuStart.FlatData);
        s->Rflags = (s->Rflags & ~(Rflags.TF | Rflags.NT | Rflags.RF | Rflags.VM | Rflags.AC)) | Rflags.IF;
    }

    /// <summary>callback_op: registers or removes an entry of the kernel's.</summary>
    private long CallbackOperation(ulong command, ulong argument)
    {
        ulong* a = stackalloc ulong[2];
        if (command > 1)
            return Errno.ENOSYS;
        if (!CopyFrom(argument, a, command == 0 ? 16 : 2))
            return Errno.EFAULT;
        int type = (ushort)a[0];
        if (type is not (EventCallback or FailsafeCallback or SyscallCallback or NmiCallback or SysenterCallback or Syscall32Callback))
            return Errno.ENOSYS;
        // The NMI callback is the entry of vector 2 in the trap table; it alone can be taken away again.
        if (command == 1)
        {
            if (type != NmiCallback)
                return Errno.EINVAL;
            _traps[Vector.NMI] = default;
            return 0;
        }

        if (!IsCanonical(a[1]))
            return Errno.EINVAL;
        bool masks = (a[0] >> 16 & 1) != 0 || type == NmiCallback;
        var entry = new TrapEntry { Address = a[1], Flags = masks ? MaskEvents : (byte)0 };
        if (type == NmiCallback)
            _traps[Vector.NMI] = entry;
        else
            _callbacks[type] = entry;
        return 0;
    }
}
