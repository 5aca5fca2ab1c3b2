using System.Text;
using VirtPS.Sdk.Cpu;
using VirtPS.X86;

namespace VirtPS.Lockstep;

/// <summary>What must be equal after each instruction: everything that a guest can see, but for what is undefined.</summary>
public sealed unsafe class StateComparer
{
    // Access rights bits 8-11 hold a part of the limit in a descriptor and nothing in the state.
    private const uint AttributeBits = 0xF0FF;

    private readonly List<(ulong Gpa, int Length)> _ignored = [];

    /// <summary>Flags that the instructions so far leave undefined.</summary>
    public ulong UndefinedFlags { get; set; }

    /// <summary>x87, SSE and AVX registers too.</summary>
    public bool Vectors { get; init; }

    /// <summary>Memory whose content may legitimately differ.</summary>
    public void Ignore(ulong gpa, int length) => _ignored.Add((gpa, length));

    public bool IsIgnored(ulong gpa) => _ignored.Any(r => gpa - r.Gpa < (ulong)r.Length);

    /// <summary>Null when equal; else each difference, ours first.</summary>
    public string? Compare(VcpuState* ours, VcpuState* theirs)
    {
        var text = new StringBuilder();
        for (int i = 0; i < 16; i++)
            Value(text, ((Gpr)i).ToString(), ours->Gpr[i], theirs->Gpr[i]);
        Value(text, "RIP", ours->Rip, theirs->Rip);
        Value(text, "RFLAGS", ours->Rflags & ~UndefinedFlags, theirs->Rflags & ~UndefinedFlags);
        Value(text, "CPL", ours->Cpl, theirs->Cpl);
        Registers(text, ours, theirs);
        for (int i = 0; i < 8; i++)
            Segment(text, (SegmentName)i, (&ours->ES)[i], (&theirs->ES)[i]);
        Value(text, "GDTR base", ours->Gdtr.Base, theirs->Gdtr.Base);
        Value(text, "GDTR limit", ours->Gdtr.Limit, theirs->Gdtr.Limit);
        Value(text, "IDTR base", ours->Idtr.Base, theirs->Idtr.Base);
        Value(text, "IDTR limit", ours->Idtr.Limit, theirs->Idtr.Limit);
        if (Vectors)
            Extended(text, ours->Xsave, theirs->Xsave);
        return text.Length == 0 ? null : text.ToString(2, text.Length - 2);
    }

    private static void Registers(StringBuilder text, VcpuState* ours, VcpuState* theirs)
    {
        Value(text, "CR0", ours->Cr0, theirs->Cr0);
        Value(text, "CR2", ours->Cr2, theirs->Cr2);
        Value(text, "CR3", ours->Cr3, theirs->Cr3);
        Value(text, "CR4", ours->Cr4, theirs->Cr4);
        Value(text, "EFER", ours->Efer, theirs->Efer);
        Value(text, "XCR0", ours->Xcr0, theirs->Xcr0);
        Value(text, "DR0", ours->Dr0, theirs->Dr0);
        Value(text, "DR1", ours->Dr1, theirs->Dr1);
        Value(text, "DR2", ours->Dr2, theirs->Dr2);
        Value(text, "DR3", ours->Dr3, theirs->Dr3);
        Value(text, "DR7", ours->Dr7, theirs->Dr7);
        Value(text, "STAR", ours->Star, theirs->Star);
        Value(text, "LSTAR", ours->Lstar, theirs->Lstar);
        Value(text, "CSTAR", ours->Cstar, theirs->Cstar);
        Value(text, "SFMASK", ours->Sfmask, theirs->Sfmask);
        Value(text, "KERNEL_GS_BASE", ours->KernelGsBase, theirs->KernelGsBase);
        Value(text, "SYSENTER_CS", ours->SysenterCs, theirs->SysenterCs);
        Value(text, "SYSENTER_ESP", ours->SysenterEsp, theirs->SysenterEsp);
        Value(text, "SYSENTER_EIP", ours->SysenterEip, theirs->SysenterEip);
        Value(text, "PAT", ours->Pat, theirs->Pat);
    }

    private static void Segment(StringBuilder text, SegmentName name, in SegmentRegister ours, in SegmentRegister theirs)
    {
        Value(text, $"{name}", ours.Selector, theirs.Selector);
        // A null selector: whether the rest is called unusable is the backend's affair, a guest sees none of it.
        bool none = (ours.Attributes & SegmentRegister.Unusable) != 0;
        if (ours.Selector > 3)
            Value(text, $"{name} unusable", none ? 1u : 0, (theirs.Attributes & SegmentRegister.Unusable) != 0 ? 1u : 0);
        // FS and GS have a base also without a segment; else nothing can be seen of one that is unusable.
        if (!none || name is SegmentName.FS or SegmentName.GS)
            Value(text, $"{name} base", ours.Base, theirs.Base);
        if (none)
            return;
        Value(text, $"{name} limit", ours.Limit, theirs.Limit);
        Value(text, $"{name} attributes", ours.Attributes & AttributeBits, theirs.Attributes & AttributeBits);
    }

    /// <summary>But for FOP, FIP and FDP, in which processors differ, and the header.</summary>
    private static void Extended(StringBuilder text, byte* ours, byte* theirs)
    {
        ulong have = *(ulong*)(theirs + 512);
        Bytes(text, "FCW, FSW, FTW", ours, theirs, 0, 5);
        Bytes(text, "MXCSR", ours, theirs, 24, 4);
        for (int i = 0; i < 8; i++)
            Bytes(text, $"ST{i}", ours, theirs, 32 + 16 * i, 10);
        for (int i = 0; i < 16; i++)
            Bytes(text, $"XMM{i}", ours, theirs, 160 + 16 * i, 16);
        for (int i = 0; i < 16 && (have & 4) != 0; i++)
            Bytes(text, $"YMM{i} high", ours, theirs, 576 + 16 * i, 16);
    }

    private static void Bytes(StringBuilder text, string name, byte* ours, byte* theirs, int offset, int length)
    {
        ReadOnlySpan<byte> a = new(ours + offset, length), b = new(theirs + offset, length);
        if (!a.SequenceEqual(b))
            text.Append(System.Globalization.CultureInfo.InvariantCulture, $", {name} {Convert.ToHexString(a)}, KVM {Convert.ToHexString(b)}");
    }

    private static void Value(StringBuilder text, string name, ulong ours, ulong theirs)
    {
        if (ours != theirs)
            text.Append(System.Globalization.CultureInfo.InvariantCulture, $", {name} 0x{ours:X}, KVM 0x{theirs:X}");
    }
}
