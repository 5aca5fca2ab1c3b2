using Iced.Intel;

namespace VirtPS.Opcodes;

/// <summary>Instruction forms that programs are made of, by what they are wanted for.</summary>
internal sealed class ProgramForms
{
    public ProgramForms(IReadOnlyList<Code> codes)
    {
        // Of a dot product's steps, which have set their flags when one of them raises an unmasked exception is the processor's own affair.
        All = [.. codes.Where(c => c.Mnemonic() is not (Mnemonic.Dpps or Mnemonic.Dppd or Mnemonic.Vdpps or Mnemonic.Vdppd) && !(HostVendor.IsIntel && IsIntelsOwn(c)))];
        Integer = [.. codes.Where(IsInteger)];
        Evex = [.. All.Where(c => c.Encoding() == EncodingKind.EVEX)];
        HashSet<Mnemonic> arithmetic = [.. Evex.Where(c => c.ToOpCode().CanUseRoundingControl || c.ToOpCode().CanSuppressAllExceptions).Select(c => c.Mnemonic())];
        Float = [.. Evex.Where(c => arithmetic.Contains(c.Mnemonic()))];
    }

    // Unmasked exceptions at Intel's: tiny results of VREDUCE become zero (MXCSR.FTZ) though underflow, which it never raises, is not masked; FBSTP does not look at its memory when its operand is invalid.
    private static bool IsIntelsOwn(Code c) => c.Mnemonic() is Mnemonic.Fbstp or Mnemonic.Vreducepd or Mnemonic.Vreduceps or Mnemonic.Vreducesd or Mnemonic.Vreducess;

    public Code[] All { get; }

    public Code[] Integer { get; }

    public Code[] Evex { get; }

    /// <summary>Those of <see cref="Evex"/> that may raise floating-point exceptions.</summary>
    public Code[] Float { get; }

    /// <summary>Half of all instructions are taken from these, so that others find interesting registers, flags and addresses.</summary>
    public static bool IsInteger(Code c) => c.CpuidFeatures()[0] is CpuidFeature.INTEL8086 or CpuidFeature.INTEL186 or CpuidFeature.INTEL386 or CpuidFeature.INTEL486
        or CpuidFeature.X64 or CpuidFeature.CMOV or CpuidFeature.BMI1 or CpuidFeature.BMI2;
}
