using Iced.Intel;
using VirtPS.Emulation.Thunks;

namespace VirtPS.Emulation;

internal enum X87Kind : byte
{
    /// <summary>The interpreter's: what loads, stores or resets all of the state, and what is rare.</summary>
    None,

    /// <summary>Arithmetic, loads and stores of values: sets the instruction pointer, and the data pointer where it has an operand in memory.</summary>
    Arithmetic,

    /// <summary>FNSTCW, FNSTSW to memory: look at no exception, leave the pointers.</summary>
    StoreWord,
    LoadControl,
    StatusToAx,
    Wait,
    Mmx,
    Emms,
}

/// <summary>What of an x87 or MMX instruction's form must be known to execute it by the host's own one.</summary>
internal readonly record struct X87Form(X87Kind Kind, MemoryUse Memory, int MemorySize, GprRole Reg, GprRole Rm, bool ReadsFlags, bool WritesFlags)
{
    /// <summary>Iced has the x87's condition codes among the flags.</summary>
    private const RflagsBits Status = RflagsBits.OF | RflagsBits.SF | RflagsBits.ZF | RflagsBits.AF | RflagsBits.PF | RflagsBits.CF;

    public bool IsUsable => Kind != X87Kind.None;

    /// <summary>Both pointers may be set later: what comes next cannot fault and sets them itself.</summary>
    public bool IsArithmeticOnRegisters => Kind == X87Kind.Arithmetic && Memory == MemoryUse.None;

    public static X87Form Of(in Instruction i, InstructionInfoFactory facts)
    {
        X87Kind kind = HandlerTable.Implements(i.Code) && i.Encoding == EncodingKind.Legacy ? KindOf(i) : X87Kind.None;
        if (kind == X87Kind.None)
            return default;
        InstructionInfo info = facts.GetInfo(i);
        var memory = MemoryUse.None;
        GprRole reg = GprRole.None, rm = GprRole.None;
        for (int k = 0; k < i.OpCount; k++)
        {
            bool written = info.GetOpAccess(k) is OpAccess.Write or OpAccess.CondWrite or OpAccess.ReadWrite or OpAccess.ReadCondWrite;
            if (i.GetOpKind(k) == OpKind.Memory)
                memory = written ? MemoryUse.Write : MemoryUse.Read;
            else if (kind == X87Kind.Mmx && i.GetOpKind(k) == OpKind.Register && i.GetOpRegister(k).IsGPR())
                (IsInReg(i) ? ref reg : ref rm) = written ? GprRole.Written : GprRole.Read;
        }

        int size = memory == MemoryUse.None ? 0 : i.MemorySize.GetSize();
        if (memory != MemoryUse.None && size is not (2 or 4 or 8 or 10))
            return default;
        return new X87Form(kind, memory, size, reg, rm, (i.RflagsRead & Status) != 0, (i.RflagsModified & Status) != 0);
    }

    private static X87Kind KindOf(in Instruction i)
    {
        switch (i.Code)
        {
            case Code.Fldcw_m2byte:
                return X87Kind.LoadControl;
            case Code.Fnstcw_m2byte or Code.Fnstsw_m2byte:
                return X87Kind.StoreWord;
            case Code.Fnstsw_AX:
                return X87Kind.StatusToAx;
            case Code.Wait:
                return X87Kind.Wait;
            case Code.Emms:
                return X87Kind.Emms;
            case Code.Maskmovq_rDI_mm_mm:
                return X87Kind.None;
        }

        bool control = i.Mnemonic is Mnemonic.Fninit or Mnemonic.Fnclex or Mnemonic.Fneni or Mnemonic.Fndisi or Mnemonic.Fnsetpm or Mnemonic.Fnstenv or Mnemonic.Fldenv
            or Mnemonic.Fnsave or Mnemonic.Frstor or Mnemonic.Fxsave or Mnemonic.Fxsave64 or Mnemonic.Fxrstor or Mnemonic.Fxrstor64;
        if (control)
            return X87Kind.None;
        return ThunkFacts.ClassOf(i) switch
        {
            VectorClass.X87 => X87Kind.Arithmetic,
            VectorClass.Mmx => X87Kind.Mmx,
            _ => X87Kind.None,
        };
    }

    // PMOVMSKB and PEXTRW have the general register in ModRM.reg, all others in r/m.
    private static bool IsInReg(in Instruction i) => i.Mnemonic is Mnemonic.Pmovmskb or Mnemonic.Pextrw;
}
