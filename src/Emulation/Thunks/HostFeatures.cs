using System.Runtime.InteropServices;
using System.Runtime.Intrinsics.X86;
using Iced.Intel;

namespace VirtPS.Emulation.Thunks;

/// <summary>
/// What the host's silicon can lend the guest. The CPUID policy offers no vector feature that is false here, and the instructions of such a feature
/// are #UD. On hosts that are not x64 everything is false. Immutable.
/// </summary>
public sealed record HostFeatures
{
    /// <summary>x87, MMX, SSE and SSE2: every x64 host.</summary>
    public bool Sse2 { get; init; }
    public bool Sse3 { get; init; }
    public bool Ssse3 { get; init; }
    public bool Sse41 { get; init; }
    public bool Sse42 { get; init; }

    /// <summary>AVX, with the operating system saving the upper halves.</summary>
    public bool Avx { get; init; }
    public bool Avx2 { get; init; }
    public bool Fma { get; init; }
    public bool F16c { get; init; }
    public bool Aes { get; init; }
    public bool Pclmulqdq { get; init; }
    public bool Sha { get; init; }

    /// <summary>What generated code (docs/TRANSLATION.md) may use besides; the emulator has all of it without the host's help, too.</summary>
    public bool Popcnt { get; init; }
    public bool Bmi1 { get; init; }
    public bool Bmi2 { get; init; }
    public bool Lzcnt { get; init; }
    public bool Movbe { get; init; }
    public bool Adx { get; init; }

    /// <summary>LAHF and SAHF in 64-bit mode, which the first x64 processors lack.</summary>
    public bool LahfSahf { get; init; }

    /// <summary>The host's XSAVE instructions are usable (how x87 state gets in and out; else FXSAVE).</summary>
    public bool Xsave { get; init; }
    public bool Cmpxchg16b { get; init; }

    /// <summary>What this process runs on.</summary>
    public static HostFeatures Current { get; } = Detect();

    /// <summary>Whether the emulator implements the feature by generated code or by its own, on this host.</summary>
    public bool Offers(CpuidFeature feature) => feature switch
    {
        CpuidFeature.FPU or CpuidFeature.FPU287 or CpuidFeature.FPU387 or CpuidFeature.MMX or CpuidFeature.SSE or CpuidFeature.SSE2
            or CpuidFeature.FXSR or CpuidFeature.XSAVE or CpuidFeature.XSAVEOPT or CpuidFeature.CMOV => Sse2,
        CpuidFeature.SSE3 => Sse3,
        CpuidFeature.SSSE3 => Ssse3,
        CpuidFeature.SSE4_1 => Sse41,
        CpuidFeature.SSE4_2 => Sse42,
        CpuidFeature.AVX => Avx,
        CpuidFeature.AVX2 => Avx2,
        CpuidFeature.FMA => Fma,
        CpuidFeature.F16C => F16c,
        CpuidFeature.AES => Aes,
        CpuidFeature.PCLMULQDQ => Pclmulqdq,
        CpuidFeature.SHA => Sha,
        _ => false,
    };

    /// <summary>The same host as if it were of an older level: what a level is defined by (System V ABI for x86-64, "micro-architecture levels"), and what came with it, is taken away.</summary>
    public HostFeatures LimitedTo(CpuLevel level)
    {
        HostFeatures h = this;
        if (level < CpuLevel.V3)
            h = h with { Avx = false, Avx2 = false, Fma = false, F16c = false, Sha = false, Bmi1 = false, Bmi2 = false, Lzcnt = false, Movbe = false, Adx = false, Xsave = false };
        if (level < CpuLevel.V2)
            h = h with { Sse3 = false, Ssse3 = false, Sse41 = false, Sse42 = false, Popcnt = false, Aes = false, Pclmulqdq = false };
        return h;
    }

    private static HostFeatures Detect()
    {
        // The generated code has only been written for 64-bit processes on x64.
        if (RuntimeInformation.ProcessArchitecture != Architecture.X64 || !X86Base.IsSupported)
            return new HostFeatures();
        (_, int ebx7, _, _) = X86Base.CpuId(0, 0).Eax >= 7 ? X86Base.CpuId(7, 0) : default;
        (_, _, int ecx1, _) = X86Base.CpuId(1, 0);
        (_, _, int ecx81, _) = X86Base.CpuId(unchecked((int)0x80000001), 0);
        bool avx = Avx_IsUsable;
        return new HostFeatures
        {
            Sse2 = true,
            Sse3 = Bit(ecx1, 0),
            Ssse3 = Bit(ecx1, 9),
            Sse41 = Bit(ecx1, 19),
            Sse42 = Bit(ecx1, 20),
            Aes = Bit(ecx1, 25),
            Pclmulqdq = Bit(ecx1, 1),
            Cmpxchg16b = Bit(ecx1, 13),
            Xsave = Bit(ecx1, 26) && Bit(ecx1, 27),
            Avx = avx,
            Fma = avx && Bit(ecx1, 12),
            F16c = avx && Bit(ecx1, 29),
            Avx2 = avx && Bit(ebx7, 5),
            Sha = Bit(ebx7, 29),
            Popcnt = Bit(ecx1, 23),
            Movbe = Bit(ecx1, 22),
            Bmi1 = Bit(ebx7, 3),
            Bmi2 = Bit(ebx7, 8),
            Adx = Bit(ebx7, 19),
            Lzcnt = Bit(ecx81, 5),
            LahfSahf = Bit(ecx81, 0),
        };
    }

    // The runtime asks XGETBV, which managed code cannot.
    private static bool Avx_IsUsable => System.Runtime.Intrinsics.X86.Avx.IsSupported;

    private static bool Bit(int value, int bit) => (value >> bit & 1) != 0;
}
