using Iced.Intel;
using VirtPS.Emulation.Thunks;

namespace VirtPS.Opcodes;

/// <summary>What of the processor's vector state takes part: AVX-512's only where the host has it.</summary>
internal static class HostVectors
{
    /// <summary>Why AVX-512 is left out; null when it takes part.</summary>
    public static string? WhyNarrow { get; } = HostFeatures.Current.Avx512 ? null : "the host does not have AVX-512";

    /// <summary><see cref="MachineImage.Wide"/> or <see cref="MachineImage.Narrow"/>.</summary>
    public static ulong Components => WhyNarrow == null ? MachineImage.Wide : MachineImage.Narrow;

    /// <summary>The form names ZMM or mask registers, or more than sixteen of the others.</summary>
    public static bool IsWide(Code code)
    {
        if (code.Encoding() == EncodingKind.EVEX)
            return true;
        foreach (CpuidFeature feature in code.CpuidFeatures())
        {
            if (feature is CpuidFeature.AVX512F or CpuidFeature.AVX512DQ or CpuidFeature.AVX512BW)
                return true;
        }

        return false;
    }

    /// <summary>Every feature that the form needs is one that the emulator borrows from this host. Those of Knights Corner, which have the same names, are nobody's.</summary>
    public static bool IsBorrowed(Code code)
    {
        foreach (CpuidFeature feature in code.CpuidFeatures())
        {
            if (!HostFeatures.Current.Offers(feature))
                return false;
        }

        return code.Encoding() is EncodingKind.Legacy or EncodingKind.VEX or EncodingKind.EVEX;
    }
}
