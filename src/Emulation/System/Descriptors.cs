using System.Runtime.CompilerServices;
using VirtPS.X86;

namespace VirtPS.Emulation;

// Descriptor tables: finding, reading and marking descriptors (SDM Vol. 3A §3.4, §3.5).
public sealed unsafe partial class SoftVcpu
{
    /// <summary>Bit 40: the accessed bit of a code or data descriptor.</summary>
    private const ulong DescriptorAccessed = 1ul << 40;

    /// <summary>Bit 41: the busy bit of a TSS descriptor.</summary>
    private const ulong DescriptorBusy = 1ul << 41;

    /// <summary>
    /// The EXT bit of error codes that name a selector: 1 while an event from outside the program (interrupt, exception) is being delivered (SDM Vol. 3A §6.13).
    /// </summary>
    private uint _ext;

    private enum Lookup
    {
        Found,

        /// <summary>Beyond the table's limit, or in an LDT that is not there. Nothing recorded.</summary>
        OutOfLimits,

        /// <summary>Reading the table faulted; the fault is recorded.</summary>
        Faulted,
    }

    internal bool LongModeActive
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => (S->Efer & Efer.LMA) != 0;
    }

    /// <summary>64-bit mode: long mode active and CS.L set.</summary>
    internal bool In64BitMode
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => (S->Efer & Efer.LMA) != 0 && S->CS.IsLong;
    }

    internal bool InProtectedMode => (S->Cr0 & Cr0.PE) != 0;

    internal bool InVirtual8086 => (S->Rflags & Rflags.VM) != 0 && (S->Cr0 & Cr0.PE) != 0;

    /// <summary>Real or virtual-8086 mode: segments are selector × 16.</summary>
    internal bool SegmentsAreReal => (S->Cr0 & Cr0.PE) == 0 || (S->Rflags & Rflags.VM) != 0;

    internal int Iopl => (int)(S->Rflags >> Rflags.IoplShift) & 3;

    internal static bool IsNull(ushort selector) => (selector & 0xFFFC) == 0;

    internal static bool IsCanonical(ulong address) => (ulong)((long)(address << 16) >> 16) == address;

    /// <summary>The error code that names a selector.</summary>
    private uint SelectorError(ushort selector) => (selector & 0xFFFCu) | _ext;

    private bool RaiseSelector(int vector, ushort selector) => Raise(vector, SelectorError(selector));

    /// <summary>Linear addresses outside long mode have 32 bits.</summary>
    private ulong WrapLinear(ulong linear) => LongModeActive ? linear : (uint)linear;

    private Lookup LookUpDescriptor(ushort selector, out ulong descriptor, out ulong linear)
    {
        descriptor = 0;
        linear = 0;
        ulong tableBase;
        uint limit;
        if ((selector & 4) == 0)
        {
            (tableBase, limit) = (S->Gdtr.Base, S->Gdtr.Limit);
        }
        else
        {
            if (IsNull(S->LDTR.Selector) || !S->LDTR.IsUsable)
                return Lookup.OutOfLimits;
            (tableBase, limit) = (S->LDTR.Base, S->LDTR.Limit);
        }

        uint offset = selector & 0xFFF8u;
        if (offset + 7 > limit)
            return Lookup.OutOfLimits;
        linear = WrapLinear(tableBase + offset);
        return LoadLinear(linear, supervisor: true, out descriptor) ? Lookup.Found : Lookup.Faulted;
    }

    /// <summary>Reads a descriptor that must exist; else <paramref name="vector"/> with the selector is recorded.</summary>
    private bool FetchDescriptor(ushort selector, int vector, out ulong descriptor, out ulong linear)
    {
        Lookup r = LookUpDescriptor(selector, out descriptor, out linear);
        return r == Lookup.Found || (r == Lookup.OutOfLimits && RaiseSelector(vector, selector));
    }

    /// <summary>The upper 8 bytes of a 16-byte system descriptor of long mode.</summary>
    private bool FetchUpperDescriptor(ushort selector, int vector, ulong linear, out ulong upper)
    {
        upper = 0;
        uint limit = (selector & 4) == 0 ? S->Gdtr.Limit : S->LDTR.Limit;
        if ((selector & 0xFFF8u) + 15 > limit)
            return RaiseSelector(vector, selector);
        return LoadLinear(linear + 8, supervisor: true, out upper);
    }

    /// <summary>Sets the accessed bit in memory where it is clear; a table that is read-only with all bits set is never written.</summary>
    private bool MarkAccessed(ref ulong descriptor, ulong linear)
    {
        if ((descriptor & DescriptorAccessed) != 0)
            return true;
        descriptor |= DescriptorAccessed;
        return StoreLinear(linear + 5, supervisor: true, (byte)(descriptor >> 40));
    }

    /// <summary>Sets or clears a TSS descriptor's busy bit in memory.</summary>
    private bool MarkBusy(ulong descriptor, ulong linear, bool busy)
    {
        descriptor = busy ? descriptor | DescriptorBusy : descriptor & ~DescriptorBusy;
        return StoreLinear(linear + 5, supervisor: true, (byte)(descriptor >> 40));
    }

    private static uint DescriptorType(ulong descriptor) => (uint)(descriptor >> 40) & 0xF;

    private static bool DescriptorIsSystem(ulong descriptor) => (descriptor & (1ul << 44)) == 0;

    private static bool DescriptorPresent(ulong descriptor) => (descriptor & (1ul << 47)) != 0;

    private static int DescriptorDpl(ulong descriptor) => (int)(descriptor >> 45) & 3;

    private static bool DescriptorIsCode(ulong descriptor) => (descriptor & (3ul << 43)) == 3ul << 43;

    private static bool DescriptorIsConforming(ulong descriptor) => (descriptor & (7ul << 42)) == 7ul << 42;

    /// <summary>A data segment that can be written.</summary>
    private static bool DescriptorIsWritableData(ulong descriptor) => (descriptor & ((1ul << 44) | (1ul << 43) | (1ul << 41))) == ((1ul << 44) | (1ul << 41));

    private static bool DescriptorIsLong(ulong descriptor) => (descriptor & (1ul << 53)) != 0;

    private static bool DescriptorIsDefault32(ulong descriptor) => (descriptor & (1ul << 54)) != 0;

    /// <summary>Target selector and offset of a gate descriptor.</summary>
    private static (ushort Selector, uint Offset) GateTarget(ulong gate) =>
        ((ushort)(gate >> 16), (uint)(gate & 0xFFFF) | ((uint)(gate >> 32) & 0xFFFF_0000));
}
