using Iced.Intel;
using VirtPS.Emulation.Thunks;

namespace VirtPS.Emulation;

/// <summary>The instruction forms of the x87, MMX, SSE, AVX, AVX-512 and XSAVE families, from Iced's tables.</summary>
internal static class VectorCodes
{
    /// <summary>Every form whose features the host lends, in Iced's order.</summary>
    public static IEnumerable<Code> All(HostFeatures host)
    {
        foreach (Code code in Enum.GetValues<Code>())
        {
            if (IsOffered(code, host))
                yield return code;
        }
    }

    // Without OpCodeInfo: its tables take tens of milliseconds to make, which every start of a machine would pay.
    private static bool IsOffered(Code code, HostFeatures host)
    {
        if (code.Encoding() is not (EncodingKind.Legacy or EncodingKind.VEX or EncodingKind.EVEX) || IsInteger(code.Mnemonic()) || IsWithWait(code.Mnemonic()))
            return false;
        bool vector = false;
        foreach (CpuidFeature feature in code.CpuidFeatures())
        {
            if (!host.Offers(feature))
                return false;
            vector |= feature != CpuidFeature.CMOV;
        }

        return vector;
    }

    /// <summary>A decoder sees WAIT and FNxxx as two instructions; these forms exist for assemblers.</summary>
    private static bool IsWithWait(Mnemonic m) => m is Mnemonic.Finit or Mnemonic.Fclex or Mnemonic.Feni or Mnemonic.Fdisi or Mnemonic.Fsetpm or Mnemonic.Fstcw
        or Mnemonic.Fstsw or Mnemonic.Fstenv or Mnemonic.Fsave;

    /// <summary>Came with SSE but is no vector instruction: the integer unit's.</summary>
    private static bool IsInteger(Mnemonic m) => m is Mnemonic.Prefetchnta or Mnemonic.Prefetcht0 or Mnemonic.Prefetcht1 or Mnemonic.Prefetcht2
        or Mnemonic.Sfence or Mnemonic.Lfence or Mnemonic.Mfence or Mnemonic.Movnti or Mnemonic.Crc32 or Mnemonic.Pause or Mnemonic.Clflush or Mnemonic.Xsetbv or Mnemonic.Xgetbv;
}
