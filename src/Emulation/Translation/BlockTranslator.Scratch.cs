namespace VirtPS.Emulation;

// Guest registers that are in memory, in instructions on registers. R10 and R11 hold them for as long as nothing else wants these two; what is only read may also be read where it is.
internal sealed unsafe partial class BlockTranslator
{
    /// <summary>
    /// The same instruction with its operands in the other order, where the register operand, which is in memory, is only read: as ModRM.rm it can be read where it is. Compilers use the form in which ModRM.rm
    /// is what changes.
    /// </summary>
    private static GuestForm TurnedRound(in GuestForm f)
    {
        if (f.Vex || !f.HasModRm || f.RegIsOpcode || f.WritesReg || f.Reg >= 16 || f.Rm >= 16 || !RegisterMap.InMemory(f.Reg) || (f.Opcode & HostOp.MapMask) != 0)
            return f;
        int b = f.Opcode & 0xFF;
        bool hasDirection = b is < 0x40 or 0x88 or 0x89, test = b is 0x84 or 0x85;
        if (!hasDirection && !test)
            return f;
        GuestForm turned = f;
        (turned.Reg, turned.Rm) = (f.Rm, f.Reg);
        (turned.WritesReg, turned.WritesRm) = (f.WritesRm, false);
        if (hasDirection)
            turned.Opcode ^= 2;
        return turned;
    }

    /// <summary>Scratch registers that an instruction on registers needs, for those that are in memory and cannot be read there.</summary>
    private static int ScratchesFor(in GuestForm form)
    {
        GuestForm f = TurnedRound(form);
        bool rm = f.Rm < 16 && RegisterMap.InMemory(f.Rm) && !CanBeSlot(f);
        bool reg = !f.RegIsOpcode && f.Reg < 16 && RegisterMap.InMemory(f.Reg);
        bool vvvv = f.Vvvv >= 0 && RegisterMap.InMemory(f.Vvvv);
        return (rm ? 1 : 0) + (reg ? 1 : 0) + (vvvv ? 1 : 0);
    }

    private static bool CanBeSlot(in GuestForm f) => !f.WritesRm && !f.IsBitString;

    /// <summary>Whether ModRM.rm, which is in memory, is read there: not if a scratch register holds it and is not needed for another.</summary>
    private bool IsFromSlot(in GuestForm f, bool regInMemory, bool vvvvInMemory)
    {
        if (!CanBeSlot(f) || (regInMemory && f.Reg == f.Rm && !vvvvInMemory))
            return false;
        if (_held10 != f.Rm && _held11 != f.Rm)
            return true;
        int others = (regInMemory ? 1 : 0) + (vvvvInMemory ? 1 : 0);
        return others > (_addendPin >= 0 ? 0 : 1);
    }

    /// <summary>Before an operand is read where it is: a scratch register may have its new value.</summary>
    private void SaveForSlot(int guest)
    {
        if (_held10 == guest)
            Release(HostReg.R10);
        if (_held11 == guest)
            Release(HostReg.R11);
    }

    private void EmitFromSlot(in GuestForm f, HostReg reg, HostReg vvvv)
    {
        HostMemory slot = RegisterMap.Slot(f.Rm);
        if (f.Vex)
            _a.Vex(f.Opcode, (int)reg, f.Vvvv < 0 ? 0 : (int)vvvv, slot, f.RexW);
        else
            _a.Op(f.Opcode, (int)reg, slot, f.RexW, f.ByteReg && !f.RegIsOpcode && f.Reg < 16 && (int)reg is >= 4 and < 8);
    }

    /// <summary>Host registers for the operands; those that are in memory (<paramref name="rmInMemory"/>: and are not read there) get R10 and R11, where they are already if they are.</summary>
    private (HostReg Rm, HostReg Vvvv, HostReg Reg) ChooseScratch(in GuestForm f, bool rmInMemory, bool highRm, bool highReg)
    {
        bool regInMemory = !f.RegIsOpcode && !highReg && RegisterMap.InMemory(f.Reg);
        bool vvvvInMemory = f.Vvvv >= 0 && RegisterMap.InMemory(f.Vvvv);
        // One register in both roles (XADD, XCHG) must stay one.
        bool same = rmInMemory && regInMemory && f.Reg == f.Rm;
        HostReg rm = highRm ? (HostReg)(f.Rm - 12) : RegisterMap.Host(f.Rm & 15), vvvv = f.Vvvv < 0 ? HostReg.Rax : RegisterMap.Host(f.Vvvv);
        HostReg reg = f.RegIsOpcode ? (HostReg)f.Reg : highReg ? (HostReg)(f.Reg - 12) : RegisterMap.Host(f.Reg);
        HostReg taken = HostReg.None;
        if (rmInMemory)
            rm = taken = Pick(f.Rm, regInMemory && !same ? f.Reg : vvvvInMemory ? f.Vvvv : -1);
        if (vvvvInMemory)
            vvvv = taken = taken == HostReg.None ? Pick(f.Vvvv, regInMemory ? f.Reg : -1) : OtherScratch(taken);
        if (same)
            reg = rm;
        else if (regInMemory)
            reg = taken == HostReg.None ? Pick(f.Reg, -1) : OtherScratch(taken);
        return (rm, vvvv, reg);
    }

    private static HostReg OtherScratch(HostReg scratch) => scratch == HostReg.R10 ? HostReg.R11 : HostReg.R10;

    /// <summary>
    /// The scratch register for an operand: the one that holds it, not the one that holds the instruction's <paramref name="other"/>; R11 while R10 has an addend; else the one whose content need not be saved.
    /// </summary>
    private HostReg Pick(int guest, int other)
    {
        if (_addendPin >= 0)
            return HostReg.R11;
        if (_held10 == guest || (other >= 0 && _held11 == other))
            return HostReg.R10;
        if (_held11 == guest || (other >= 0 && _held10 == other))
            return HostReg.R11;
        return _dirty11 && !_dirty10 ? HostReg.R10 : HostReg.R11;
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
}
