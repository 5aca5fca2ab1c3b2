namespace VirtPS.Emulation;

// Loops of one block. What comes before the first instruction that sets all flags does not know, when the block is entered, how the flags could be made again; at the end of
// the loop that is known. So the loop's body is written once more behind its branch back, with that knowledge, and goes round there.
internal sealed unsafe partial class BlockTranslator
{
    /// <summary>Instructions of the body at most.</summary>
    private const int LongestLoop = 44;

    /// <summary>The block has its loop; further branches to its start are ordinary ones.</summary>
    private bool _hasLoop;

    /// <summary>The round that ends with an instruction is not the first in the block (SoftVcpu.LoopTraces).</summary>
    private bool IsFirstAgain(int end)
    {
        for (int i = 1; i <= end; i++)
        {
            if (_block->Ops[i].Offset == 0)
                return true;
        }

        return false;
    }

    /// <summary>The branch back to the start of the block is taken: the whole body, with a conditional branch to itself. Behind it the branch was not taken.</summary>
    private void EmitLoop(int condition)
    {
        _hasLoop = true;
        int end = _index;
        _copyLabels = _labels.Count;
        _addendPin = -1;
        ForgetHeld();
        _index = 0;
        bool rounds = FlagsAreFree && PlanRounds(end), counting = FlagsAreFree && !rounds && PlanCounting(end);
        if (rounds || counting)
            _a.StoreImmediate32(HostMemory.State(VcpuMemory.CountdownOffset), -RoundsBefore);
        byte* top = _a.Next;
        EmitRound(end + 1);
        if (rounds || counting)
            EmitCountdown(condition, counting ? ColdKind.Counted : ColdKind.Rounds, end + 1);
        for (; _index < end; _index++)
        {
            _labels.Add((nint)_a.Next);
            EmitInstruction(_block->Ops + _index);
        }

        ForgetHeld();
        _labels.Add((nint)_a.Next);
        HostAssembler.Bind(_a.JumpIf(condition), top);
        _behindLoop = _a.Next;
        (_index, _copyLabels, _addendPin) = (end, 0, -1);
        ForgetHeld();
    }

    /// <summary>Once a round: counts, and looks whether somebody wants attention.</summary>
    private void EmitRound(int instructions)
    {
        if (!FlagsAreFree)
        {
            EmitCount(instructions, HostReg.R10);
            _cold.Add(new ColdPiece((nint)EmitRequestCheck(), ColdKind.AskedWithRcxSaved, 0, 0));
            return;
        }

        _a.Op(0x83, 0, HostMemory.State(VcpuMemory.RetiredOffset), w: true);
        _a.Byte(instructions);
        _a.Op(0x83, 7, HostMemory.State(VcpuMemory.AttentionOffset));
        _a.Byte(0);
        _cold.Add(new ColdPiece((nint)_a.JumpIf(5), ColdKind.Asked, 0, 0) { Flags = _recipe });
    }

    private void EmitAsked(in ColdPiece piece)
    {
        if (piece.Kind == ColdKind.AskedWithRcxSaved)
            _a.Move(HostReg.Rcx, HostReg.R10);
        if (piece.Flags.Kind != RecipeKind.None)
            EmitRecipe(piece.Flags);
        byte* leave = _a.Next;
        EmitLinkNumber();
        _a.Jump(_cache.Stubs.ExitLink);
        _cache.AddLink(_block, 0, crossesPage: false, null, leave);
    }
}
