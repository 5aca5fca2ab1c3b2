using Iced.Intel;
using VirtPS.X86;

namespace VirtPS.Opcodes;

/// <summary>Flags that an instruction leaves undefined: Iced's table, with what depends on operand size and count (SDM Vol. 2B, SAL/SAR/SHL/SHR, SHLD).</summary>
internal static class FlagTable
{
    public static ulong Undefined(in Instruction instruction)
    {
        ulong flags = FromIced(instruction.RflagsUndefined);
        return instruction.Mnemonic switch
        {
            // OF is defined for a count of one only, CF not when a narrow operand is shifted out altogether, AF never.
            Mnemonic.Shl or Mnemonic.Shr or Mnemonic.Sal => flags | Rflags.OF | Rflags.AF | (IsNarrow(instruction) ? Rflags.CF : 0),
            Mnemonic.Sar => flags | Rflags.OF | Rflags.AF,
            Mnemonic.Rol or Mnemonic.Ror or Mnemonic.Rcl or Mnemonic.Rcr => flags | Rflags.OF,
            Mnemonic.Shld or Mnemonic.Shrd => flags | Rflags.OF | Rflags.AF,
            _ => flags,
        };
    }

    public static ulong Written(in Instruction instruction) => FromIced(instruction.RflagsWritten | instruction.RflagsCleared | instruction.RflagsSet);

    public static ulong Read(in Instruction instruction) => FromIced(instruction.RflagsRead);

    private static bool IsNarrow(in Instruction instruction) => instruction.Op0Kind == OpKind.Register
        ? instruction.Op0Register.GetSize() < 4 : instruction.MemorySize.GetSize() < 4;

    private static ulong FromIced(RflagsBits bits)
    {
        ulong flags = 0;
        if ((bits & RflagsBits.OF) != 0)
            flags |= Rflags.OF;
        if ((bits & RflagsBits.SF) != 0)
            flags |= Rflags.SF;
        if ((bits & RflagsBits.ZF) != 0)
            flags |= Rflags.ZF;
        if ((bits & RflagsBits.AF) != 0)
            flags |= Rflags.AF;
        if ((bits & RflagsBits.CF) != 0)
            flags |= Rflags.CF;
        if ((bits & RflagsBits.PF) != 0)
            flags |= Rflags.PF;
        if ((bits & RflagsBits.DF) != 0)
            flags |= Rflags.DF;
        return flags;
    }
}
