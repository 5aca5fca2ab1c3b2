using Iced.Intel;
using VirtPS.X86;

namespace VirtPS.Emulation;

// LGDT … LTR, LAR, LSL, VERR, VERW, ARPL, SMSW, LMSW, CLTS.
internal static unsafe partial class SystemHandlers
{
    private static void RegisterDescriptorTables(HandlerTableBuilder b)
    {
        b.Register(&Sgdt<Dword>, Code.Sgdt_m1632, Code.Sgdt_m1632_16);
        b.Register(Code.Sgdt_m1664, &Sgdt<Qword>);
        b.Register(&Sidt<Dword>, Code.Sidt_m1632, Code.Sidt_m1632_16);
        b.Register(Code.Sidt_m1664, &Sidt<Qword>);
        b.Register(Code.Lgdt_m1632_16, &Lgdt<Word>);
        b.Register(Code.Lgdt_m1632, &Lgdt<Dword>);
        b.Register(Code.Lgdt_m1664, &Lgdt<Qword>);
        b.Register(Code.Lidt_m1632_16, &Lidt<Word>);
        b.Register(Code.Lidt_m1632, &Lidt<Dword>);
        b.Register(Code.Lidt_m1664, &Lidt<Qword>);
        b.Register(Code.Sldt_rm16, &Sldt<Word>);
        b.Register(Code.Sldt_r32m16, &Sldt<Dword>);
        b.Register(Code.Sldt_r64m16, &Sldt<Qword>);
        b.Register(Code.Str_rm16, &Str<Word>);
        b.Register(Code.Str_r32m16, &Str<Dword>);
        b.Register(Code.Str_r64m16, &Str<Qword>);
        b.Register(Code.Smsw_rm16, &Smsw<Word>);
        b.Register(Code.Smsw_r32m16, &Smsw<Dword>);
        b.Register(Code.Smsw_r64m16, &Smsw<Qword>);
        b.Register(&Lldt, Code.Lldt_rm16, Code.Lldt_r32m16, Code.Lldt_r64m16);
        b.Register(&Ltr, Code.Ltr_rm16, Code.Ltr_r32m16, Code.Ltr_r64m16);
        b.Register(&Lmsw, Code.Lmsw_rm16, Code.Lmsw_r32m16, Code.Lmsw_r64m16);
        b.Register(&Verr, Code.Verr_rm16, Code.Verr_r32m16, Code.Verr_r64m16);
        b.Register(&Verw, Code.Verw_rm16, Code.Verw_r32m16, Code.Verw_r64m16);
        b.Register(Code.Lar_r16_rm16, &Lar<Word>);
        b.Register(Code.Lar_r32_r32m16, &Lar<Dword>);
        b.Register(Code.Lar_r64_r64m16, &Lar<Qword>);
        b.Register(Code.Lsl_r16_rm16, &Lsl<Word>);
        b.Register(Code.Lsl_r32_r32m16, &Lsl<Dword>);
        b.Register(Code.Lsl_r64_r64m16, &Lsl<Qword>);
        b.Register(&Arpl, Code.Arpl_rm16_r16, Code.Arpl_r32m16_r32);
        b.Register(Code.Clts, &Clts);
    }

    /// <summary>User-mode instruction prevention: SGDT, SIDT, SLDT, STR, SMSW outside ring 0 are #GP(0) with CR4.UMIP (SDM Vol. 3A §2.5).</summary>
    private static bool UmipAllows(SoftVcpu cpu) => cpu.S->Cpl == 0 || (cpu.S->Cr4 & Cr4.UMIP) == 0 || cpu.Raise(Vector.GP, 0);

    private static bool Sgdt<TSize>(SoftVcpu cpu, Op* op) where TSize : ISize => StoreTable(cpu, op, cpu.S->Gdtr, TSize.Bytes);

    private static bool Sidt<TSize>(SoftVcpu cpu, Op* op) where TSize : ISize => StoreTable(cpu, op, cpu.S->Idtr, TSize.Bytes);

    private static bool StoreTable(SoftVcpu cpu, Op* op, DescriptorTable table, int baseSize)
    {
        if (!UmipAllows(cpu))
            return false;
        byte* bytes = stackalloc byte[10];
        *(ushort*)bytes = table.Limit;
        *(ulong*)(bytes + 2) = table.Base;
        return cpu.StoreBytes(op->Seg, cpu.EffectiveAddress(op), bytes, 2 + baseSize);
    }

    private static bool Lgdt<TSize>(SoftVcpu cpu, Op* op) where TSize : ISize => LoadTable(cpu, op, TSize.Bytes, ref cpu.S->Gdtr);

    private static bool Lidt<TSize>(SoftVcpu cpu, Op* op) where TSize : ISize => LoadTable(cpu, op, TSize.Bytes, ref cpu.S->Idtr);

    private static bool LoadTable(SoftVcpu cpu, Op* op, int size, ref DescriptorTable table)
    {
        if (!NeedsRing0(cpu))
            return false;
        byte* bytes = stackalloc byte[10];
        if (!cpu.LoadBytes(op->Seg, cpu.EffectiveAddress(op), bytes, size == 8 ? 10 : 6))
            return false;
        ulong at = size switch { 8 => *(ulong*)(bytes + 2), 4 => *(uint*)(bytes + 2), _ => *(uint*)(bytes + 2) & 0xFF_FFFF };
        if (!SoftVcpu.IsCanonical(at))
            return cpu.Raise(Vector.GP, 0);
        table = new DescriptorTable(at, *(ushort*)bytes);
        return true;
    }

    private static bool Sldt<TSize>(SoftVcpu cpu, Op* op) where TSize : ISize =>
        NeedsProtectedMode(cpu) && UmipAllows(cpu) && WriteRm16(cpu, op, TSize.Bytes, cpu.S->LDTR.Selector);

    private static bool Str<TSize>(SoftVcpu cpu, Op* op) where TSize : ISize =>
        NeedsProtectedMode(cpu) && UmipAllows(cpu) && WriteRm16(cpu, op, TSize.Bytes, cpu.S->TR.Selector);

    private static bool Smsw<TSize>(SoftVcpu cpu, Op* op) where TSize : ISize
    {
        if (!UmipAllows(cpu))
            return false;
        if (op->IsMemory)
            return WriteRm16(cpu, op, TSize.Bytes, (ushort)cpu.S->Cr0);
        WriteGpr(cpu, op->Rm, TSize.Bytes, cpu.S->Cr0);
        return true;
    }

    private static bool Lmsw(SoftVcpu cpu, Op* op) =>
        NeedsRing0(cpu) && ReadRm16(cpu, op, out ushort value) && cpu.LoadMachineStatusWord(value);

    private static bool Lldt(SoftVcpu cpu, Op* op) =>
        NeedsProtectedMode(cpu) && NeedsRing0(cpu) && ReadRm16(cpu, op, out ushort selector) && cpu.LoadLdtr(selector);

    private static bool Ltr(SoftVcpu cpu, Op* op) =>
        NeedsProtectedMode(cpu) && NeedsRing0(cpu) && ReadRm16(cpu, op, out ushort selector) && cpu.LoadTaskRegister(selector);

    private static bool Clts(SoftVcpu cpu, Op* op)
    {
        if (!NeedsRing0(cpu))
            return false;
        cpu.S->Cr0 &= ~Cr0.TS;
        cpu.ModeChanged();
        return true;
    }

    private static bool Verr(SoftVcpu cpu, Op* op) => Verify(cpu, op, forWrite: false);

    private static bool Verw(SoftVcpu cpu, Op* op) => Verify(cpu, op, forWrite: true);

    private static bool Verify(SoftVcpu cpu, Op* op, bool forWrite)
    {
        if (!NeedsProtectedMode(cpu) || !ReadRm16(cpu, op, out ushort selector) || !cpu.InspectSelector(selector, out ulong d, out bool visible))
            return false;
        var s = SegmentRegister.FromDescriptor(selector, d);
        bool dataOrCode = (s.Attributes & SegmentRegister.S) != 0;
        bool ok = visible && dataOrCode && (s.Attributes & SegmentRegister.Code) switch
        {
            0 => !forWrite || (s.Attributes & SegmentRegister.Writable) != 0,
            _ => !forWrite && (s.Attributes & SegmentRegister.Readable) != 0,
        };
        SetZeroFlag(cpu, ok);
        return true;
    }

    /// <summary>System descriptor types that LAR and LSL know, as bit sets (SDM Vol. 2A LAR, LSL).</summary>
    private const uint LarTypes = 0x1A3E, LarTypesLong = 0x1A04, LslTypes = 0x0A0E, LslTypesLong = 0x0A04;

    private static bool Lar<TSize>(SoftVcpu cpu, Op* op) where TSize : ISize
    {
        if (!Inspect(cpu, op, cpu.LongModeActive ? LarTypesLong : LarTypes, out ulong d, out bool ok))
            return false;
        if (ok)
            WriteGpr(cpu, op->Reg, TSize.Bytes, (d >> 32) & (TSize.Bytes == 2 ? 0xFF00u : 0x00FF_FF00u));
        SetZeroFlag(cpu, ok);
        return true;
    }

    private static bool Lsl<TSize>(SoftVcpu cpu, Op* op) where TSize : ISize
    {
        if (!Inspect(cpu, op, cpu.LongModeActive ? LslTypesLong : LslTypes, out ulong d, out bool ok))
            return false;
        if (ok)
            WriteGpr(cpu, op->Reg, TSize.Bytes, SegmentRegister.FromDescriptor(0, d).Limit);
        SetZeroFlag(cpu, ok);
        return true;
    }

    private static bool Inspect(SoftVcpu cpu, Op* op, uint systemTypes, out ulong d, out bool ok)
    {
        (d, ok) = (0, false);
        if (!NeedsProtectedMode(cpu) || !ReadRm16(cpu, op, out ushort selector) || !cpu.InspectSelector(selector, out d, out bool visible))
            return false;
        bool system = (d >> 44 & 1) == 0;
        ok = visible && (!system || (systemTypes >> (int)(d >> 40 & 0xF) & 1) != 0);
        return true;
    }

    private static bool Arpl(SoftVcpu cpu, Op* op)
    {
        if (!NeedsProtectedMode(cpu) || !ReadRm16(cpu, op, out ushort destination))
            return false;
        int rpl = (int)cpu.S->Gpr[op->Reg] & 3;
        bool raise = (destination & 3) < rpl;
        // The destination is written only when it changes; a read-only one still faults then alone.
        if (raise && !WriteRm16(cpu, op, 2, (ushort)((destination & ~3) | rpl)))
            return false;
        SetZeroFlag(cpu, raise);
        return true;
    }
}

public sealed unsafe partial class SoftVcpu
{
    internal bool LoadLdtr(ushort selector)
    {
        if (IsNull(selector))
        {
            S->LDTR = NullSegment(selector);
            return true;
        }

        if (!FetchSystemSegment(selector, out ulong d, out ulong linear, out ulong upper))
            return false;
        if (DescriptorType(d) != SystemType.Ldt)
            return RaiseSelector(Vector.GP, selector);
        if (!DescriptorPresent(d))
            return RaiseSelector(Vector.NP, selector);
        S->LDTR = SegmentRegister.FromDescriptor(selector, d);
        S->LDTR.Base |= upper << 32;
        return true;
    }

    internal bool LoadTaskRegister(ushort selector)
    {
        if (IsNull(selector))
            return Raise(Vector.GP, 0);
        if (!FetchSystemSegment(selector, out ulong d, out ulong linear, out ulong upper))
            return false;
        uint type = DescriptorType(d);
        if (type != SystemType.TssAvailable && (LongModeActive || type != SystemType.Tss16Available))
            return RaiseSelector(Vector.GP, selector);
        if (!DescriptorPresent(d))
            return RaiseSelector(Vector.NP, selector);
        if (!MarkBusy(d, linear, busy: true))
            return false;
        S->TR = SegmentRegister.FromDescriptor(selector, d | DescriptorBusy);
        S->TR.Base |= upper << 32;
        return true;
    }

    /// <summary>A system descriptor of the GDT with the upper half of its base in long mode.</summary>
    private bool FetchSystemSegment(ushort selector, out ulong d, out ulong linear, out ulong upper)
    {
        (d, linear, upper) = (0, 0, 0);
        if ((selector & 4) != 0)
            return RaiseSelector(Vector.GP, selector);
        if (!FetchDescriptor(selector, Vector.GP, out d, out linear))
            return false;
        if (!DescriptorIsSystem(d))
            return RaiseSelector(Vector.GP, selector);
        if (!LongModeActive)
            return true;
        if (!FetchUpperDescriptor(selector, Vector.GP, linear, out upper))
            return false;
        bool bad = (upper & (0x1Ful << 40)) != 0 || !IsCanonical(SegmentRegister.FromDescriptor(selector, d).Base | upper << 32);
        upper &= 0xFFFF_FFFF;
        return !bad || RaiseSelector(Vector.GP, selector);
    }

    /// <summary>For LAR, LSL, VERR, VERW: the descriptor, and whether the present privilege may look at it. False only when reading it faults.</summary>
    internal bool InspectSelector(ushort selector, out ulong d, out bool visible)
    {
        (d, visible) = (0, false);
        if (IsNull(selector))
            return true;
        Lookup r = LookUpDescriptor(selector, out d, out _);
        if (r != Lookup.Found)
            return r == Lookup.OutOfLimits;
        visible = DescriptorIsConforming(d) && !DescriptorIsSystem(d) || (S->Cpl <= DescriptorDpl(d) && (selector & 3) <= DescriptorDpl(d));
        return true;
    }
}
