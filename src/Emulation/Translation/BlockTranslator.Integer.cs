using Iced.Intel;

namespace VirtPS.Emulation;

// Integer instructions: the host's own with registers renamed.
internal sealed unsafe partial class BlockTranslator
{
    private bool EmitInteger(Op* op)
    {
        if (op->Handler == HotForms.Nop)
            return true;
        // What is behind a branch forward leaves the scratch registers alone.
        if (op->Handler is >= HotForms.Jo and <= HotForms.Jg && (int)op->Imm > op->Offset + op->Length)
        {
            FlushHeld();
            return false;
        }

        bool known = GuestForm.TryRead(op, _host, out GuestForm f);
        _withoutCheck = known && IsWithoutCheck(op, f);
        if (_withoutCheck)
            ReleaseForAddend();
        else if (!KeepsHeld(op, known, f))
            ForgetHeld();
        if (op->Code is Code.Lea_r64_m or Code.Lea_r32_m)
            return EmitLea(op);
        if (!known)
            return false;
        if (f.RegisterInOpcode)
            return EmitRegisterInOpcode(op, f);
        if (!f.HasModRm)
        {
            EmitPlain(op, f);
            return true;
        }

        return op->IsMemory ? EmitWithMemory(op, f) : EmitWithRegisters(op, f);
    }

    /// <summary>The present instruction uses no check for its memory operand: it cannot leave the block, and of the scratch registers takes R10 alone.</summary>
    private bool _withoutCheck;

    private bool IsWithoutCheck(Op* op, in GuestForm f)
    {
        if (!op->IsMemory || !_code64 || _inRounds || !IsPinned || _pins[_pinOf[_index]].First == _index)
            return false;
        bool regInMemory = !f.RegIsOpcode && f.Reg < 16 && RegisterMap.InMemory(f.Reg);
        return !(regInMemory && f.Vvvv >= 0 && RegisterMap.InMemory(f.Vvvv));
    }

    private void ReleaseForAddend()
    {
        if (_addendPin != _pinOf[_index])
            Release(HostReg.R10);
    }

    /// <summary>Whether an instruction may find in the scratch registers what they hold, and leaves it there.</summary>
    private static bool KeepsHeld(Op* op, bool known, in GuestForm f)
    {
        if (op->Code is Code.Lea_r64_m or Code.Lea_r32_m)
            return op->IsMemory && !InMemory(op->Reg) && !InMemory(op->Base) && !InMemory(op->Index);
        return known && !op->IsMemory && !(f.RegisterInOpcode && RegisterMap.InMemory(f.Rm));
    }

    private static bool InMemory(byte number) => number != 0xFF && RegisterMap.InMemory(number);

    private void EmitImmediate(Op* op, int bytes)
    {
        byte* from = Op.Bytes(op) + op->Length - bytes;
        for (int i = 0; i < bytes; i++)
            _a.Byte(from[i]);
    }

    /// <summary>Implicit operands only: RAX, RDX, CL, which are where they are in the guest.</summary>
    private void EmitPlain(Op* op, in GuestForm f)
    {
        if ((f.Opcode & HostOp.PrefixMask) == HostOp.P66)
            _a.Byte(0x66);
        if (f.RexW)
            _a.Byte(0x48);
        _a.Byte(f.Opcode);
        EmitImmediate(op, f.ImmediateBytes);
    }

    private bool EmitRegisterInOpcode(Op* op, in GuestForm f)
    {
        bool high = f.ByteRm && f.Rm >= 16;
        bool inMemory = !high && RegisterMap.InMemory(f.Rm);
        HostReg rm = high ? (HostReg)(f.Rm - 12) : inMemory ? HostReg.R11 : RegisterMap.Host(f.Rm);
        if (inMemory && f.ReadsRm)
            _a.Load(rm, RegisterMap.Slot(f.Rm));
        if ((f.Opcode & HostOp.PrefixMask) == HostOp.P66)
            _a.Byte(0x66);
        int rex = (f.RexW ? 8 : 0) | (int)rm >> 3;
        if (rex != 0 || (f.ByteRm && !high && (int)rm >= 4))
            _a.Byte(0x40 | rex);
        if ((f.Opcode & HostOp.MapMask) == HostOp.Map0F)
            _a.Byte(0x0F);
        _a.Byte(f.Opcode | (int)rm & 7);
        EmitImmediate(op, f.ImmediateBytes);
        if (inMemory)
            _a.Store(RegisterMap.Slot(f.Rm), rm);
        return true;
    }

    private bool EmitWithRegisters(Op* op, in GuestForm f)
    {
        bool highRm = f.ByteRm && f.Rm >= 16, highReg = f.ByteReg && !f.RegIsOpcode && f.Reg >= 16;
        bool rmInMemory = !highRm && RegisterMap.InMemory(f.Rm);
        bool regInMemory = !f.RegIsOpcode && !highReg && RegisterMap.InMemory(f.Reg);
        bool vvvvInMemory = f.Vvvv >= 0 && RegisterMap.InMemory(f.Vvvv);
        if (rmInMemory && regInMemory && vvvvInMemory)
            return false;
        if (rmInMemory && !regInMemory && !vvvvInMemory && !highReg && EmitFromSlot(op, f))
            return true;
        (HostReg rm, HostReg vvvv, HostReg reg) = ChooseScratch(f, highRm, highReg);
        // AH to BH have no name in an instruction with a REX prefix.
        if ((highRm || highReg) && ((int)rm >= 8 || (!f.RegIsOpcode && (int)reg >= 8) || NeedsRex(f, reg, rm, highReg, highRm)))
            return false;
        if (rmInMemory)
            Hold(rm, f.Rm, f.ReadsRm || (regInMemory && reg == rm));
        // What is read comes before what is only written: they may be the same register.
        if (vvvvInMemory)
            Hold(vvvv, f.Vvvv, true);
        if (regInMemory)
            Hold(reg, f.Reg, f.ReadsReg);
        if (f.Vex)
            _a.Vex(f.Opcode, (int)reg, (int)vvvv, rm, f.RexW);
        else
            _a.Op(f.Opcode, (int)reg, rm, f.RexW, !highRm && !highReg && NeedsRex(f, reg, rm, false, false));
        EmitImmediate(op, f.ImmediateBytes);
        if (rmInMemory && f.WritesRm)
            PutBack(f.Rm, rm);
        // MULX with one register twice leaves the high half there: the order of these two matters.
        if (vvvvInMemory && f.WritesVvvv)
            PutBack(f.Vvvv, vvvv);
        if (regInMemory && f.WritesReg)
            PutBack(f.Reg, reg);
        return true;
    }

    /// <summary>Host registers for the operands; those that are in memory get R10 and R11, where they are already if they are.</summary>
    private (HostReg Rm, HostReg Vvvv, HostReg Reg) ChooseScratch(in GuestForm f, bool highRm, bool highReg)
    {
        bool rmInMemory = !highRm && RegisterMap.InMemory(f.Rm);
        bool regInMemory = !f.RegIsOpcode && !highReg && RegisterMap.InMemory(f.Reg);
        bool vvvvInMemory = f.Vvvv >= 0 && RegisterMap.InMemory(f.Vvvv);
        bool swapped = (rmInMemory && _held10 == f.Rm) || (regInMemory && _held11 == f.Reg && (!rmInMemory || f.Reg != f.Rm));
        // With a pin in R10 only R11 is free; nobody has promised otherwise (KeepsAddend).
        HostReg first = swapped && !(rmInMemory && _addendPin >= 0) ? HostReg.R10 : HostReg.R11, second = first == HostReg.R11 ? HostReg.R10 : HostReg.R11;
        HostReg rm = highRm ? (HostReg)(f.Rm - 12) : rmInMemory ? first : RegisterMap.Host(f.Rm);
        HostReg spare = rmInMemory ? second : first;
        HostReg vvvv = f.Vvvv < 0 ? HostReg.Rax : vvvvInMemory ? spare : RegisterMap.Host(f.Vvvv);
        HostReg reg = f.RegIsOpcode ? (HostReg)f.Reg : highReg ? (HostReg)(f.Reg - 12) : regInMemory ? second : RegisterMap.Host(f.Reg);
        if (vvvvInMemory && regInMemory)
            vvvv = first;
        // One register in both roles (XADD, XCHG) must stay one.
        if (rmInMemory && regInMemory && f.Reg == f.Rm)
            reg = rm;
        return (rm, vvvv, reg);
    }

    /// <summary>An operand that is only read, straight from the state, unless a scratch register holds it.</summary>
    private bool EmitFromSlot(Op* op, in GuestForm f)
    {
        if (f.WritesRm || _held10 == f.Rm || _held11 == f.Rm || f.IsBitString)
            return false;
        HostMemory slot = RegisterMap.Slot(f.Rm);
        HostReg reg = f.RegIsOpcode ? (HostReg)f.Reg : RegisterMap.Host(f.Reg);
        if (f.Vex)
            _a.Vex(f.Opcode, (int)reg, f.Vvvv < 0 ? 0 : (int)RegisterMap.Host(f.Vvvv), slot, f.RexW);
        else
            _a.Op(f.Opcode, (int)reg, slot, f.RexW, f.ByteReg && !f.RegIsOpcode && (int)reg is >= 4 and < 8);
        EmitImmediate(op, f.ImmediateBytes);
        return true;
    }

    /// <summary>Which guest register, of those that are in memory, R10 and R11 hold as well; -1: none.</summary>
    private int _held10, _held11;

    /// <summary>Whether they alone hold it: memory has a former value, until something wants the scratch register or may leave the block.</summary>
    private bool _dirty10, _dirty11;

    private void FlushHeld()
    {
        if (_dirty10)
            _a.Store(RegisterMap.Slot(_held10), HostReg.R10);
        if (_dirty11)
            _a.Store(RegisterMap.Slot(_held11), HostReg.R11);
        _dirty10 = _dirty11 = false;
    }

    private void ForgetHeld()
    {
        FlushHeld();
        _held10 = _held11 = -1;
    }

    /// <summary>A scratch register is wanted for something else.</summary>
    private void Release(HostReg scratch)
    {
        ref int held = ref scratch == HostReg.R10 ? ref _held10 : ref _held11;
        ref bool dirty = ref scratch == HostReg.R10 ? ref _dirty10 : ref _dirty11;
        if (dirty)
            _a.Store(RegisterMap.Slot(held), scratch);
        (held, dirty) = (-1, false);
    }

    /// <summary>Brings a guest register that is in memory to a scratch register, if it is not there.</summary>
    private void Hold(HostReg scratch, int guest, bool read)
    {
        int held = scratch == HostReg.R10 ? _held10 : _held11;
        if (held == guest)
            return;
        Release(scratch);
        HostReg other = scratch == HostReg.R10 ? HostReg.R11 : HostReg.R10;
        if (read && (scratch == HostReg.R10 ? _held11 : _held10) == guest)
            _a.Move(scratch, other);
        else if (read)
            _a.Load(scratch, RegisterMap.Slot(guest));
        if (scratch == HostReg.R10)
            _held10 = guest;
        else
            _held11 = guest;
    }

    /// <summary>A scratch register that holds a guest register has its new value.</summary>
    private void PutBack(int guest, HostReg scratch)
    {
        if (scratch == HostReg.R10)
        {
            (_held10, _dirty10) = (guest, true);
            if (_held11 == guest)
                (_held11, _dirty11) = (-1, false);
        }
        else
        {
            (_held11, _dirty11) = (guest, true);
            if (_held10 == guest)
                (_held10, _dirty10) = (-1, false);
        }
    }

    /// <summary>A byte operand in SPL, BPL, SIL, DIL needs a REX prefix to be that.</summary>
    private static bool NeedsRex(in GuestForm f, HostReg reg, HostReg rm, bool highReg, bool highRm) =>
        (f.ByteReg && !f.RegIsOpcode && !highReg && (int)reg is >= 4 and < 8) || (f.ByteRm && !highRm && (int)rm is >= 4 and < 8) || (f.RexW && (highReg || highRm));

    private bool EmitWithMemory(Op* op, in GuestForm f)
    {
        bool regInMemory = !f.RegIsOpcode && f.Reg < 16 && RegisterMap.InMemory(f.Reg);
        bool vvvvInMemory = f.Vvvv >= 0 && RegisterMap.InMemory(f.Vvvv);
        if ((f.ByteReg && !f.RegIsOpcode && f.Reg >= 16) || (regInMemory && vvvvInMemory && !f.WritesVvvv))
            return false;
        HostMemory m = EmitOperand(op, f.MemorySize, f.Memory);
        HostReg reg = f.RegIsOpcode ? (HostReg)f.Reg : regInMemory ? HostReg.R11 : RegisterMap.Host(f.Reg);
        HostReg vvvv = f.Vvvv < 0 ? HostReg.Rax : vvvvInMemory ? HostReg.R11 : RegisterMap.Host(f.Vvvv);
        if (regInMemory && vvvvInMemory)
        {
            // MULX into two registers that are in memory: the operand to R10, which the low half may replace.
            _a.Op(0x8B, (int)HostReg.R10, m, f.RexW);
            _a.Vex(f.Opcode, (int)HostReg.R11, (int)HostReg.R10, HostReg.R10, f.RexW);
            _a.Store(RegisterMap.Slot(f.Vvvv), HostReg.R10);
            _a.Store(RegisterMap.Slot(f.Reg), HostReg.R11);
            _addendPin = -1;
            return true;
        }

        if (_withoutCheck && (regInMemory || vvvvInMemory))
        {
            Hold(HostReg.R11, regInMemory ? f.Reg : f.Vvvv, regInMemory ? f.ReadsReg : !f.WritesVvvv);
        }
        else if (regInMemory || vvvvInMemory)
        {
            m = FreeScratch(m);
            _a.Load(HostReg.R11, RegisterMap.Slot(regInMemory ? f.Reg : f.Vvvv));
        }

        if (f.Lock)
            _a.Byte(0xF0);
        if (f.Vex)
            _a.Vex(f.Opcode, (int)reg, (int)vvvv, m, f.RexW);
        else
            _a.Op(f.Opcode, (int)reg, m, f.RexW, f.ByteReg && !f.RegIsOpcode && (int)reg is >= 4 and < 8);
        EmitImmediate(op, f.ImmediateBytes);
        bool written = (vvvvInMemory && f.WritesVvvv) || (regInMemory && f.WritesReg);
        if (written && _withoutCheck)
            PutBack(regInMemory ? f.Reg : f.Vvvv, HostReg.R11);
        else if (written)
            _a.Store(RegisterMap.Slot(regInMemory ? f.Reg : f.Vvvv), HostReg.R11);
        return true;
    }

    private bool EmitLea(Op* op)
    {
        if (!op->IsMemory)
            return false;
        bool narrow = op->OpSize == 4;
        bool inMemory = RegisterMap.InMemory(op->Reg);
        HostReg to = inMemory ? HostReg.R11 : RegisterMap.Host(op->Reg);
        if (op->Has(OpFlags.RipRelative))
            EmitCodeAddress(to, (int)op->Disp);
        else
            EmitOffset(op, to, narrow);
        if (narrow && op->Has(OpFlags.RipRelative))
            _a.Op(0x8B, (int)to, to);
        if (inMemory)
            _a.Store(RegisterMap.Slot(op->Reg), to);
        return true;
    }
}
