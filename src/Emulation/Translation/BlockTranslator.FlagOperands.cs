namespace VirtPS.Emulation;

// Flags that checks have destroyed are made again from the operands of the instruction that made them. Where a later instruction replaces an operand, and a check may miss behind it, the operands are
// put aside just before: two stores, where saving the flags themselves takes five instructions.
internal sealed unsafe partial class BlockTranslator
{
    private static readonly HostMemory s_savedRm = HostMemory.State(VcpuMemory.SavedOperandsOffset), s_savedReg = HostMemory.State(VcpuMemory.SavedOperandsOffset + 8);

    /// <summary>Not in a block's second translation: it is entered in its middle, where nothing is put aside.</summary>
    private bool _savesOperands;

    /// <summary>Whether the recipe's operands can be put aside should it come to that: they are in registers.</summary>
    private bool CanSaveOperands => _savesOperands && _recipe.Kind is RecipeKind.Again or RecipeKind.Test or RecipeKind.UndoAndAgain && (_recipe.Registers & 7u << 9) == 0;

    /// <summary>Before an instruction is emitted: what it replaces, and is wanted later, is put aside.</summary>
    private void SaveOperands()
    {
        FlagFacts facts = _facts[_index];
        if (facts.Touches || (facts.Changes & _recipe.Registers) == 0 || !CanMakeFlags || !CanSaveOperands || StaysPossible(_recipe.Registers) || !StaysPossible(0))
            return;
        GuestForm.TryRead(_block->Ops + _recipe.Index, _host, out GuestForm f);
        _a.Store(s_savedRm, f.HasModRm ? RegisterMap.Host(f.Rm) : HostReg.Rax);
        if (f.HasModRm && !f.RegIsOpcode && f.Reg != f.Rm)
            _a.Store(s_savedReg, RegisterMap.Host(f.Reg));
        _recipe = new Recipe(RecipeKind.SavedOperands, _recipe.Index, 0);
    }

    /// <summary>The flags from operands put aside. Uses R10 and R11.</summary>
    private void EmitSavedRecipe(Op* op, in GuestForm f)
    {
        RecipeKind kind = RecipeFor(op).Kind;
        if (f.HasModRm)
        {
            _a.Load(HostReg.R10, s_savedRm);
            if (!f.RegIsOpcode && f.Reg != f.Rm)
                _a.Load(HostReg.R11, s_savedReg);
        }
        else
        {
            _a.Move(HostReg.R10, HostReg.Rax);
            _a.Load(HostReg.Rax, s_savedRm);
        }

        if (kind == RecipeKind.Test)
        {
            HostReg destination = !f.HasModRm ? HostReg.Rax : DestinationIsReg(f) && f.Reg != f.Rm ? HostReg.R11 : HostReg.R10;
            _a.Op((f.Opcode & 1) == 0 ? 0x84 : 0x85 | f.Opcode & HostOp.PrefixMask, (int)destination, destination, f.RexW);
        }
        else
        {
            if (kind == RecipeKind.UndoAndAgain)
                EmitOnSaved(op, Inverse(f));
            EmitOnSaved(op, f);
        }

        if (!f.HasModRm)
            _a.Move(HostReg.Rax, HostReg.R10);
    }

    private void EmitOnSaved(Op* op, in GuestForm f)
    {
        if (!f.HasModRm)
        {
            EmitPlain(op, f);
            return;
        }

        _a.Op(f.Opcode, f.RegIsOpcode ? f.Reg : (int)(f.Reg == f.Rm ? HostReg.R10 : HostReg.R11), HostReg.R10, f.RexW);
        EmitImmediate(op, f.ImmediateBytes);
    }

    /// <summary>In the forms with the register first it is the destination.</summary>
    private static bool DestinationIsReg(in GuestForm f) => (f.Opcode & 0xFF) < 0x40 && (f.Opcode & 2) != 0;
}
