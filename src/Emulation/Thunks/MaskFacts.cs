using System.Globalization;
using Iced.Intel;

namespace VirtPS.Emulation.Thunks;

/// <summary>How an AVX-512 instruction's mask bears on its memory operand (SDM Vol. 2A §2.7, "exception types": those with the letters NF suppress no faults).</summary>
internal static unsafe class MaskFacts
{
    public static void Describe(ThunkInfo* info, in Instruction n)
    {
        if (n.OpMask == Register.None || info->MemoryIndex == 0xFF)
            return;
        if (SuppressesNothing(n))
        {
            if (!info->Has(ThunkFlags.MemoryWrite))
                return;
            info->Flags |= ThunkFlags.FaultsUnmasked;
        }

        bool named = n.Mnemonic.ToString().Contains("broadcast", StringComparison.Ordinal);
        int element = ElementSize(n), size = named ? n.Op0Register.GetSize() : n.IsBroadcast ? BroadcastSize(n) : n.MemorySize.GetSize();
        info->MaskedSize = (byte)element;
        info->MaskedCount = (byte)(size / element);
        info->MaskedMemory = n.Mnemonic switch
        {
            Mnemonic.Vpcompressb or Mnemonic.Vpcompressw or Mnemonic.Vpcompressd or Mnemonic.Vpcompressq or Mnemonic.Vcompressps or Mnemonic.Vcompresspd
                or Mnemonic.Vpexpandb or Mnemonic.Vpexpandw or Mnemonic.Vpexpandd or Mnemonic.Vpexpandq or Mnemonic.Vexpandps or Mnemonic.Vexpandpd => MaskedMemory.Packed,
            _ when named || n.IsBroadcast => MaskedMemory.Repeated,
            _ => MaskedMemory.Elements,
        };
    }

    /// <summary>Bytes of the vector that one element in memory stands for, which may be wider than any register operand (VCVTPD2PS xmm, m64bcst); Iced has them in the name alone.</summary>
    private static int BroadcastSize(in Instruction n)
    {
        string name = n.MemorySize.ToString();
        return int.Parse(name.AsSpan(9, name.IndexOf('_') - 9), CultureInfo.InvariantCulture) / 8;
    }

    // The masked element is the result's, which is not always what Iced calls the memory's.
    private static int ElementSize(in Instruction n) => n.Mnemonic switch
    {
        Mnemonic.Vpdpbusd or Mnemonic.Vpdpbusds or Mnemonic.Vpdpwssd or Mnemonic.Vpdpwssds or Mnemonic.Vdpbf16ps => 4,
        Mnemonic.Vpshufbitqmb => 1,
        Mnemonic.Vpmuludq or Mnemonic.Vpmuldq => 8,
        Mnemonic.Vbroadcastf32x2 or Mnemonic.Vbroadcasti32x2 or Mnemonic.Vbroadcastf32x4 or Mnemonic.Vbroadcasti32x4 or Mnemonic.Vbroadcastf32x8 or Mnemonic.Vbroadcasti32x8 => 4,
        Mnemonic.Vbroadcastf64x2 or Mnemonic.Vbroadcasti64x2 or Mnemonic.Vbroadcastf64x4 or Mnemonic.Vbroadcasti64x4 => 8,
        _ => Math.Max(1, n.MemorySize.GetElementSize()),
    };

    private static bool SuppressesNothing(in Instruction n)
    {
        if (n.Mnemonic == Mnemonic.Vpshufbitqmb)
            return false;
        string name = n.Mnemonic.ToString();
        foreach (string prefix in s_noSuppression)
        {
            if (name.StartsWith(prefix, StringComparison.Ordinal))
                return true;
        }

        // A shift count in memory is read whole; shifts by an immediate mask what they shift.
        return name.StartsWith("Vpsr", StringComparison.Ordinal) || name.StartsWith("Vpsl", StringComparison.Ordinal)
            ? name[^2] is not 'v' && n.OpCount == 3 && n.GetOpKind(2) == OpKind.Memory : false;
    }

    private static readonly string[] s_noSuppression =
    [
        "Vpunpck", "Vunpck", "Vpack", "Vpshufb", "Vpshufd", "Vpshufhw", "Vpshuflw", "Vshuf", "Vperm", "Valign", "Vpalignr", "Vpmaddubsw", "Vpmaddwd", "Vdbpsadbw", "Vpmultishiftqb", "Vgf2p8affine", "Vpconflict",
        "Vcvtne2ps2bf16", "Vmovddup", "Vmovshdup", "Vmovsldup", "Vinsert", "Vextract",
    ];
}
