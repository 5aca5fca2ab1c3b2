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

    /// <summary>AVX-512 as x86-64-v4 defines it: F, CD, BW, DQ and VL together, with the operating system saving ZMM and mask registers.</summary>
    public bool Avx512 { get; init; }
    public bool Avx512Ifma { get; init; }
    public bool Avx512Vbmi { get; init; }
    public bool Avx512Vbmi2 { get; init; }
    public bool Avx512Vnni { get; init; }
    public bool Avx512Bitalg { get; init; }
    public bool Avx512Vpopcntdq { get; init; }
    public bool Avx512Vp2intersect { get; init; }
    public bool Avx512Bf16 { get; init; }
    public bool AvxVnni { get; init; }
    public bool Gfni { get; init; }
    public bool Vaes { get; init; }
    public bool Vpclmulqdq { get; init; }

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
        CpuidFeature.AVX512F or CpuidFeature.AVX512CD or CpuidFeature.AVX512BW or CpuidFeature.AVX512DQ or CpuidFeature.AVX512VL => Avx512,
        CpuidFeature.AVX512_IFMA => Avx512Ifma,
        CpuidFeature.AVX512_VBMI => Avx512Vbmi,
        CpuidFeature.AVX512_VBMI2 => Avx512Vbmi2,
        CpuidFeature.AVX512_VNNI => Avx512Vnni,
        CpuidFeature.AVX512_BITALG => Avx512Bitalg,
        CpuidFeature.AVX512_VPOPCNTDQ => Avx512Vpopcntdq,
        CpuidFeature.AVX512_VP2INTERSECT => Avx512Vp2intersect,
        CpuidFeature.AVX512_BF16 => Avx512Bf16,
        CpuidFeature.AVX_VNNI => AvxVnni,
        CpuidFeature.GFNI => Gfni,
        CpuidFeature.VAES => Vaes,
        CpuidFeature.VPCLMULQDQ => Vpclmulqdq,
        _ => false,
    };

    /// <summary>The same host as if it were of an older level: what a level is defined by (System V ABI for x86-64, "micro-architecture levels"), and what came with it, is taken away.</summary>
    public HostFeatures LimitedTo(CpuLevel level)
    {
        HostFeatures h = this;
        if (level < CpuLevel.V4)
            h = h.WithoutAvx512();
        if (level < CpuLevel.V3)
            h = h with { Avx = false, Avx2 = false, Fma = false, F16c = false, Sha = false, Bmi1 = false, Bmi2 = false, Lzcnt = false, Movbe = false, Adx = false, Xsave = false };
        if (level < CpuLevel.V2)
            h = h with { Sse3 = false, Ssse3 = false, Sse41 = false, Sse42 = false, Popcnt = false, Aes = false, Pclmulqdq = false };
        return h;
    }

    private HostFeatures WithoutAvx512() => this with
    {
        Avx512 = false, Avx512Ifma = false, Avx512Vbmi = false, Avx512Vbmi2 = false, Avx512Vnni = false, Avx512Bitalg = false, Avx512Vpopcntdq = false, Avx512Vp2intersect = false,
        Avx512Bf16 = false, AvxVnni = false, Gfni = false, Vaes = false, Vpclmulqdq = false,
    };

    private static HostFeatures Detect()
    {
        // The generated code has only been written for 64-bit processes on x64.
        if (RuntimeInformation.ProcessArchitecture != Architecture.X64 || !X86Base.IsSupported)
            return new HostFeatures();
        (int last7, int ebx7, int ecx7, int edx7) = X86Base.CpuId(0, 0).Eax >= 7 ? X86Base.CpuId(7, 0) : default;
        int eax71 = last7 >= 1 ? X86Base.CpuId(7, 1).Eax : 0;
        (_, _, int ecx1, _) = X86Base.CpuId(1, 0);
        (_, _, int ecx81, _) = X86Base.CpuId(unchecked((int)0x80000001), 0);
        bool avx = Avx_IsUsable, avx512 = avx && Avx512_IsUsable;
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
            Avx512 = avx512,
            Avx512Ifma = avx512 && Bit(ebx7, 21),
            Avx512Vbmi = avx512 && Bit(ecx7, 1),
            Avx512Vbmi2 = avx512 && Bit(ecx7, 6),
            Avx512Vnni = avx512 && Bit(ecx7, 11),
            Avx512Bitalg = avx512 && Bit(ecx7, 12),
            Avx512Vpopcntdq = avx512 && Bit(ecx7, 14),
            Avx512Vp2intersect = avx512 && Bit(edx7, 8),
            Avx512Bf16 = avx512 && Bit(eax71, 5),
            AvxVnni = avx && Bit(eax71, 4),
            Gfni = avx && Bit(ecx7, 8),
            Vaes = avx && Bit(ecx7, 9),
            Vpclmulqdq = avx && Bit(ecx7, 10),
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

    private static bool Avx512_IsUsable => Avx512F.IsSupported && Avx512F.VL.IsSupported && Avx512BW.IsSupported && Avx512DQ.IsSupported && Avx512CD.IsSupported;

    private static bool Bit(int value, int bit) => (value >> bit & 1) != 0;
}
