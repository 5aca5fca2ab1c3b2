using System.Runtime.CompilerServices;
using VirtPS.Sdk.Rings;
using VirtPS.X86;

namespace VirtPS.Emulation;

// SYSCALL, SYSRET, SYSENTER, SYSEXIT (SDM Vol. 2B; AMD APM Vol. 3 where the model is AMD's).
public sealed unsafe partial class SoftVcpu
{
    private const uint FlatCode64 = 0xA09B, FlatCode32 = 0xC09B, FlatData = 0xC093;
    private bool? _isAmd;

    /// <summary>The model's vendor, which decides where the two makers differ.</summary>
    internal bool IsAmd
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => _isAmd ?? FindMaker();
    }

    private bool FindMaker() => (_isAmd = Partition.Options.Cpuid.Query(0, 0) is { Ebx: 0x68747541, Edx: 0x69746E65, Ecx: 0x444D4163 }).Value;

    private static SegmentRegister Flat(int selector, uint attributes, int dpl) =>
        new((ushort)selector, 0, 0xFFFF_FFFF, attributes | ((uint)dpl << 5));

    internal bool Syscall(ulong next)
    {
        if (_supervisor is { } supervisor)
            return SupervisorCall(supervisor, next);
        if ((S->Efer & Efer.SCE) == 0 || !InProtectedMode || (!IsAmd && !In64BitMode))
            return Raise(Vector.UD);
        RingMark from = MarkRing();
        int selector = (int)(S->Star >> 32) & 0xFFFC;
        ulong flags = GetFlags();
        ulong number = S->Gpr[(int)Gpr.Rax];
        ulong target;
        if (LongModeActive)
        {
            S->Gpr[(int)Gpr.Rcx] = next;
            S->Gpr[(int)Gpr.R11] = flags & ~Rflags.RF;
            target = S->CS.IsLong ? S->Lstar : S->Cstar;
            SetFlags(flags & ~(S->Sfmask | Rflags.RF));
            S->CS = Flat(selector, FlatCode64, 0);
        }
        else
        {
            S->Gpr[(int)Gpr.Rcx] = (uint)next;
            target = (uint)S->Star;
            SetFlags(flags & ~(Rflags.IF | Rflags.VM | Rflags.RF));
            S->CS = Flat(selector, FlatCode32, 0);
        }

        _stepDropped = (flags & Rflags.TF) != 0 && (S->Rflags & Rflags.TF) == 0;
        S->SS = Flat(selector + 8, FlatData, 0);
        S->Cpl = 0;
        ModeChanged();
        SetRip(target);
        RecordTransfer(from, RingCause.Syscall, 0, number);
        return true;
    }

    internal bool Sysret(bool wide)
    {
        if ((S->Efer & Efer.SCE) == 0 || !InProtectedMode || (!IsAmd && !In64BitMode))
            return Raise(Vector.UD);
        if (S->Cpl != 0)
            return Raise(Vector.GP, 0);
        ulong target = wide ? S->Gpr[(int)Gpr.Rcx] : (uint)S->Gpr[(int)Gpr.Rcx];
        // Intel checks here, in ring 0; AMD lets the fetch in ring 3 fail.
        if (!IsAmd && !IsCanonical(target))
            return Raise(Vector.GP, 0);
        RingMark from = MarkRing();
        int selector = (int)(S->Star >> 48) & 0xFFFC;
        if (LongModeActive)
        {
            const ulong taken = 0x3C7FD7;
            SetReturnFlags(S->Gpr[(int)Gpr.R11] & taken & ~Rflags.RF);
        }
        else
        {
            SetFlags(GetFlags() | Rflags.IF);
        }

        S->CS = wide ? Flat((selector + 16) | 3, FlatCode64, 3) : Flat(selector | 3, FlatCode32, 3);
        if (IsAmd)
        {
            // AMD APM Vol. 3 SYSRET: only selector and privilege of SS change; an unusable SS stays so.
            S->SS.Selector = (ushort)((selector + 8) | 3);
            S->SS.Attributes |= 3u << 5;
        }
        else
        {
            S->SS = Flat((selector + 8) | 3, FlatData, 3);
        }

        S->Cpl = 3;
        ModeChanged();
        SetRip(target);
        RecordTransfer(from, RingCause.Sysret, 0, S->Gpr[(int)Gpr.Rax]);
        return true;
    }

    internal bool Sysenter()
    {
        if (IsAmd && LongModeActive)
            return Raise(Vector.UD);
        if (!InProtectedMode || (S->SysenterCs & 0xFFFC) == 0)
            return Raise(Vector.GP, 0);
        RingMark from = MarkRing();
        bool wide = LongModeActive;
        int selector = (int)S->SysenterCs & 0xFFFC;
        SetFlags(GetFlags() & ~(Rflags.VM | Rflags.IF | Rflags.RF));
        S->CS = Flat(selector, wide ? FlatCode64 : FlatCode32, 0);
        S->SS = Flat(selector + 8, FlatData, 0);
        S->Cpl = 0;
        S->Gpr[(int)Gpr.Rsp] = wide ? S->SysenterEsp : (uint)S->SysenterEsp;
        ModeChanged();
        SetRip(wide ? S->SysenterEip : (uint)S->SysenterEip);
        RecordTransfer(from, RingCause.Sysenter, 0, S->Gpr[(int)Gpr.Rax]);
        return true;
    }

    internal bool Sysexit(bool wide)
    {
        if (IsAmd && LongModeActive)
            return Raise(Vector.UD);
        if (!InProtectedMode || S->Cpl != 0 || (S->SysenterCs & 0xFFFC) == 0)
            return Raise(Vector.GP, 0);
        ulong rip = S->Gpr[(int)Gpr.Rdx], rsp = S->Gpr[(int)Gpr.Rcx];
        if (wide && (!IsCanonical(rip) || !IsCanonical(rsp)))
            return Raise(Vector.GP, 0);
        RingMark from = MarkRing();
        int selector = ((int)S->SysenterCs & 0xFFFC) + (wide ? 32 : 16);
        S->CS = Flat(selector | 3, wide ? FlatCode64 : FlatCode32, 3);
        S->SS = Flat((selector + 8) | 3, FlatData, 3);
        S->Cpl = 3;
        S->Gpr[(int)Gpr.Rsp] = wide ? rsp : (uint)rsp;
        ModeChanged();
        SetRip(wide ? rip : (uint)rip);
        RecordTransfer(from, RingCause.Sysexit, 0, S->Gpr[(int)Gpr.Rax]);
        return true;
    }
}
