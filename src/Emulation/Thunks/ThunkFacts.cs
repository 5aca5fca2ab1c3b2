using Iced.Intel;

namespace VirtPS.Emulation.Thunks;

/// <summary>What Iced's tables do not say about vector instructions.</summary>
internal static class ThunkFacts
{
    public static VectorClass ClassOf(in Instruction n)
    {
        if (n.Encoding == EncodingKind.EVEX)
            return VectorClass.Avx512;
        if (n.Encoding == EncodingKind.VEX)
            return IsMaskInstruction(n) ? VectorClass.Avx512 : VectorClass.Avx;
        foreach (CpuidFeature feature in n.Code.CpuidFeatures())
        {
            if (feature is CpuidFeature.FPU or CpuidFeature.FPU287 or CpuidFeature.FPU387)
                return VectorClass.X87;
        }

        // From memory, CVTPI2PD has nothing to do with MMX: it leaves the x87 state as it is and takes no x87 exception (SDM Vol. 2A, CVTPI2PD).
        bool mm = n.Mnemonic == Mnemonic.Cvtpi2ps, xmm = mm;
        for (int i = 0; i < n.OpCount; i++)
        {
            if (n.GetOpKind(i) != OpKind.Register)
                continue;
            mm |= n.GetOpRegister(i).IsMM();
            xmm |= n.GetOpRegister(i).IsXMM();
        }

        // CVTxx2PI from memory names no XMM register but is an SSE instruction.
        xmm |= n.Mnemonic is Mnemonic.Cvtps2pi or Mnemonic.Cvttps2pi or Mnemonic.Cvtpd2pi or Mnemonic.Cvttpd2pi;
        return !mm ? VectorClass.Sse : xmm ? VectorClass.SseMmx : VectorClass.Mmx;
    }

    /// <summary>KMOV, KAND and the like: VEX-encoded, and AVX-512's.</summary>
    private static bool IsMaskInstruction(in Instruction n)
    {
        for (int i = 0; i < n.OpCount; i++)
        {
            if (n.GetOpKind(i) == OpKind.Register && n.GetOpRegister(i).IsK())
                return true;
        }

        return false;
    }

    /// <summary>Legacy SSE faults on unaligned 16-byte operands but for the forms made for them; VEX only in the aligned forms (SDM Vol. 2A table 2-21).</summary>
    public static bool MustBeAligned(in Instruction n)
    {
        if (n.Encoding is EncodingKind.VEX or EncodingKind.EVEX)
        {
            return n.Mnemonic is Mnemonic.Vmovaps or Mnemonic.Vmovapd or Mnemonic.Vmovdqa or Mnemonic.Vmovdqa32 or Mnemonic.Vmovdqa64 or Mnemonic.Vmovntps or Mnemonic.Vmovntpd
                or Mnemonic.Vmovntdq or Mnemonic.Vmovntdqa;
        }

        return n.MemorySize.GetSize() == 16 && n.Mnemonic is not (Mnemonic.Movups or Mnemonic.Movupd or Mnemonic.Movdqu or Mnemonic.Lddqu)
            && !ReturnsIndex(n.Mnemonic) && !ReturnsMask(n.Mnemonic);
    }

    /// <summary>PCMPESTRI and PCMPESTRM: lengths in RAX and RDX.</summary>
    public static bool IsExplicitLengthCompare(Mnemonic m) => m is Mnemonic.Pcmpestri or Mnemonic.Pcmpestri64 or Mnemonic.Vpcmpestri or Mnemonic.Vpcmpestri64
        or Mnemonic.Pcmpestrm or Mnemonic.Pcmpestrm64 or Mnemonic.Vpcmpestrm or Mnemonic.Vpcmpestrm64;

    /// <summary>String compares that return an index in ECX.</summary>
    public static bool ReturnsIndex(Mnemonic m) => m is Mnemonic.Pcmpestri or Mnemonic.Pcmpestri64 or Mnemonic.Vpcmpestri or Mnemonic.Vpcmpestri64
        or Mnemonic.Pcmpistri or Mnemonic.Vpcmpistri;

    /// <summary>String compares that return a mask in XMM0.</summary>
    public static bool ReturnsMask(Mnemonic m) => m is Mnemonic.Pcmpestrm or Mnemonic.Pcmpestrm64 or Mnemonic.Vpcmpestrm or Mnemonic.Vpcmpestrm64
        or Mnemonic.Pcmpistrm or Mnemonic.Vpcmpistrm;

    /// <summary>
    /// Whether the instruction does floating-point arithmetic. Everything that is not known to only move bits or do integer work counts: loading MXCSR in vain costs
    /// time, leaving it out would be wrong.
    /// </summary>
    public static bool UsesMxcsr(Mnemonic m)
    {
        string name = m.ToString();
        if (name.StartsWith('K'))
            return false;
        if (name.StartsWith('V'))
            name = name[1..];
        name = name.ToUpperInvariant();
        if (name.StartsWith('P'))
            return false;
        foreach (string prefix in s_noArithmetic)
        {
            if (name.StartsWith(prefix, StringComparison.Ordinal))
                return false;
        }

        return true;
    }

    private static readonly string[] s_noArithmetic =
    [
        "MOV", "AND", "ORPS", "ORPD", "XOR", "SHUF", "UNPCK", "BLEND", "INSERT", "EXTRACT", "AES", "SHA", "BROADCAST", "PERM", "LDDQU", "TEST", "RCPSS", "RCPPS",
        "RSQRTSS", "RSQRTPS", "ALIGN", "COMPRESS", "EXPAND", "DBPSADBW", "GF2P8",
    ];

    /// <summary>Arithmetic without exceptions that looks at MXCSR all the same: processors flush tiny results of these to zero, or take tiny operands for zero (SDM Vol. 2C, VRCP14PD and VRSQRT14PD: no exceptions).</summary>
    public static bool RaisesNothing(Mnemonic m) => m is Mnemonic.Vrcp14pd or Mnemonic.Vrcp14ps or Mnemonic.Vrcp14sd or Mnemonic.Vrcp14ss or Mnemonic.Vrsqrt14pd or Mnemonic.Vrsqrt14ps
        or Mnemonic.Vrsqrt14sd or Mnemonic.Vrsqrt14ss;

    /// <summary>
    /// Instructions that round to a floating-point result: while underflow is unmasked, a tiny result raises it even when exact (SDM Vol. 1 §4.9.1.5), which
    /// the host does not report when run with it masked.
    /// </summary>
    public static bool Underflow(in Instruction n, out int elementSize, out int count)
    {
        string name = n.Mnemonic.ToString().ToUpperInvariant();
        if (name.StartsWith('V'))
            name = name[1..];
        elementSize = count = 0;
        bool rounds = name.StartsWith("ADD", StringComparison.Ordinal) || name.StartsWith("SUB", StringComparison.Ordinal)
            || name.StartsWith("MUL", StringComparison.Ordinal) || name.StartsWith("DIV", StringComparison.Ordinal)
            || name.StartsWith("HADD", StringComparison.Ordinal) || name.StartsWith("HSUB", StringComparison.Ordinal)
            || name.StartsWith("DPP", StringComparison.Ordinal) || name.StartsWith("FM", StringComparison.Ordinal)
            || name.StartsWith("FNM", StringComparison.Ordinal) || name.StartsWith("SCALEF", StringComparison.Ordinal) || name is "CVTSD2SS" or "CVTPD2PS" or "CVTPS2PH";
        if (!rounds)
            return false;
        int bytes = n.GetOpKind(0) == OpKind.Register && n.GetOpRegister(0).IsVectorRegister() ? n.GetOpRegister(0).GetSize() : 16;
        elementSize = name is "CVTPS2PH" ? 2 : name.EndsWith('D') ? 8 : 4;
        bool scalar = name[^2] == 'S';
        count = scalar ? 1 : name switch
        {
            "CVTPD2PS" => (n.GetOpKind(1) == OpKind.Register ? n.GetOpRegister(1).GetSize() : n.MemorySize.GetSize()) / 8,
            "CVTPS2PH" => n.GetOpRegister(1).GetSize() / 4,
            _ => bytes / elementSize,
        };
        return true;
    }
}
