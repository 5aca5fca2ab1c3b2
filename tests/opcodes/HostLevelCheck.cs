using Iced.Intel;
using VirtPS.Emulation;

namespace VirtPS.Opcodes;

/// <summary>Disassembles generated code: no instruction of it, the guest's own renamed ones included, may need more than a processor of level x86-64-v2 has.</summary>
internal static unsafe class HostLevelCheck
{
    private static readonly HashSet<CpuidFeature> s_v2 =
    [
        CpuidFeature.INTEL8086, CpuidFeature.INTEL186, CpuidFeature.INTEL286, CpuidFeature.INTEL386, CpuidFeature.INTEL486, CpuidFeature.X64, CpuidFeature.CMOV, CpuidFeature.FPU, CpuidFeature.MMX,
        CpuidFeature.CX8, CpuidFeature.CMPXCHG16B, CpuidFeature.SSE, CpuidFeature.SSE2, CpuidFeature.SSE3, CpuidFeature.SSSE3, CpuidFeature.SSE4_1, CpuidFeature.SSE4_2, CpuidFeature.POPCNT,
        CpuidFeature.AES, CpuidFeature.PCLMULQDQ, CpuidFeature.MULTIBYTENOP, CpuidFeature.PAUSE,
    ];

    /// <summary>For <see cref="EngineOptions"/>.AfterTranslation: throws for an instruction that an x86-64-v2 host does not have. <paramref name="block"/> is the <see cref="Block"/>'s address.</summary>
    public static void Check(SoftVcpu cpu, nint block)
    {
        TranslationCache cache = cpu.Translations!;
        ref TranslatedBlock t = ref cache.At(((Block*)block)->Translation);
        Check(cache, t.Code, t.Code + t.Size);
        Check(cache, t.Unpinned, t.UnpinnedEnd);
        if (((Block*)block)->Translation != 1)
            return;
        // The stubs; zeros fill up to the first block.
        int end = t.Code;
        while (cache.Start[end - 1] == 0)
            end--;
        Check(cache, 0, end);
    }

    private static void Check(TranslationCache cache, int from, int to)
    {
        var reader = new ByteArrayCodeReader(new ReadOnlySpan<byte>(cache.Start + from, to - from).ToArray());
        var decoder = Iced.Intel.Decoder.Create(64, reader);
        while (reader.CanReadByte)
        {
            decoder.Decode(out Instruction i);
            if (i.IsInvalid || !Array.TrueForAll(i.CpuidFeatures, s_v2.Contains))
                throw new InvalidOperationException($"An x86-64-v2 host does not have {i.Code} ({string.Join(", ", i.CpuidFeatures)}), generated for it at 0x{from:X}.");
        }
    }
}
