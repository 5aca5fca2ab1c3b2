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

    private bool EmitWithRegisters(Op* op, in GuestForm form)
    {
        GuestForm f = TurnedRound(form);
        bool highRm = f.ByteRm && f.Rm >= 16, highReg = f.ByteReg && !f.RegIsOpcode && f.Reg >= 16;
        bool rmInMemory = !highRm && RegisterMap.InMemory(f.Rm);
        bool regInMemory = !f.RegIsOpcode && !highReg && RegisterMap.InMemory(f.Reg);
        bool vvvvInMemory = f.Vvvv >= 0 && RegisterMap.InMemory(f.Vvvv);
        bool fromSlot = rmInMemory && IsFromSlot(f, regInMemory, vvvvInMemory);
        if (rmInMemory && regInMemory && vvvvInMemory && !fromSlot)
            return false;
        (HostReg rm, HostReg vvvv, HostReg reg) = ChooseScratch(f, rmInMemory && !fromSlot, highRm, highReg);
        // AH to BH have no name in an instruction with a REX prefix.
        if ((highRm || highReg) && ((int)rm >= 8 || (!f.RegIsOpcode && (int)reg >= 8) || NeedsRex(f, reg, rm, highReg, highRm)))
            return false;
        if (fromSlot)
            SaveForSlot(f.Rm);
        else if (rmInMemory)
            Hold(rm, f.Rm, f.ReadsRm || (regInMemory && reg == rm));
        // What is read comes before what is only written: they may be the same register.
        if (vvvvInMemory)
            Hold(vvvv, f.Vvvv, true);
        if (regInMemory)
            Hold(reg, f.Reg, f.ReadsReg);
        if (fromSlot)
            EmitFromSlot(f, reg, vvvv);
        else if (f.Vex)
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
