using Iced.Intel;
using VirtPS.Emulation.Thunks;
using VirtPS.X86;

namespace VirtPS.Emulation;

// One check for several accesses. What a block accesses by one base register at small distances mostly lies in one page: fields of a structure, locals, PUSH and POP. The first
// such access checks the range of all and pins the page: its addend is kept for the others, in R10 or in the vCPU's memory (where the base register
// itself is in memory, the host's address of what it pointed at). Should that check miss, execution goes on, from that
// instruction on, in a second translation of the block in which every access has a check of its own (EmitUnpinned).
internal sealed unsafe partial class BlockTranslator
{
    /// <summary>Accesses farther from their base have checks of their own: what a pin computes, with what the base moves, stays within 32 bits.</summary>
    private const int LongestRange = 512, FarthestDisplacement = 1 << 30;

    /// <summary>
    /// Accesses that share a check: instructions, base register (<see cref="NoRegister"/>: the start of the block), range from the base's value at the first. <see cref="Slot"/>: where the addend is kept; -1: R10 keeps it.
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

    /// <summary>What the base has moved since the pin's first access, for each that has a pin.</summary>
    private readonly int[] _pinMoved = new int[SoftVcpu.MaxOps];

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
        if (op->Base == 0xFF)
            return false;
        access.Base = op->Base;
        if (op->Index == 0xFF)
            return true;
        (access.Index, access.Scale) = (op->Index, op->Scale);
        return !RegisterMap.InMemory(op->Index);
    }

    /// <summary>Pins are for what has only a base register, or lies at a distance from the code, and need not be aligned.</summary>
    private bool TryGetPinned(Op* op, out BasedAccess access) =>
        _code64 ? TryGetAccess(op, out access) && access is { Index: NoRegister, Alignment: 1 } : TryGetAccess32(op, out access);

    /// <summary>Where the bytes of the present instruction's pinned access are: <paramref name="distance"/> from the base. The first one checks for all.</summary>
    private HostMemory EmitPinned(int distance)
    {
        if (_inRounds)
            return EmitStreamed(distance);
        int number = _pinOf[_index];
        ref Pin pin = ref _pins[number];
        bool isPointer = pin.Base == NoRegister || RegisterMap.InMemory(pin.Base);
        HostReg b = isPointer ? HostReg.R11 : RegisterMap.Host(pin.Base);
        if (_index == pin.First && isPointer)
            EmitPointerCheck(pin);
        else if (_index == pin.First)
            EmitPinCheck(pin, b);
        else if (_addendPin != number)
            _a.Load(HostReg.R10, PinPlace(pin));
        _addendPin = number;
        if (isPointer)
            return new HostMemory(HostReg.R10, distance + _pinMoved[_index]);
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

    /// <summary>The check of a pin whose base is in memory, or the start of the block: R10 and the pin's place have the host's address of what the base points at.</summary>
    private void EmitPointerCheck(in Pin pin)
    {
        bool free = TryFreeFlags();
        if (pin.Base == NoRegister)
        {
            EmitCodeAddress(HostReg.R11, pin.Low);
        }
        else
        {
            _a.Load(HostReg.R11, RegisterMap.Slot(pin.Base));
            if (pin.Low != 0)
                _a.Lea(HostReg.R11, new HostMemory(HostReg.R11, pin.Low));
        }

        _checkingPin = true;
        if (free)
            EmitShortCheck(HostReg.R11, pin.High - pin.Low, pin.Writes);
        else
            EmitCheck(HostReg.R11, pin.High - pin.Low, pin.Writes);
        _a.Lea(HostReg.R10, new HostMemory(HostReg.R10, -pin.Low, HostReg.R11));
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
