using VirtPS.X86;

namespace VirtPS.Emulation;

// Loading segment registers (SDM Vol. 2B MOV, LDS; Vol. 3A §5.6, §5.7).
public sealed unsafe partial class SoftVcpu
{
    internal SegmentRegister* Seg(SegmentName name) => &S->ES + (int)name;

    /// <summary>An unusable segment register, as a null selector leaves it.</summary>
    private static SegmentRegister NullSegment(ushort selector, int dpl = 0) =>
        new(selector, 0, 0, SegmentRegister.Unusable | ((uint)dpl << 5));

    /// <summary>MOV Sreg and its like for ES, SS, DS, FS, GS in any mode. False: fault recorded, nothing changed.</summary>
    internal bool LoadSegment(SegmentName name, ushort selector)
    {
        if (SegmentsAreReal)
        {
            LoadRealSegment(name, selector);
        }
        else
        {
            SegmentRegister loaded;
            if (!(name == SegmentName.SS ? CheckStackSegment(selector, out loaded) : CheckDataSegment(selector, out loaded)))
                return false;
            *Seg(name) = loaded;
        }

        ModeChanged();
        return true;
    }

    /// <summary>
    /// Real mode changes base and selector only, so that limits loaded in protected mode stay ("unreal mode"); virtual-8086 mode sets all (SDM Vol. 3A §20.1, §20.2.1).
    /// </summary>
    private void LoadRealSegment(SegmentName name, ushort selector)
    {
        SegmentRegister* s = Seg(name);
        if (InVirtual8086)
        {
            *s = Virtual8086Segment(selector);
            return;
        }

        s->Base = (ulong)selector << 4;
        s->Selector = selector;
        if (!s->IsUsable)
            (s->Limit, s->Attributes) = (0xFFFF, 0x93);
        else if (name == SegmentName.CS)
            s->Attributes = (s->Attributes & ~(SegmentRegister.TypeMask | (3u << 5))) | 0x9B;
    }

    private static SegmentRegister Virtual8086Segment(ushort selector) => new(selector, (ulong)selector << 4, 0xFFFF, 0xF3);

    private bool CheckDataSegment(ushort selector, out SegmentRegister loaded)
    {
        loaded = NullSegment(selector);
        if (IsNull(selector))
            return true;
        if (!FetchDescriptor(selector, Vector.GP, out ulong d, out ulong linear))
            return false;
        bool code = DescriptorIsCode(d);
        if (DescriptorIsSystem(d) || (code && (d & (1ul << 41)) == 0))
            return RaiseSelector(Vector.GP, selector);
        if (!DescriptorIsConforming(d) && ((selector & 3) > DescriptorDpl(d) || S->Cpl > DescriptorDpl(d)))
            return RaiseSelector(Vector.GP, selector);
        if (!DescriptorPresent(d))
            return RaiseSelector(Vector.NP, selector);
        if (!MarkAccessed(ref d, linear))
            return false;
        loaded = SegmentRegister.FromDescriptor(selector, d);
        return true;
    }

    private bool CheckStackSegment(ushort selector, out SegmentRegister loaded)
    {
        if (IsNull(selector))
        {
            loaded = NullSegment(selector, S->Cpl);
            // SDM Vol. 2B MOV: 64-bit mode allows a null SS outside ring 3 when RPL = CPL.
            return (In64BitMode && S->Cpl < 3 && (selector & 3) == S->Cpl) || Raise(Vector.GP, _ext);
        }

        return CheckStackSegment(selector, S->Cpl, Vector.GP, out loaded);
    }

    /// <summary>The checks on a non-null SS for code at <paramref name="cpl"/>; <paramref name="vector"/> is #GP, or #TS where the selector comes from a TSS.</summary>
    private bool CheckStackSegment(ushort selector, int cpl, int vector, out SegmentRegister loaded)
    {
        loaded = default;
        if (IsNull(selector))
            return Raise(vector, _ext);
        if (!FetchDescriptor(selector, vector, out ulong d, out ulong linear))
            return false;
        if ((selector & 3) != cpl || !DescriptorIsWritableData(d) || DescriptorDpl(d) != cpl)
            return RaiseSelector(vector, selector);
        if (!DescriptorPresent(d))
            return RaiseSelector(Vector.SS, selector);
        if (!MarkAccessed(ref d, linear))
            return false;
        loaded = SegmentRegister.FromDescriptor(selector, d);
        return true;
    }

    /// <summary>
    /// Puts a code descriptor into CS with CPL as RPL. The caller has checked it; <paramref name="descriptor"/> is marked accessed here.
    /// </summary>
    private bool LoadCodeSegment(ushort selector, ulong descriptor, ulong linear, int cpl)
    {
        if (!MarkAccessed(ref descriptor, linear))
            return false;
        S->CS = SegmentRegister.FromDescriptor((ushort)((selector & 0xFFFC) | cpl), descriptor);
        S->Cpl = (byte)cpl;
        return true;
    }

    /// <summary>In long mode a code segment with both L and D set is reserved (SDM Vol. 3A §5.2.1).</summary>
    private bool CodeSizeIsReserved(ulong descriptor) => LongModeActive && DescriptorIsLong(descriptor) && DescriptorIsDefault32(descriptor);

    /// <summary>The target of a far transfer must lie in its segment, or be canonical in 64-bit mode. #GP(0).</summary>
    private bool CheckCodeOffset(ulong descriptor, ulong offset)
    {
        if (LongModeActive && DescriptorIsLong(descriptor))
            return IsCanonical(offset) || Raise(Vector.GP, _ext);
        return offset <= SegmentRegister.FromDescriptor(0, descriptor).Limit || Raise(Vector.GP, _ext);
    }

    /// <summary>
    /// After a return to a less privileged ring: data segments the new code may not use become null (SDM Vol. 2B RET, "RETURN-TO-OUTER-PRIVILEGE-LEVEL").
    /// </summary>
    private void NullInaccessibleDataSegments()
    {
        NullIfInaccessible(ref S->ES);
        NullIfInaccessible(ref S->DS);
        NullIfInaccessible(ref S->FS);
        NullIfInaccessible(ref S->GS);
    }

    private void NullIfInaccessible(ref SegmentRegister s)
    {
        bool conformingCode = (s.Attributes & (SegmentRegister.S | SegmentRegister.Code | SegmentRegister.Conforming)) ==
            (SegmentRegister.S | SegmentRegister.Code | SegmentRegister.Conforming);
        if (!s.IsUsable || conformingCode || s.Dpl >= S->Cpl)
            return;
        ulong keptBase = LongModeActive ? s.Base : 0;
        s = NullSegment(0);
        s.Base = keptBase;
    }
}
