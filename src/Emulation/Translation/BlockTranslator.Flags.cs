using Iced.Intel;

namespace VirtPS.Emulation;

// Status flags live in the host's. A memory check that keeps them is longer than one that does not. The shorter one is taken where the program does not need the flags
// any more and they can be made again should the check miss: a fault must show the guest exact flags, needed or not.
internal sealed unsafe partial class BlockTranslator
{
    /// <summary>How the flags of a former instruction of the block can be made again from the registers as they are.</summary>
    private readonly record struct Recipe(RecipeKind Kind, int Index, uint Registers);

    private enum RecipeKind : byte
    {
        None,

        /// <summary>Execute it again: it changes flags only.</summary>
        Again,

        /// <summary>TEST of its destination with itself: AND, OR, XOR.</summary>
        Test,

        /// <summary>Undo it, then do it again: ADD, SUB.</summary>
        UndoAndAgain,

        /// <summary>They have been saved in memory.</summary>
        Saved,

        /// <summary>One of the above, of operands that have been saved in memory.</summary>
        SavedOperands,
    }

    private readonly FlagFacts[] _facts = new FlagFacts[SoftVcpu.MaxOps];

    /// <summary>Flags whose present value some later instruction, or what follows the block, may use, before each instruction.</summary>
    private readonly uint[] _needed = new uint[SoftVcpu.MaxOps];
    private Recipe _recipe;

    /// <summary>The flags may be destroyed before the present instruction.</summary>
    private bool FlagsAreFree => CanMakeFlags && (StaysPossible(_recipe.Registers) || (CanSaveOperands && StaysPossible(0)));

    /// <summary>
    /// Whether the flags may be destroyed by the check that comes next. Where the program does not need them any more, but nothing else could make them again, they are saved first: that
    /// costs less than two checks that keep them. Uses R10.
    /// </summary>
    private bool TryFreeFlags()
    {
        if (FlagsAreFree)
            return true;
        if (_needed[_index] != 0 || !StaysPossible(0) || !SeveralChecksFollow())
            return false;
        // Right behind the instruction that made them they are still there.
        if (CanMakeFlags && _recipe.Index != _index - 1)
            EmitRecipe(_recipe);
        EmitSaveFlags();
        _recipe = new Recipe(RecipeKind.Saved, _index, 0);
        return true;
    }

    /// <summary>Whether the present instruction's check is not the only one up to the next instruction that sets all flags.</summary>
    private bool SeveralChecksFollow()
    {
        int checks = 0;
        for (int i = _index; i < _block->Count && checks < 2; i++)
        {
            FlagFacts f = _facts[i];
            bool shared = _pinOf[i] >= 0 && _pins[_pinOf[i]].First != i;
            if (f.MayFault && !shared && !IsVectorOnly(i))
                checks++;
            if (f.Touches)
                break;
        }

        return checks > 1;
    }

    /// <summary>Uses R10; changes no flag.</summary>
    private void EmitSaveFlags()
    {
        _a.Move(HostReg.R10, HostReg.Rax);
        Stubs.EmitPackFlags(ref _a);
        _a.Store32(HostMemory.State(VcpuMemory.SavedFlagsOffset), HostReg.Rax);
        _a.Move(HostReg.Rax, HostReg.R10);
    }

    private bool CanMakeFlags => _recipe.Kind != RecipeKind.None && _needed[_index] == 0;

    /// <summary>
    /// Whether wherever a fault can happen before the next instruction that sets all flags, <paramref name="registers"/> still are what they are now.
    /// </summary>
    private bool StaysPossible(uint registers)
    {
        bool changed = false;
        for (int i = _index; i < _block->Count; i++)
        {
            FlagFacts f = _facts[i];
            if (i > _index && f.MayFault && changed)
                return false;
            if (f.Touches)
                return f.Writes == FlagFacts.All;
            changed |= (f.Changes & registers) != 0;
        }

        return false;
    }

    private void FindFacts()
    {
        _recipe = default;
        uint needed = FlagFacts.All;
        for (int i = (int)_block->Count - 1; i >= 0; i--)
        {
            FlagFacts f = FlagFacts.Of(_block->Ops + i, _host);
            if (TargetFollows(i))
                FollowedFacts(_block->Ops[i].Handler, ref f);
            if (!f.IsPlain)
            {
                if (!TryVectorFacts(_block->Ops + i, ref f))
                    TryX87Facts(_block->Ops + i, ref f);
            }

            _facts[i] = f;
            needed = f.IsPlain ? needed & ~f.Writes | f.Reads : FlagFacts.All;
            _needed[i] = needed;
        }
    }

    /// <summary>A jump or call whose target follows it.</summary>
    private static void FollowedFacts(ushort handler, ref FlagFacts f)
    {
        if (handler == HotForms.JmpRel)
            f = new FlagFacts { IsPlain = true };
        else if (handler == HotForms.CallRel)
            f = new FlagFacts { IsPlain = true, Changes = 1 << 4, MayFault = true };
    }

    /// <summary>After an instruction was emitted: from where its flags could be made again.</summary>
    private void FollowFlags(Op* op)
    {
        FlagFacts f = _facts[_index];
        if (!f.Touches)
        {
            if ((f.Changes & _recipe.Registers) != 0)
                _recipe = default;
            return;
        }

        _recipe = f.Writes == FlagFacts.All ? RecipeFor(op) : default;
    }

    private Recipe RecipeFor(Op* op)
    {
        if (op->IsMemory || !GuestForm.TryRead(op, _host, out GuestForm f) || f.RegisterInOpcode || f.Vex || (f.Opcode & HostOp.MapMask) != 0)
            return default;
        if (f.HasModRm && (f.Rm >= 16 || (!f.RegIsOpcode && f.Reg >= 16)))
            return default;
        uint registers = !f.HasModRm ? 1 : 1u << f.Rm | (f.RegIsOpcode ? 0 : 1u << f.Reg);
        int b = f.Opcode & 0xFF;
        int group = b < 0x40 ? b >> 3 : b is 0x80 or 0x81 or 0x83 ? f.Reg : -1;
        bool test = b is 0x84 or 0x85 or 0xA8 or 0xA9 || (b is 0xF6 or 0xF7 && f.Reg < 2);
        if (group == 7 || test)
            return new Recipe(RecipeKind.Again, _index, registers);
        if (group is 1 or 4 or 6)
            return new Recipe(RecipeKind.Test, _index, registers);
        return group is 0 or 5 && (!f.HasModRm || f.RegIsOpcode || f.Reg != f.Rm) ? new Recipe(RecipeKind.UndoAndAgain, _index, registers) : default;
    }

    /// <summary>Makes the flags again. Uses R10 and R11.</summary>
    private void EmitRecipe(in Recipe recipe)
    {
        EmitRecipeCode(recipe);
        ForgetHeld();
    }

    private void EmitRecipeCode(in Recipe recipe)
    {
        if (recipe.Kind == RecipeKind.Saved)
        {
            _a.Move(HostReg.R10, HostReg.Rax);
            _a.Load32(HostReg.Rax, HostMemory.State(VcpuMemory.SavedFlagsOffset));
            Stubs.EmitUnpackFlags(ref _a);
            _a.Move(HostReg.Rax, HostReg.R10);
            return;
        }

        Op* op = _block->Ops + recipe.Index;
        GuestForm.TryRead(op, _host, out GuestForm f);
        switch (recipe.Kind)
        {
            case RecipeKind.SavedOperands:
                EmitSavedRecipe(op, f);
                return;
            case RecipeKind.Test:
                EmitTestOfDestination(op, f);
                return;
            case RecipeKind.UndoAndAgain:
                EmitForm(op, Inverse(f));
                break;
        }

        EmitForm(op, f);
    }

    private void EmitForm(Op* op, in GuestForm f)
    {
        if (!f.HasModRm)
            EmitPlain(op, f);
        else if (!EmitWithRegisters(op, f))
            throw new InvalidOperationException("A flag recipe cannot be emitted.");
    }

    private static GuestForm Inverse(GuestForm f)
    {
        // ADD is group 0, SUB group 5, in the opcode or in ModRM.
        if (f.RegIsOpcode)
            f.Reg = 5 - f.Reg;
        else
            f.Opcode ^= 5 << 3;
        return f;
    }

    private void EmitTestOfDestination(Op* op, in GuestForm f)
    {
        // In the forms with the register first it is the destination.
        int b = f.Opcode & 0xFF;
        bool bytes = (b & 1) == 0;
        int guest = !f.HasModRm ? 0 : b < 0x40 && (b & 2) != 0 ? f.Reg : f.Rm;
        HostReg r = RegisterMap.InMemory(guest) ? HostReg.R11 : RegisterMap.Host(guest);
        if (r == HostReg.R11)
            _a.Load(r, RegisterMap.Slot(guest));
        _a.Op(bytes ? 0x84 : 0x85 | f.Opcode & HostOp.PrefixMask, (int)r, r, f.RexW, bytes && (int)r is >= 4 and < 8);
    }
}
