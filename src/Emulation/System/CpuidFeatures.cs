using VirtPS.Emulation.Thunks;

namespace VirtPS.Emulation;

/// <summary>The x86-64 psABI's micro-architecture levels, as choices of the <c>cpu</c> option.</summary>
public enum CpuLevel
{
    /// <summary>x86-64: SSE2.</summary>
    Baseline,

    /// <summary>x86-64-v2: up to SSE4.2, POPCNT, CMPXCHG16B.</summary>
    V2,

    /// <summary>x86-64-v3: AVX2, FMA, BMI, with AES, SHA, RDRAND and the newer supervisor features.</summary>
    V3,

    /// <summary>x86-64-v4: AVX-512 with what the host has of its extensions.</summary>
    V4,
}

/// <summary>Register of a CPUID answer.</summary>
internal enum CpuidRegister
{
    Eax, Ebx, Ecx, Edx,
}

/// <summary>One feature flag: where it stands, from which level on it is offered, what the host must have for it, and the sub-leaf.</summary>
internal readonly record struct CpuidFeatureBit(
    uint Leaf, CpuidRegister Register, int Bit, string Name, CpuLevel Level = CpuLevel.Baseline, Func<HostFeatures, bool>? Needs = null, uint SubLeaf = 0);

/// <summary>Every feature flag that the model offers (SDM Vol. 2A CPUID; AMD APM Vol. 3 appendix E). What is not here is not offered.</summary>
internal static class CpuidFeatures
{
    public static IReadOnlyList<CpuidFeatureBit> All { get; } =
    [
        .. Flags(1, CpuidRegister.Edx, CpuLevel.Baseline, null, (1, "VME"), (2, "DE"), (3, "PSE"), (4, "TSC"), (5, "MSR"), (6, "PAE"), (7, "MCE"), (8, "CX8"),
            (9, "APIC"), (11, "SEP"), (12, "MTRR"), (13, "PGE"), (14, "MCA"), (15, "CMOV"), (16, "PAT"), (17, "PSE36"), (19, "CLFSH")),
        .. Flags(1, CpuidRegister.Edx, CpuLevel.Baseline, h => h.Sse2, (0, "FPU"), (23, "MMX"), (24, "FXSR"), (25, "SSE"), (26, "SSE2")),
        .. Flags(1, CpuidRegister.Ecx, CpuLevel.Baseline, null, (17, "PCID"), (21, "X2APIC"), (24, "TSC_DEADLINE"), (30, "RDRAND"), (31, "HYPERVISOR")),
        .. Flags(1, CpuidRegister.Ecx, CpuLevel.Baseline, h => h.Sse2, (26, "XSAVE")),
        .. Flags(1, CpuidRegister.Ecx, CpuLevel.V2, null, (23, "POPCNT")),
        new(1, CpuidRegister.Ecx, 13, "CMPXCHG16B", CpuLevel.V2, h => h.Cmpxchg16b),
        new(1, CpuidRegister.Ecx, 0, "SSE3", CpuLevel.V2, h => h.Sse3),
        new(1, CpuidRegister.Ecx, 9, "SSSE3", CpuLevel.V2, h => h.Ssse3),
        new(1, CpuidRegister.Ecx, 19, "SSE4_1", CpuLevel.V2, h => h.Sse41),
        new(1, CpuidRegister.Ecx, 20, "SSE4_2", CpuLevel.V2, h => h.Sse42),
        new(1, CpuidRegister.Ecx, 1, "PCLMULQDQ", CpuLevel.V2, h => h.Pclmulqdq),
        new(1, CpuidRegister.Ecx, 25, "AES", CpuLevel.V2, h => h.Aes),
        new(1, CpuidRegister.Ecx, 12, "FMA", CpuLevel.V3, h => h.Fma),
        new(1, CpuidRegister.Ecx, 22, "MOVBE", CpuLevel.V3),
        new(1, CpuidRegister.Ecx, 28, "AVX", CpuLevel.V3, h => h.Avx),
        new(1, CpuidRegister.Ecx, 29, "F16C", CpuLevel.V3, h => h.F16c),

        .. Flags(6, CpuidRegister.Eax, CpuLevel.Baseline, null, (2, "ARAT")),

        // ERMS and FSRM: string instructions are the fastest copy an interpreter has.
        .. Flags(7, CpuidRegister.Ebx, CpuLevel.Baseline, null, (0, "FSGSBASE"), (1, "TSC_ADJUST"), (7, "SMEP"), (9, "ERMS"), (10, "INVPCID"), (18, "RDSEED"), (20, "SMAP")),
        // The x87 state keeps offsets only: FCS and FDS are saved as zero.
        .. Flags(7, CpuidRegister.Ebx, CpuLevel.Baseline, null, (13, "FCS_FDS_DEPRECATED")),
        .. Flags(7, CpuidRegister.Ebx, CpuLevel.V3, null, (3, "BMI1"), (8, "BMI2"), (19, "ADX"), (23, "CLFLUSHOPT"), (24, "CLWB")),
        new(7, CpuidRegister.Ebx, 5, "AVX2", CpuLevel.V3, h => h.Avx2),
        new(7, CpuidRegister.Ebx, 29, "SHA", CpuLevel.V3, h => h.Sha),
        .. Flags(7, CpuidRegister.Ecx, CpuLevel.Baseline, null, (2, "UMIP"), (22, "RDPID")),
        // SERIALIZE: without it Linux makes an IRET to the next instruction of it, a hundred thousand times while it boots.
        .. Flags(7, CpuidRegister.Edx, CpuLevel.Baseline, null, (4, "FSRM"), (14, "SERIALIZE")),
        .. Flags(7, CpuidRegister.Ebx, CpuLevel.V4, h => h.Avx512, (16, "AVX512F"), (17, "AVX512DQ"), (28, "AVX512CD"), (30, "AVX512BW"), (31, "AVX512VL")),
        new(7, CpuidRegister.Ebx, 21, "AVX512_IFMA", CpuLevel.V4, h => h.Avx512Ifma),
        new(7, CpuidRegister.Ecx, 1, "AVX512_VBMI", CpuLevel.V4, h => h.Avx512Vbmi),
        new(7, CpuidRegister.Ecx, 6, "AVX512_VBMI2", CpuLevel.V4, h => h.Avx512Vbmi2),
        new(7, CpuidRegister.Ecx, 8, "GFNI", CpuLevel.V4, h => h.Gfni),
        new(7, CpuidRegister.Ecx, 9, "VAES", CpuLevel.V4, h => h.Vaes),
        new(7, CpuidRegister.Ecx, 10, "VPCLMULQDQ", CpuLevel.V4, h => h.Vpclmulqdq),
        new(7, CpuidRegister.Ecx, 11, "AVX512_VNNI", CpuLevel.V4, h => h.Avx512Vnni),
        new(7, CpuidRegister.Ecx, 12, "AVX512_BITALG", CpuLevel.V4, h => h.Avx512Bitalg),
        new(7, CpuidRegister.Ecx, 14, "AVX512_VPOPCNTDQ", CpuLevel.V4, h => h.Avx512Vpopcntdq),
        new(7, CpuidRegister.Edx, 8, "AVX512_VP2INTERSECT", CpuLevel.V4, h => h.Avx512Vp2intersect),
        new(7, CpuidRegister.Eax, 4, "AVX_VNNI", CpuLevel.V4, h => h.AvxVnni, SubLeaf: 1),
        new(7, CpuidRegister.Eax, 5, "AVX512_BF16", CpuLevel.V4, h => h.Avx512Bf16, SubLeaf: 1),

        .. Flags(0x80000001, CpuidRegister.Edx, CpuLevel.Baseline, null, (1, "VME"), (2, "DE"), (3, "PSE"), (4, "TSC"), (5, "MSR"), (6, "PAE"), (7, "MCE"),
            (8, "CX8"), (9, "APIC"), (11, "SYSCALL"), (12, "MTRR"), (13, "PGE"), (14, "MCA"), (15, "CMOV"), (16, "PAT"), (17, "PSE36"), (20, "NX"),
            (26, "PDPE1GB"), (27, "RDTSCP"), (29, "LM")),
        .. Flags(0x80000001, CpuidRegister.Edx, CpuLevel.Baseline, h => h.Sse2, (0, "FPU"), (23, "MMX"), (24, "FXSR")),
        .. Flags(0x80000001, CpuidRegister.Ecx, CpuLevel.Baseline, null, (0, "LAHF64"), (8, "3DNOWPREFETCH"), (22, "TOPOEXT")),
        .. Flags(0x80000001, CpuidRegister.Ecx, CpuLevel.V3, null, (5, "ABM")),

        .. Flags(0x80000007, CpuidRegister.Edx, CpuLevel.Baseline, null, (8, "INVARIANT_TSC")),

        // An interpreter does not speculate: nothing is bypassed, no return-address predictor can be poisoned.
        .. Flags(0x80000008, CpuidRegister.Ebx, CpuLevel.Baseline, null, (26, "SSB_NO")),
        .. Flags(0x80000021, CpuidRegister.Eax, CpuLevel.Baseline, null, (2, "LFENCE_ALWAYS_SERIALIZING"), (6, "NULL_SELECTOR_CLEARS_BASE"), (8, "AUTO_IBRS"),
            (29, "SRSO_NO"), (30, "SRSO_USER_KERNEL_NO")),
    ];

    private static IEnumerable<CpuidFeatureBit> Flags(uint leaf, CpuidRegister register, CpuLevel level, Func<HostFeatures, bool>? needs,
        params (int Bit, string Name)[] flags) => flags.Select(f => new CpuidFeatureBit(leaf, register, f.Bit, f.Name, level, needs));
}
