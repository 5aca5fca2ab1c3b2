using Iced.Intel;
using VirtPS.X86;

namespace VirtPS.Emulation;

// One check for several accesses. Instructions that follow each other and address memory by one base register at small distances mostly stay in one page: fields of a
// structure, locals, PUSH and POP. The first one's check covers the range of all, and R10 keeps the page's addend for the others. Should that check miss, a copy of the
// others with checks of their own, behind the block, does them.
internal sealed unsafe partial class BlockTranslator
{
    private const int LongestGroup = 12, LongestRange = 512;

    /// <summary>The group that the present instruction is in: first and last member, base register, range from the base's value at the first.</summary>
    private readonly record struct Group(int First, int Last, int Base, int Low, int High, bool Writes);

    private Group _group = s_noGroup;

    /// <summary>No group begins up to here: the last member of one that was given up.</summary>
    private int _noGroupThrough;

    private static readonly Group s_noGroup = new(-1, -1, 0, 0, 0, false);

    private bool InGroup => _index <= _group.Last;

    /// <summary>A memory access of an instruction: base register, distance, size.</summary>
    private struct BasedAccess
    {
        public int Base, Distance, Size;
        public bool Writes;

        /// <summary>What the instruction adds to the base.</summary>
        public int Moves;
    }

    private static bool TryGetAccess(Op* op, out BasedAccess access)
    {
        access = new BasedAccess { Base = 4, Size = 8 };
        switch (op->Code)
        {
            case Code.Push_r64 or Code.Pushq_imm8 or Code.Pushq_imm32:
                (access.Distance, access.Moves, access.Writes) = (-8, -8, true);
                return true;
            case Code.Pop_r64 when op->Rm != 4:
                access.Moves = 8;
                return true;
        }

        if (!op->IsMemory || op->Base == 0xFF || op->Index != 0xFF || op->Seg >= SegmentName.FS || op->AddrSize != 8 || op->Has(OpFlags.RipRelative)
            || RegisterMap.InMemory(op->Base) || op->Code is Code.Lea_r64_m or Code.Lea_r32_m || op->Handler == HotForms.Nop
            || !GuestForm.TryRead(op, out GuestForm f) || (f.ByteReg && !f.RegIsOpcode && f.Reg >= 16) || f.Vex)
            return false;
        access = new BasedAccess { Base = op->Base, Distance = (int)op->Disp, Size = f.MemorySize, Writes = f.Memory != MemoryUse.Read };
        return op->Disp == (int)op->Disp;
    }

    /// <summary>Looks for a group that begins at the present instruction and ends before <paramref name="end"/>.</summary>
    private void BeginGroup(int end = int.MaxValue)
    {
        _group = s_noGroup;
        if (_index <= _noGroupThrough || !TryGetAccess(_block->Ops + _index, out BasedAccess first))
            return;
        (int low, int high, int moved, int last) = (first.Distance, first.Distance + first.Size, first.Moves, _index);
        bool writes = first.Writes;
        if (ChangesBase(_index, first))
            return;
        for (int i = _index + 1; i < _block->Count && i < end && i < _index + LongestGroup; i++)
        {
            Op* op = _block->Ops + i;
            if (TryGetAccess(op, out BasedAccess next))
            {
                if (next.Base != first.Base)
                    break;
                int l = Math.Min(low, moved + next.Distance), h = Math.Max(high, moved + next.Distance + next.Size);
                if (h - l > LongestRange)
                    break;
                (low, high, last) = (l, h, i);
                writes |= next.Writes;
                moved += next.Moves;
                if (ChangesBase(i, next))
                    break;
                continue;
            }

            if (!KeepsAddend(op, i) || (_facts[i].Changes >> first.Base & 1) != 0)
                break;
        }

        if (last > _index)
            _group = new Group(_index, last, first.Base, low, high, writes);
    }

    private bool ChangesBase(int index, in BasedAccess access) => access.Moves == 0 && (_facts[index].Changes >> access.Base & 1) != 0;

    /// <summary>The code of an instruction without a memory operand leaves R10 alone and cannot leave the block but by a branch.</summary>
    private bool KeepsAddend(Op* op, int index)
    {
        if (op->Handler == HotForms.Nop)
            return true;
        // Behind a branch to the start of the block a loop of its own may come out (EmitLoop), with something else in R10.
        if (op->Handler is >= HotForms.Jo and <= HotForms.Jg)
            return op->Imm != 0;
        if (op->Code is Code.Lea_r64_m or Code.Lea_r32_m)
            return !(op->Index != 0xFF && RegisterMap.InMemory(op->Index)) && op->AddrSize == 8;
        if (!_facts[index].IsPlain || op->IsMemory || !GuestForm.TryRead(op, out GuestForm f) || f.Vex)
            return false;
        return !f.HasModRm || ((f.RegIsOpcode || f.Reg >= 16 || !RegisterMap.InMemory(f.Reg)) && f.Rm < 16 && (f.RegIsOpcode || f.Reg < 16));
    }

    /// <summary>Where the present member's bytes are: <paramref name="distance"/> from the base. The first member checks for all.</summary>
    private HostMemory EmitMember(int distance)
    {
        HostReg b = RegisterMap.Host(_group.Base);
        if (_index == _group.First)
        {
            HostReg address = b;
            if (_group.Low != 0 || b == HostReg.Rcx)
            {
                address = HostReg.R11;
                _a.Lea(HostReg.R11, new HostMemory(b, _group.Low));
            }

            if (FlagsAreFree)
                EmitShortCheck(address, _group.High - _group.Low, _group.Writes, addend: true);
            else
                EmitCheck(address, _group.High - _group.Low, _group.Writes);
        }

        return new HostMemory(b, distance, HostReg.R10);
    }

    /// <summary>The members behind the first once more, each with its own check: where a miss of the common check goes on. Then to label <paramref name="resume"/>.</summary>
    private void EmitGroupCopy(in Group group, int resume)
    {
        _group = s_noGroup;
        _recipe = default;
        (_copyFirst, _copyLabels) = (group.First + 1, _labels.Count);
        for (_index = group.First + 1; _index <= group.Last; _index++)
        {
            _labels.Add((nint)_a.Next);
            EmitInstruction(_block->Ops + _index);
        }

        _labels.Add((nint)_a.Next);
        _a.Jump((byte*)_labels[resume]);
    }
}
