using VirtPS.X86;

namespace VirtPS.Emulation;

/// <summary>
/// A stack while a far transfer pushes to it or pops from it: RSP and SS of the processor change only when all of it has succeeded.
/// </summary>
internal struct StackCursor
{
    public SegmentRegister Ss;
    public ulong Sp;

    /// <summary>Width of the stack pointer: 16, 32 or 64 bits set.</summary>
    public ulong Mask;

    /// <summary>64-bit mode: no base, no limit, canonical check.</summary>
    public bool Long;

    /// <summary>The stack of an inner ring, not yet the current one: accesses are those of a supervisor.</summary>
    public bool Inner;

    /// <summary>Error code of #SS.</summary>
    public uint Error;

    /// <summary>Moves the pointer by <paramref name="bytes"/> (either sign) within its width.</summary>
    public void Move(long bytes) => Sp = (Sp & ~Mask) | ((Sp + (ulong)bytes) & Mask);
}

public sealed unsafe partial class SoftVcpu
{
    private static ulong StackMask(in SegmentRegister ss) => ss.IsDefault32 ? 0xFFFF_FFFF : 0xFFFF;

    private StackCursor CurrentStack() => new()
    {
        Ss = S->SS,
        Sp = S->Gpr[(int)Gpr.Rsp],
        Mask = In64BitMode ? ulong.MaxValue : StackMask(S->SS),
        Long = In64BitMode,
        Error = _ext,
    };

    private StackCursor InnerStack(in SegmentRegister ss, ulong sp) => new()
    {
        Ss = ss,
        Sp = sp,
        Mask = StackMask(ss),
        Inner = true,
        Error = SelectorError(ss.Selector),
    };

    private StackCursor InnerLongStack(ulong rsp) => new() { Sp = rsp, Mask = ulong.MaxValue, Long = true, Inner = true, Error = _ext };

    /// <summary>RSP after pushes or pops on the current stack: bits above the stack's width stay, except that a 32-bit stack clears the upper half.</summary>
    private void CommitStackPointer(in StackCursor c)
    {
        ulong old = S->Gpr[(int)Gpr.Rsp];
        S->Gpr[(int)Gpr.Rsp] = c.Mask == 0xFFFF ? (old & ~0xFFFFul) | (c.Sp & 0xFFFF) : c.Sp & c.Mask;
    }

    private bool Push(ref StackCursor c, int size, ulong value)
    {
        StackCursor moved = c;
        moved.Move(-size);
        if (!StackLinear(moved, moved.Sp & moved.Mask, size, out ulong linear))
            return false;
        bool ok = size switch
        {
            2 => StoreLinear(linear, c.Inner, (ushort)value),
            4 => StoreLinear(linear, c.Inner, (uint)value),
            _ => StoreLinear(linear, c.Inner, value),
        };
        if (ok)
            c = moved;
        return ok;
    }

    private bool Pop(ref StackCursor c, int size, out ulong value)
    {
        if (!Peek(c, 0, size, out value))
            return false;
        c.Move(size);
        return true;
    }

    /// <summary>Reads the item at <paramref name="offset"/> bytes above the pointer.</summary>
    private bool Peek(in StackCursor c, int offset, int size, out ulong value)
    {
        value = 0;
        if (!StackLinear(c, (c.Sp + (ulong)offset) & c.Mask, size, out ulong linear))
            return false;
        switch (size)
        {
            case 2:
                bool ok = LoadLinear(linear, c.Inner, out ushort w);
                value = w;
                return ok;
            case 4:
                ok = LoadLinear(linear, c.Inner, out uint d);
                value = d;
                return ok;
            default:
                return LoadLinear(linear, c.Inner, out value);
        }
    }

    private bool StackLinear(in StackCursor c, ulong sp, int size, out ulong linear)
    {
        linear = sp;
        if (c.Long)
            return (IsCanonical(sp) && IsCanonical(sp + (ulong)size - 1)) || Raise(Vector.SS, c.Error);
        linear = WrapLinear((uint)(c.Ss.Base + sp));
        ulong last = sp + (ulong)size - 1;
        bool expandDown = (c.Ss.Attributes & (SegmentRegister.Code | SegmentRegister.ExpandDown)) == SegmentRegister.ExpandDown;
        bool inside = expandDown
            ? sp > c.Ss.Limit && last <= (c.Ss.IsDefault32 ? 0xFFFF_FFFFul : 0xFFFF)
            : last <= c.Ss.Limit;
        return (inside && c.Ss.IsUsable) || Raise(Vector.SS, c.Error);
    }
}
