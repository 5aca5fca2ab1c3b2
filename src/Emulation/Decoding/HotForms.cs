using Iced.Intel;
using VirtPS.X86;

namespace VirtPS.Emulation;

internal static unsafe partial class HotForms
{
    private sealed class Table
    {
        public readonly ushort[] RegisterForm = new ushort[HandlerTableBuilder.Count], MemoryForm = new ushort[HandlerTableBuilder.Count];

        public void Register(ushort form, params ReadOnlySpan<Code> codes)
        {
            foreach (Code c in codes)
                RegisterForm[(int)c] = form;
        }

        public void Memory(ushort form, params ReadOnlySpan<Code> codes)
        {
            foreach (Code c in codes)
                MemoryForm[(int)c] = form;
        }
    }

    private static readonly Table s_table = Build();

    private static Table Build()
    {
        var t = new Table();
        Fill(t);
        return t;
    }

    /// <summary>The main loop's case for a decoded instruction, 0 when it goes to its complete handler. May bring the operands into the order the case expects.</summary>
    public static ushort Select(Op* op, uint mode)
    {
        if (op->Has(OpFlags.Lock))
            return 0;
        if (op->IsMemory)
            return SelectMemory(op);
        ushort form = s_table.RegisterForm[(int)op->Code];
        if (form == 0)
            return 0;
        Mnemonic m = op->Code.Mnemonic();
        switch (form)
        {
            case JmpRel or (>= Jo and <= Jg) when (mode & CodeMode.SizeMask) != CodeMode.Bits64 && (mode & (CodeMode.SizeMask | CodeMode.Flat)) != (CodeMode.Bits32 | CodeMode.Flat):
                return 0;
            case ShlRI64 or ShlRI32 or ShrRI64 or ShrRI32 or SarRI64 or SarRI32
                or RolRI64 or RolRI32 or RorRI64 or RorRI32 when (op->Imm & (op->OpSize * 8u - 1)) == 0:
                return 0;
            case XorRR64 or XorRR32 when op->RegOff == op->RmOff:
                return form == XorRR64 ? Zero64 : Zero32;
        }

        if (op->Has(OpFlags.ToReg) && IsTwoOperand(m))
        {
            // Register to register: "reg, rm" is "rm, reg" with the names exchanged.
            (op->RegOff, op->RmOff) = (op->RmOff, op->RegOff);
            (op->Reg, op->Rm) = (op->Rm, op->Reg);
            op->Flags &= ~OpFlags.ToReg;
        }

        return form;
    }

    private static ushort SelectMemory(Op* op)
    {
        ushort form = s_table.MemoryForm[(int)op->Code];
        if (form == 0)
            return 0;
        if (form is Lea64 && op->AddrSize == 8 && op->Index == 0xFF)
            return LeaDisp64;
        if (form is Lea64 or Lea32 or Nop)
            return form;
        if (!op->Has(OpFlags.Flat))
            return 0;
        return form;
    }

    private static bool IsTwoOperand(Mnemonic m) =>
        m is Mnemonic.Mov or Mnemonic.Add or Mnemonic.Or or Mnemonic.Adc or Mnemonic.Sbb or Mnemonic.And or Mnemonic.Sub or Mnemonic.Xor or Mnemonic.Cmp;

    /// <summary>The condition (0–15, as encoded) of Jcc, SETcc and CMOVcc; -1 for anything else.</summary>
    public static int ConditionOf(Mnemonic m) => m switch
    {
        Mnemonic.Jo or Mnemonic.Seto or Mnemonic.Cmovo => 0,
        Mnemonic.Jno or Mnemonic.Setno or Mnemonic.Cmovno => 1,
        Mnemonic.Jb or Mnemonic.Setb or Mnemonic.Cmovb => 2,
        Mnemonic.Jae or Mnemonic.Setae or Mnemonic.Cmovae => 3,
        Mnemonic.Je or Mnemonic.Sete or Mnemonic.Cmove => 4,
        Mnemonic.Jne or Mnemonic.Setne or Mnemonic.Cmovne => 5,
        Mnemonic.Jbe or Mnemonic.Setbe or Mnemonic.Cmovbe => 6,
        Mnemonic.Ja or Mnemonic.Seta or Mnemonic.Cmova => 7,
        Mnemonic.Js or Mnemonic.Sets or Mnemonic.Cmovs => 8,
        Mnemonic.Jns or Mnemonic.Setns or Mnemonic.Cmovns => 9,
        Mnemonic.Jp or Mnemonic.Setp or Mnemonic.Cmovp => 10,
        Mnemonic.Jnp or Mnemonic.Setnp or Mnemonic.Cmovnp => 11,
        Mnemonic.Jl or Mnemonic.Setl or Mnemonic.Cmovl => 12,
        Mnemonic.Jge or Mnemonic.Setge or Mnemonic.Cmovge => 13,
        Mnemonic.Jle or Mnemonic.Setle or Mnemonic.Cmovle => 14,
        Mnemonic.Jg or Mnemonic.Setg or Mnemonic.Cmovg => 15,
        _ => -1,
    };

    public static bool IsConditionalBranch(Code code) => code.FlowControl() == FlowControl.ConditionalBranch;

    private static bool HasLink(ushort handler) => handler is CallRel or JmpRel or End or (>= Jo and <= Jg);

    /// <summary>Prepares the fields of a branch that the main loop uses for its own: no successor yet, and how many instructions follow in the block.</summary>
    public static void Link(Op* op, uint remaining)
    {
        if (!HasLink(op->Handler))
            return;
        op->AddrMask = 0;
        if (op->Handler is >= Jo and <= Jg)
            op->Disp = remaining;
    }
}
