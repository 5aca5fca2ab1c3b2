using Iced.Intel;
using VirtPS.X86;

namespace VirtPS.Emulation;

/// <summary>What the lock-step run must know of an instruction.</summary>
internal struct LockStepRule
{
    /// <summary>Looked up already.</summary>
    public bool Known;

    /// <summary>Not to be executed twice: it speaks to the machine, reads what changes by itself, or changes more than registers, flags and memory.</summary>
    public bool Once;

    /// <summary>A repeated string instruction: generated code may call the interpreter in the middle of it.</summary>
    public bool Repeats;

    /// <summary>CLI and STI: generated code goes on behind them, without an interrupt shadow.</summary>
    public bool InterruptFlag;

    /// <summary>Status flags that it reads, surely writes, and leaves undefined; as in RFLAGS.</summary>
    public uint Reads, Writes, Undefined;
}

/// <summary>Rules by instruction, from Iced's tables; one table per lock-step run.</summary>
internal sealed unsafe class LockStepRules
{
    private readonly LockStepRule[] _rules = new LockStepRule[(int)Enum.GetValues<Code>().Max() + 1];

    public LockStepRule Of(Op* op)
    {
        ref LockStepRule rule = ref _rules[(int)op->Code];
        if (!rule.Known)
            rule = Read(op);
        if (op->Has(OpFlags.Rep | OpFlags.Repne) && !rule.Once)
            return rule with { Repeats = true };
        return rule;
    }

    private static LockStepRule Read(Op* op)
    {
        byte[] bytes = new ReadOnlySpan<byte>(Op.Bytes(op), op->Length).ToArray();
        Instruction i = Decoder.Create(op->Has(OpFlags.Code64) ? 64 : 32, bytes).Decode();
        bool counted = i.Mnemonic is Mnemonic.Shl or Mnemonic.Shr or Mnemonic.Sal or Mnemonic.Sar or Mnemonic.Rol or Mnemonic.Ror or Mnemonic.Rcl or Mnemonic.Rcr
            or Mnemonic.Shld or Mnemonic.Shrd;
        uint undefined = FromIced(i.RflagsUndefined);
        if (counted)
            undefined |= FlagFacts.O | (i.Mnemonic is Mnemonic.Rol or Mnemonic.Ror or Mnemonic.Rcl or Mnemonic.Rcr ? 0 : (uint)Rflags.AF | (op->OpSize < 4 ? FlagFacts.C : 0));
        // Left open by the manual (SDM Vol. 2A, AND), but every processor clears it, and so do both engines: with it open no PUSHF behind a test could be compared.
        if (i.Mnemonic is Mnemonic.And or Mnemonic.Or or Mnemonic.Xor or Mnemonic.Test)
            undefined &= ~(uint)Rflags.AF;
        return new LockStepRule
        {
            Known = true,
            Once = ExecutesOnce(i),
            InterruptFlag = i.Mnemonic is Mnemonic.Cli or Mnemonic.Sti,
            Reads = FromIced(i.RflagsRead),
            // A count of zero changes nothing.
            Writes = counted ? 0 : FromIced(i.RflagsWritten | i.RflagsCleared | i.RflagsSet),
            Undefined = undefined,
        };
    }

    private static bool ExecutesOnce(in Instruction i)
    {
        if (i.Mnemonic is Mnemonic.Cli or Mnemonic.Sti or Mnemonic.Swapgs)
            return false;
        if (i.IsPrivileged || i.IsStackInstruction && i.FlowControl is FlowControl.Interrupt || i.FlowControl is FlowControl.Interrupt or FlowControl.Exception or FlowControl.XbeginXabortXend)
            return true;
        if (i.IsJmpFar || i.IsJmpFarIndirect || i.IsCallFar || i.IsCallFarIndirect || i.IsSaveRestoreInstruction || WritesSystemRegister(i))
            return true;
        return IsListed(i.Mnemonic);
    }

    private static bool WritesSystemRegister(in Instruction i)
    {
        for (int n = 0; n < i.OpCount; n++)
        {
            Register r = i.GetOpKind(n) == OpKind.Register ? i.GetOpRegister(n) : Register.None;
            if (r.IsCR() || r.IsDR() || r.IsTR() || (n == 0 && r.IsSegmentRegister() && i.Mnemonic is Mnemonic.Mov or Mnemonic.Pop))
                return true;
        }

        return false;
    }

    private static bool IsListed(Mnemonic m) => m is Mnemonic.Cpuid or Mnemonic.Rdtsc or Mnemonic.Rdtscp or Mnemonic.Rdrand or Mnemonic.Rdseed or Mnemonic.Rdpmc or Mnemonic.Rdpid
        or Mnemonic.Xgetbv or Mnemonic.In or Mnemonic.Out or Mnemonic.Insb or Mnemonic.Insw or Mnemonic.Insd or Mnemonic.Outsb or Mnemonic.Outsw or Mnemonic.Outsd
        or Mnemonic.Syscall or Mnemonic.Sysret or Mnemonic.Sysretq or Mnemonic.Sysenter or Mnemonic.Sysexit or Mnemonic.Sysexitq or Mnemonic.Iret or Mnemonic.Iretd or Mnemonic.Iretq
        or Mnemonic.Retf or Mnemonic.Popf or Mnemonic.Popfd or Mnemonic.Popfq or Mnemonic.Stac or Mnemonic.Clac or Mnemonic.Enter or Mnemonic.Wrfsbase
        or Mnemonic.Wrgsbase or Mnemonic.Sgdt or Mnemonic.Sidt or Mnemonic.Sldt or Mnemonic.Str or Mnemonic.Smsw or Mnemonic.Lfs or Mnemonic.Lgs or Mnemonic.Lss or Mnemonic.Lds or Mnemonic.Les
        or Mnemonic.Lar or Mnemonic.Lsl or Mnemonic.Verr or Mnemonic.Verw or Mnemonic.Vmcall or Mnemonic.Vmmcall or Mnemonic.Monitor or Mnemonic.Mwait
        or Mnemonic.Maskmovq or Mnemonic.Maskmovdqu or Mnemonic.Vmaskmovdqu or Mnemonic.Ldmxcsr or Mnemonic.Vldmxcsr
        or Mnemonic.Vpgatherdd or Mnemonic.Vpgatherdq or Mnemonic.Vpgatherqd or Mnemonic.Vpgatherqq or Mnemonic.Vgatherdps or Mnemonic.Vgatherdpd or Mnemonic.Vgatherqps or Mnemonic.Vgatherqpd;

    private static uint FromIced(RflagsBits bits)
    {
        uint flags = 0;
        flags |= (bits & RflagsBits.CF) != 0 ? FlagFacts.C : 0;
        flags |= (bits & RflagsBits.PF) != 0 ? FlagFacts.P : 0;
        flags |= (bits & RflagsBits.AF) != 0 ? (uint)Rflags.AF : 0;
        flags |= (bits & RflagsBits.ZF) != 0 ? FlagFacts.Z : 0;
        flags |= (bits & RflagsBits.SF) != 0 ? FlagFacts.S : 0;
        flags |= (bits & RflagsBits.OF) != 0 ? FlagFacts.O : 0;
        return flags;
    }
}
