using Iced.Intel;
using VirtPS.Emulation.Thunks;
using VirtPS.X86;

namespace VirtPS.Emulation;

// One check for several accesses. What a block accesses by one base register at small distances mostly lies in one page: fields of a structure, locals, PUSH and POP. The first
// such access checks the range of all and pins the page: its addend is kept for the others, in R10 or in the vCPU's memory. Should that check miss, execution goes on, from that
// instruction on, in a second translation of the block in which every access has a check of its own (EmitUnpinned).
internal sealed unsafe partial class BlockTranslator
{
    private const int LongestRange = 512;

    /// <summary>
    /// Accesses that share a check: instructions, base register, range from the base's value at the first. <see cref="Slot"/>: where the addend is kept; -1: R10 keeps it.
    /// </summary>
    private struct Pin
    {
        public int First, Last, Count, Base, Low, High, Slot;
        public bool Writes;
    }

    private readonly Pin[] _pins = new Pin[SoftVcpu.MaxOps];
    private int _pinCount;

    /// <summary>The pin of each instruction's access; -1: it has a check of its own.</summary>
    private readonly int[] _pinOf = new int[SoftVcpu.MaxOps];

    /// <summary>The pin whose addend is in R10; -1: none.</summary>
    private int _addendPin;

    /// <summary>The check being written is one for several.</summary>
    private bool _checkingPin;

    private bool IsPinned => _inRounds ? _streamOf[_index] is >= 0 and int s && (_inTableRounds || !_streams[s].IsTable) : _pinOf[_index] >= 0;

    /// <summary>
    /// A memory access of an instruction: base register (<see cref="NoRegister"/>: the start of the block), index register if there is one, and its scale, distance, size, what the address must be a
    /// multiple of.
    /// </summary>
    private struct BasedAccess
    {
        public int Base, Index, Scale, Distance, Size, Alignment;
        public bool Writes;

        /// <summary>What the instruction adds to the base.</summary>
        public int Moves;
    }

    private const int NoRegister = -1;

    private bool TryGetAccess(Op* op, out BasedAccess access)
    {
        access = new BasedAccess { Base = 4, Index = NoRegister, Size = 8, Alignment = 1 };
        switch (op->Code)
        {
            case Code.Push_r64 or Code.Pushq_imm8 or Code.Pushq_imm32:
                (access.Distance, access.Moves, access.Writes) = (-8, -8, true);
                return true;
            case Code.Call_rm64 when !op->IsMemory && op->Rm != 4:
                (access.Distance, access.Writes) = (-8, true);
                return true;
            case Code.Pop_r64 when op->Rm != 4:
                access.Moves = 8;
                return true;
            case Code.Leaveq:
                access.Base = 5;
                return true;
        }

        if (op->Handler is HotForms.CallRel or HotForms.Ret or HotForms.RetI)
        {
            if (op->Handler == HotForms.CallRel)
                (access.Distance, access.Moves, access.Writes) = (-8, -8, true);
            return true;
        }

        if (!op->IsMemory || op->Seg >= SegmentName.FS || op->AddrSize != 8 || op->Code is Code.Lea_r64_m or Code.Lea_r32_m || op->Handler == HotForms.Nop || op->Disp != (int)op->Disp
            || !TryGetRegisters(op, ref access))
            return false;
        if (GuestForm.TryRead(op, _host, out GuestForm f))
        {
            (access.Size, access.Writes) = (f.MemorySize, f.Memory != MemoryUse.Read);
            return !f.ByteReg || f.RegIsOpcode || f.Reg < 16;
        }

        if (TryReadX87(op, out X87Form x))
        {
            (access.Size, access.Writes) = (x.MemorySize, x.Memory != MemoryUse.Read);
            return x.MemorySize != 0;
        }

        if (!TryReadVector(op, out VectorForm v) || v.MemorySize == 0)
            return false;
        (access.Size, access.Writes, access.Alignment) = (v.MemorySize, v.Memory != MemoryUse.Read, v.Aligned ? v.MemorySize : 1);
        return true;
    }

    private static bool TryGetRegisters(Op* op, ref BasedAccess access)
    {
        access.Distance = (int)op->Disp;
        access.Base = NoRegister;
        if (op->Has(OpFlags.RipRelative))
            return true;
        if (op->Base == 0xFF || RegisterMap.InMemory(op->Base))
            return false;
        access.Base = op->Base;
        if (op->Index == 0xFF)
            return true;
        (access.Index, access.Scale) = (op->Index, op->Scale);
        return !RegisterMap.InMemory(op->Index);
    }

    /// <summary>Pins are for what has only a base register and need not be aligned.</summary>
    private bool TryGetPinned(Op* op, out BasedAccess access) =>
        _code64 ? TryGetAccess(op, out access) && access is { Base: not NoRegister, Index: NoRegister, Alignment: 1 } : TryGetAccess32(op, out access);

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
            if (TryGetPinned(op, out BasedAccess access))
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
                pin.Count++;
                pin.Writes |= access.Writes;
                _pinOf[index] = open;
                return;
            }
        }

        open = _pinCount++;
        moved = 0;
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
        for (int i = _pins[pin].First + 1; i <= _pins[pin].Last; i++)
        {
            // A vector instruction may have to load the vector registers first, for which it uses R10.
            if (_pinOf[i] == pin ? IsVector(i) : !KeepsAddend(i))
                return false;
        }

        return true;
    }

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
        if (!_facts[index].IsPlain || op->IsMemory || !GuestForm.TryRead(op, _host, out GuestForm f) || f.Vex)
            return false;
        return !f.HasModRm || ((f.RegIsOpcode || f.Reg >= 16 || !RegisterMap.InMemory(f.Reg)) && f.Rm < 16 && (f.RegIsOpcode || f.Reg < 16));
    }

    /// <summary>Where the bytes of the present instruction's pinned access are: <paramref name="distance"/> from the base. The first one checks for all.</summary>
    private HostMemory EmitPinned(int distance)
    {
        if (_inRounds)
            return EmitStreamed(distance);
        int number = _pinOf[_index];
        ref Pin pin = ref _pins[number];
        HostReg b = RegisterMap.Host(pin.Base);
        if (_index == pin.First)
            EmitPinCheck(pin, b);
        else if (_addendPin != number)
            _a.Load(HostReg.R10, PinPlace(pin));
        _addendPin = number;
        if (_code64)
            return new HostMemory(b, distance, HostReg.R10);
        _a.Lea32(HostReg.R11, new HostMemory(b, distance));
        return s_checked;
    }

    private static HostMemory PinPlace(in Pin pin) => HostMemory.State(VcpuMemory.PinOffset + pin.Slot * 8);

    private void EmitPinCheck(in Pin pin, HostReg b)
    {
        bool free = TryFreeFlags();
        HostReg address = b;
        int displacement = pin.Low;
        if (!_code64)
        {
            (address, displacement) = (HostReg.R11, 0);
            _a.Lea32(HostReg.R11, new HostMemory(b, pin.Low));
        }
        else if (free && (pin.Low != 0 || b == HostReg.Rcx))
        {
            address = HostReg.R11;
            _a.Lea(HostReg.R11, new HostMemory(b, pin.Low));
        }

        _checkingPin = true;
        if (free)
            EmitShortCheck(address, pin.High - pin.Low, pin.Writes, addend: true);
        else
            EmitCheck(address, pin.High - pin.Low, pin.Writes, displacement: displacement);
        _checkingPin = false;
        if (pin.Slot >= 0)
            _a.Store(PinPlace(pin), HostReg.R10);
    }

    /// <summary>After each instruction: whether R10 still holds the addend that it held.</summary>
    private void FollowAddend()
    {
        if (!IsPinned && _addendPin >= 0 && !KeepsAddend(_index) && !IsVectorOnly(_index))
            _addendPin = -1;
    }

    /// <summary>A vector instruction without memory or general registers. Had it loaded the vector registers, R10 would be known to be gone.</summary>
    private bool IsVectorOnly(int index)
    {
        Op* op = _block->Ops + index;
        return !op->IsMemory && !GuestForm.TryRead(op, _host, out _) && TryReadVector(op, out VectorForm v) && v.Reg == GprRole.None && v.Rm == GprRole.None;
    }

    /// <summary>Leaves for the second translation of the block, at the present instruction, with everything as it was before it.</summary>
    private void EmitUnpinned(int index)
    {
        byte* field = _a.Jump();
        _a.Bind(field);
        EmitSite(index);
        _a.Jump(_cache.Stubs.ExitUnpinned);
        _cache.AddUnpinned(field, index);
    }
}
