using System.Runtime.CompilerServices;
using VirtPS.Sdk.Cpu;

namespace VirtPS.Emulation;

/// <summary>Places in the XSAVE image that is the guest's x87 and vector state (SDM Vol. 1 table 13-1).</summary>
internal static unsafe class VectorFile
{
    public const int Fcw = 0, Fsw = 2, Ftw = 4, Fop = 6, Fip = 8, Fdp = 16, Mxcsr = 24, St = 32, Xmm = 160, YmmHigh = VcpuState.YmmHighOffset,
        Opmask = VcpuState.OpmaskOffset, ZmmHigh = VcpuState.ZmmHighOffset, HighZmm = VcpuState.HighZmmOffset, LegacySize = 416, HeaderOffset = 512;

    /// <summary>Bits of MXCSR that exist; writing another one is #GP(0). DAZ is offered: every x64 host has it.</summary>
    public const uint MxcsrMask = 0xFFFF;

    /// <summary>x87 status word: summary of unmasked exceptions, and busy, which mirrors it.</summary>
    public const ushort ErrorSummary = 0x8080;

    /// <summary>Masks in the x87 control word, and flags in the status word.</summary>
    public const ushort X87Exceptions = 0x3F;

    /// <summary>x87 control word after FNINIT.</summary>
    public const ushort FcwDefault = 0x37F;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static byte* XmmAt(VcpuState* s, int n) => s->Xsave + Xmm + 16 * n;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static byte* YmmHighAt(VcpuState* s, int n) => s->Xsave + YmmHigh + 16 * n;

    /// <summary>Bits 256–511 of ZMM<paramref name="n"/>, below 16.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static byte* ZmmHighAt(VcpuState* s, int n) => s->Xsave + ZmmHigh + 32 * n;

    /// <summary>ZMM<paramref name="n"/>, from 16 on.</summary>
    public static byte* HighZmmAt(VcpuState* s, int n) => s->Xsave + HighZmm + 64 * (n - 16);

    public static ref ulong OpmaskOf(VcpuState* s, int n) => ref *(ulong*)(s->Xsave + Opmask + 8 * n);

    /// <summary>All 64 bytes of a vector register.</summary>
    public static void GetZmm(VcpuState* s, int n, byte* value)
    {
        if (n >= 16)
        {
            Unsafe.CopyBlock(value, HighZmmAt(s, n), 64);
            return;
        }

        Unsafe.CopyBlock(value, XmmAt(s, n), 16);
        Unsafe.CopyBlock(value + 16, YmmHighAt(s, n), 16);
        Unsafe.CopyBlock(value + 32, ZmmHighAt(s, n), 32);
    }

    public static void SetZmm(VcpuState* s, int n, byte* value)
    {
        if (n >= 16)
        {
            Unsafe.CopyBlock(HighZmmAt(s, n), value, 64);
            return;
        }

        Unsafe.CopyBlock(XmmAt(s, n), value, 16);
        Unsafe.CopyBlock(YmmHighAt(s, n), value + 16, 16);
        Unsafe.CopyBlock(ZmmHighAt(s, n), value + 32, 32);
    }

    public static ref ushort FcwOf(VcpuState* s) => ref *(ushort*)(s->Xsave + Fcw);

    public static ref ushort FswOf(VcpuState* s) => ref *(ushort*)(s->Xsave + Fsw);

    /// <summary>The abridged tag byte: a bit per physical register, set when it is not empty.</summary>
    public static ref byte FtwOf(VcpuState* s) => ref s->Xsave[Ftw];

    public static ref uint MxcsrOf(VcpuState* s) => ref *(uint*)(s->Xsave + Mxcsr);

    public static int Top(VcpuState* s) => FswOf(s) >> 11 & 7;

    /// <summary>
    /// Sets TOP while every value stays in its physical register. The image holds registers in stack order, so they move in it.
    /// </summary>
    public static void SetTop(VcpuState* s, int top)
    {
        int old = Top(s);
        FswOf(s) = (ushort)(FswOf(s) & ~0x3800 | top << 11);
        if (old == top)
            return;
        byte* copy = stackalloc byte[128];
        byte* file = s->Xsave + St;
        Unsafe.CopyBlock(copy, file, 128);
        for (int i = 0; i < 8; i++)
            Unsafe.CopyBlock(file + 16 * i, copy + 16 * (i + top - old & 7), 16);
    }

    /// <summary>Makes ES and B say whether an unmasked exception is pending, after FCW or FSW was loaded.</summary>
    public static void UpdateErrorSummary(VcpuState* s)
    {
        ushort fsw = FswOf(s);
        bool pending = (fsw & ~FcwOf(s) & 0x3F) != 0;
        FswOf(s) = (ushort)(pending ? fsw | ErrorSummary : fsw & ~ErrorSummary);
    }

    /// <summary>What an MMX instruction does to the x87 state (SDM Vol. 3A table 12-2): TOP = 0, all registers valid.</summary>
    public static void EnterMmx(VcpuState* s)
    {
        SetTop(s, 0);
        FtwOf(s) = 0xFF;
    }
}
