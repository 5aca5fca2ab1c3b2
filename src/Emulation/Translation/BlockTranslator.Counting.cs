namespace VirtPS.Emulation;

// Loops that only count (CountingLoop): now and then it is computed how many rounds will surely go by like the last one, the registers are moved by so many, and the rounds counted as executed. That is
// what a compiler would have made of such a loop, had it seen it. xen_rebuild_p2m_list makes 134 million rounds of that kind (PARA.md).
internal sealed unsafe partial class BlockTranslator
{
    /// <summary>
    /// Rounds at a time. All could be done at once, but guests measure time by such loops: they should find a fast processor, not one that makes any number of rounds in no time.
    /// </summary>
    private const int CountedAtOnce = 256;

    private readonly CountingLoop _counting = new();

    /// <summary>Whether the block's loop, which ends with instruction <paramref name="end"/>, only counts.</summary>
    private bool PlanCounting(int end) => _code64 && _recipe.Kind != RecipeKind.Saved && _counting.TryRead(_block->Ops, end + 1);

    /// <summary>Moves on by as many rounds as are sure, then to a round as it is written. Flags are free: they are made again from registers.</summary>
    private void EmitCounted(in ColdPiece piece)
    {
        List<nint> fails = [];
        _a.MoveImmediate(HostReg.R10, CountedAtOnce);
        foreach (CountingLoop.Exit exit in _counting.Exits)
            EmitCountedExit(exit, fails);
        _a.Op(0x83, 7, HostReg.R10);
        _a.Byte(FewestRounds - 1);
        // JBE
        fails.Add((nint)_a.JumpIf(6));
        for (int r = 0; r < 16; r++)
        {
            if (_counting.StrideOf(r) != 0)
                EmitCountedMove(r);
        }

        // IMUL; ADD
        _a.Op(0x6B, (int)HostReg.R11, HostReg.R10, w: true);
        _a.Byte(piece.Index);
        _a.Op(0x01, (int)HostReg.R11, HostMemory.State(VcpuMemory.RetiredOffset), w: true);
        _a.StoreImmediate32(HostMemory.State(VcpuMemory.CountdownOffset), -1);
        _a.Jump(_roundWithChecks);
        foreach (nint fail in fails)
            _a.Bind((byte*)fail);
        _a.StoreImmediate32(HostMemory.State(VcpuMemory.CountdownOffset), -RoundsBetween);
        _a.Jump(_roundWithChecks);
    }

    private void EmitCountedMove(int register)
    {
        bool wide = _counting.BytesOf(register) == 8;
        // IMUL; ADD. The upper half of what is moved in 32 bits is zero: it has been moved before.
        _a.Op(0x69, (int)HostReg.R11, HostReg.R10, w: true);
        _a.Int32(_counting.StrideOf(register));
        if (RegisterMap.InMemory(register))
            _a.Op(0x01, (int)HostReg.R11, RegisterMap.Slot(register), wide);
        else
            _a.Op(0x01, (int)HostReg.R11, RegisterMap.Host(register), wide);
    }

    /// <summary>
    /// Lowers R10 to the rounds that this branch goes on for at least. That may be fewer than it does: not how often the value can move without reaching the fixed one, or, where it moves away from it, the end of
    /// its range, at which it would go round.
    /// </summary>
    private void EmitCountedExit(in CountingLoop.Exit exit, List<nint> fails)
    {
        bool w = exit.Bytes == 8, up = exit.Stride > 0, signed = exit.Condition >= 12;
        int register = exit.Moving.Register;
        HostReg from = RegisterMap.InMemory(register) ? HostReg.R11 : RegisterMap.Host(register);
        if (from == HostReg.R11)
            _a.Load(HostReg.R11, RegisterMap.Slot(register));
        _a.Op(0x8D, (int)HostReg.R11, new HostMemory(from, (int)exit.Moving.Offset), w);
        EmitWithFixed(7, exit, w);
        fails.Add((nint)_a.JumpIf(exit.Condition ^ 1));
        // B, BE, L, LE: the fixed value is above.
        bool below = exit.Condition is 2 or 6 or 12 or 14, differs = exit.Condition == 5;
        if (differs || below == up)
        {
            // SUB; NEG
            EmitWithFixed(5, exit, w);
            if (up)
                _a.Op(0xF7, 3, HostReg.R11, w);
        }
        else
        {
            if (signed)
                EmitSignFlipped(w);
            // NOT
            if (up)
                _a.Op(0xF7, 2, HostReg.R11, w);
        }

        EmitLower(Math.Abs(exit.Stride));
    }

    /// <summary>An operation of group 1 on R11 with the fixed value.</summary>
    private void EmitWithFixed(int operation, in CountingLoop.Exit exit, bool w)
    {
        int register = exit.Fixed.Register;
        if (register < 0)
        {
            _a.Op(0x81, operation, HostReg.R11, w);
            _a.Int32((int)exit.Fixed.Offset);
        }
        else if (RegisterMap.InMemory(register))
        {
            _a.Op(operation << 3 | 3, (int)HostReg.R11, RegisterMap.Slot(register), w);
        }
        else
        {
            _a.Op(operation << 3 | 3, (int)HostReg.R11, RegisterMap.Host(register), w);
        }
    }

    /// <summary>From signed order to unsigned order: BTC of the sign bit.</summary>
    private void EmitSignFlipped(bool w)
    {
        _a.Op(0xBA | HostOp.Map0F, 7, HostReg.R11, w);
        _a.Byte(w ? 63 : 31);
    }

    /// <summary>R10 becomes R11 divided by a power of two, should that be less.</summary>
    private void EmitLower(int divisor)
    {
        int shift = System.Numerics.BitOperations.Log2((uint)divisor);
        if (shift != 0)
        {
            _a.Op(0xC1, 5, HostReg.R11, w: true);
            _a.Byte(shift);
        }

        // CMP; CMOVB
        _a.Op(0x3B, (int)HostReg.R11, HostReg.R10, w: true);
        _a.Op(0x42 | HostOp.Map0F, (int)HostReg.R10, HostReg.R11, w: true);
    }
}
