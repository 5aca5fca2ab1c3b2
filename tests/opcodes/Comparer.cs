using System.Text;
using VirtPS.Emulation;
using VirtPS.Sdk.Cpu;
using VirtPS.X86;

namespace VirtPS.Opcodes;

/// <summary>Compares what the two sides left behind.</summary>
internal static unsafe class Comparer
{
    private static readonly string[] s_gprs = ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"];

    /// <summary>Null when they agree; else what differs, native first.</summary>
    public static string? Compare(in MachineImage native, in MachineImage guest, ulong undefinedFlags, int bits, bool faulted = false)
    {
        fixed (MachineImage* n = &native, g = &guest)
        {
            // A fault shows RF as well.
            ulong mask = (Rflags.Status | Rflags.DF | (faulted ? Rflags.RF : 0)) & ~undefinedFlags;
            bool same = ((n->Flags ^ g->Flags) & mask) == 0
                && SameRegisters(n, g, bits)
                && SameBytes(n, g, 0, 6) && SameBytes(n, g, 24, 4) && SameBytes(n, g, 32, 384) && SameBytes(n, g, VectorFile.YmmHigh, 256)
                && SameBytes(n, g, VcpuState.OpmaskOffset, VcpuState.XsaveSize - VcpuState.OpmaskOffset);
            return same ? null : Describe(n, g, mask, bits);
        }
    }

    // In compatibility mode only the lower halves of eight registers can be seen.
    private static bool SameRegisters(MachineImage* n, MachineImage* g, int bits)
    {
        for (int i = 0; i < bits / 4; i++)
        {
            if (bits == 64 ? n->Gpr[i] != g->Gpr[i] : (uint)n->Gpr[i] != (uint)g->Gpr[i])
                return false;
        }

        return true;
    }

    // FOP, FIP, FDP (6–23) are left out: vendors differ in when they are updated. MXCSR_MASK and the header are the host's.
    private static bool SameBytes(MachineImage* n, MachineImage* g, int offset, int length) =>
        new ReadOnlySpan<byte>(n->Xsave + offset, length).SequenceEqual(new ReadOnlySpan<byte>(g->Xsave + offset, length));

    private static string Describe(MachineImage* n, MachineImage* g, ulong mask, int bits)
    {
        var text = new StringBuilder();
        if (((n->Flags ^ g->Flags) & mask) != 0)
            text.AppendLine($"    flags {n->Flags & mask:X} {g->Flags & mask:X} (differ in {(n->Flags ^ g->Flags) & mask:X})");
        for (int i = 0; i < bits / 4; i++)
        {
            if (bits == 64 ? n->Gpr[i] != g->Gpr[i] : (uint)n->Gpr[i] != (uint)g->Gpr[i])
                text.AppendLine($"    {s_gprs[i]} {n->Gpr[i]:X16} {g->Gpr[i]:X16}");
        }

        Field(text, n, g, "fcw", VectorFile.Fcw, 2);
        Field(text, n, g, "fsw", VectorFile.Fsw, 2);
        Field(text, n, g, "ftw", VectorFile.Ftw, 1);
        Field(text, n, g, "mxcsr", VectorFile.Mxcsr, 4);
        for (int i = 0; i < 8; i++)
            Field(text, n, g, $"st{i}", VectorFile.St + 16 * i, 16);
        for (int i = 0; i < 16; i++)
            Field(text, n, g, $"xmm{i}", VectorFile.Xmm + 16 * i, 16);
        for (int i = 0; i < 16; i++)
            Field(text, n, g, $"ymm{i} high", VectorFile.YmmHigh + 16 * i, 16);
        DescribeWide(text, n, g);
        return text.ToString();
    }

    private static void DescribeWide(StringBuilder text, MachineImage* n, MachineImage* g)
    {
        for (int i = 0; i < 8; i++)
            Field(text, n, g, $"k{i}", VcpuState.OpmaskOffset + 8 * i, 8);
        for (int i = 0; i < 16; i++)
            Field(text, n, g, $"zmm{i} high", VcpuState.ZmmHighOffset + 32 * i, 32);
        for (int i = 0; i < 16; i++)
            Field(text, n, g, $"zmm{16 + i}", VcpuState.HighZmmOffset + 64 * i, 64);
    }

    private static void Field(StringBuilder text, MachineImage* n, MachineImage* g, string name, int offset, int length)
    {
        if (!SameBytes(n, g, offset, length))
            text.AppendLine($"    {name} {Hex(n->Xsave + offset, length)} {Hex(g->Xsave + offset, length)}");
    }

    private static string Hex(byte* p, int length)
    {
        byte[] bytes = new ReadOnlySpan<byte>(p, length).ToArray();
        Array.Reverse(bytes);
        return Convert.ToHexString(bytes);
    }

    /// <summary>Compares a page; ignored ranges are made equal in the guest's copy first.</summary>
    public static string? ComparePage(string name, byte* native, byte* guest, IReadOnlyList<(ulong Address, int Length)> ignored)
    {
        foreach ((ulong address, int length) in ignored)
        {
            // A range may lie in two pages.
            long from = Math.Max((long)(address - (ulong)native), 0), to = Math.Min((long)(address - (ulong)native) + length, Layout.Page);
            if (from < to)
                Buffer.MemoryCopy(native + from, guest + from, to - from, to - from);
        }

        var n = new ReadOnlySpan<byte>(native, Layout.Page);
        var g = new ReadOnlySpan<byte>(guest, Layout.Page);
        int common = n.CommonPrefixLength(g);
        if (common == Layout.Page)
            return null;
        int shown = Math.Min(32, Layout.Page - common);
        return $"    {name}+0x{common:X} {Convert.ToHexString(n.Slice(common, shown))} {Convert.ToHexString(g.Slice(common, shown))}\n";
    }
}
