using Iced.Intel;
using VirtPS.Emulation.Thunks;

namespace VirtPS.Emulation;

// Which accesses of a block share a check, and where what it finds is kept.
internal sealed unsafe partial class BlockTranslator
{
    /// <summary>Finds the pins of the block.</summary>
    private void PlanPins(bool allowed)
    {
        _pinCount = 0;
        _addendPin = -1;
        Array.Fill(_pinOf, -1);
        if (!allowed)
            return;
        Span<int> open = stackalloc int[16], moved = stackalloc int[16];
        open.Fill(-1);
        for (int i = 0; i < _block->Count; i++)
        {
            Op* op = _block->Ops + i;
            uint changes = _facts[i].Changes;
            int move = RegisterMove.ReadWide(op, _code64 ? 8 : 4, out int register);
            bool pinned = TryGetPinned(op, out BasedAccess access) && Math.Abs((long)access.Distance) < FarthestDisplacement;
            if (pinned && access.Base == NoRegister)
            {
                JoinByCode(i, access);
            }
            else if (pinned)
            {
                Join(i, access, ref open[access.Base], ref moved[access.Base]);
                (move, register) = (access.Moves, access.Base);
            }

            if (move != 0 && open[register] >= 0 && Math.Abs((long)moved[register] + move) < 1 << 20)
            {
                moved[register] += move;
                changes &= ~(1u << register);
            }

            for (int r = 0; r < 16; r++)
            {
                if ((changes >> r & 1) != 0)
                    open[r] = -1;
            }
        }

        ChoosePins();
    }

    /// <summary>An access joins the open pin of its base register, or opens one.</summary>
    private void Join(int index, in BasedAccess access, ref int open, ref int moved)
    {
        if (open >= 0)
        {
            ref Pin pin = ref _pins[open];
            long distance = (long)moved + access.Distance;
            long low = Math.Min(pin.Low, distance), high = Math.Max(pin.High, distance + access.Size);
            if (high - low <= LongestRange)
            {
                (pin.Low, pin.High, pin.Last) = ((int)low, (int)high, index);
                _pinMoved[index] = moved;
                pin.Count++;
                pin.Writes |= access.Writes;
                _pinOf[index] = open;
                return;
            }
        }

        open = _pinCount;
        moved = 0;
        AddPin(index, access);
    }

    /// <summary>
    /// What is addressed from RIP lies at known distances from the code, page by page: all that a block accesses in one page shares a check, however far apart it is, and none crosses a page end.
    /// </summary>
    private void JoinByCode(int index, in BasedAccess access)
    {
        int place = (int)(_rip & 0xFFF) + access.Distance, page = place >> 12;
        if (place + access.Size - 1 >> 12 != page)
            return;
        for (int p = 0; p < _pinCount; p++)
        {
            ref Pin pin = ref _pins[p];
            if (pin.Base != NoRegister || (int)(_rip & 0xFFF) + pin.Low >> 12 != page)
                continue;
            (pin.Low, pin.High, pin.Last) = (Math.Min(pin.Low, access.Distance), Math.Max(pin.High, access.Distance + access.Size), index);
            pin.Count++;
            pin.Writes |= access.Writes;
            (_pinOf[index], _pinMoved[index]) = (p, 0);
            return;
        }

        AddPin(index, access);
    }

    private void AddPin(int index, in BasedAccess access)
    {
        int open = _pinCount++;
        _pinMoved[index] = 0;
        _pinOf[index] = open;
        _pins[open] = new Pin { First = index, Last = index, Count = 1, Base = access.Base, Low = access.Distance, High = access.Distance + access.Size, Writes = access.Writes, Slot = -1 };
    }

    /// <summary>Keeps the pins that several accesses share and for which there is room.</summary>
    private void ChoosePins()
    {
        Span<int> freeFrom = stackalloc int[VcpuMemory.PinCount];
        // Stack memory is not cleared by itself (SkipLocalsInit).
        freeFrom.Clear();
        for (int p = 0; p < _pinCount; p++)
        {
            ref Pin pin = ref _pins[p];
            bool keep = pin.Count > 1;
            if (keep && !StaysInRegister(p))
            {
                int slot = 0;
                while (slot < freeFrom.Length && freeFrom[slot] > pin.First)
                    slot++;
                keep = slot < freeFrom.Length;
                if (keep)
                {
                    freeFrom[slot] = pin.Last + 1;
                    pin.Slot = slot;
                }
            }

            if (!keep)
                Unpin(p);
        }
    }

    private void Unpin(int pin)
    {
        for (int i = _pins[pin].First; i <= _pins[pin].Last; i++)
        {
            if (_pinOf[i] == pin)
                _pinOf[i] = -1;
        }
    }

    /// <summary>The present instruction is the interpreter's after all: it checks nothing for others, and R10 is gone.</summary>
    private void DropPins()
    {
        for (int p = 0; p < _pinCount; p++)
        {
            if (_pins[p].First == _index || (_pins[p].Slot < 0 && _pins[p].First < _index && _pins[p].Last > _index))
                Unpin(p);
        }

        _addendPin = -1;
    }

    private bool IsVector(int index)
    {
        Op* op = _block->Ops + index;
        return op->IsMemory && !GuestForm.TryRead(op, _host, out _);
    }

    private bool StaysInRegister(int pin)
    {
        if (!_code64)
            return false;
        for (int i = _pins[pin].First; i <= _pins[pin].Last; i++)
        {
            // A vector instruction may have to load the vector registers first, for which it uses R10.
            if (_pinOf[i] == pin ? (i > _pins[pin].First && IsVector(i)) || LosesAddend(i) : !KeepsAddend(i))
                return false;
        }

        return true;
    }

    /// <summary>MULX into two registers that are in memory reads its operand into R10.</summary>
    private bool LosesAddend(int index) =>
        GuestForm.TryRead(_block->Ops + index, _host, out GuestForm f) && f.Vvvv >= 0 && RegisterMap.InMemory(f.Vvvv) && !f.RegIsOpcode && f.Reg < 16 && RegisterMap.InMemory(f.Reg);

    /// <summary>The code of an instruction without a memory operand leaves R10 alone and cannot leave the block but by a branch.</summary>
    private bool KeepsAddend(int index)
    {
        Op* op = _block->Ops + index;
        if (op->Handler is HotForms.Nop or HotForms.JmpRel)
            return true;
        // Behind a branch to the start of the block a loop of its own may come out (EmitLoop), with something else in R10.
        if (op->Handler is >= HotForms.Jo and <= HotForms.Jg)
            return op->Imm != 0;
        if (op->Code is Code.Lea_r64_m or Code.Lea_r32_m)
            return !(op->Index != 0xFF && RegisterMap.InMemory(op->Index)) && op->AddrSize == 8;
        if (!_facts[index].IsPlain || op->IsMemory || !GuestForm.TryRead(op, _host, out GuestForm f))
            return false;
        return !f.HasModRm || (f.Rm < 16 && (f.RegIsOpcode || f.Reg < 16) && ScratchesFor(f) <= 1);
    }
}
