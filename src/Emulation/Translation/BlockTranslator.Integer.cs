using Iced.Intel;

namespace VirtPS.Emulation;

// Integer instructions: the host's own with registers renamed.
internal sealed unsafe partial class BlockTranslator
{
    private bool EmitInteger(Op* op)
    {
        if (op->Handler == HotForms.Nop)
            return true;
        if (op->Code is Code.Lea_r64_m or Code.Lea_r32_m)
            return EmitLea(op);
        if (!GuestForm.TryRead(op, out GuestForm f))
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
        if (inMemory)
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
        HostReg rm = highRm ? (HostReg)(f.Rm - 12) : rmInMemory ? HostReg.R11 : RegisterMap.Host(f.Rm);
        HostReg spare = rmInMemory ? HostReg.R10 : HostReg.R11;
        HostReg vvvv = f.Vvvv < 0 ? HostReg.Rax : vvvvInMemory ? spare : RegisterMap.Host(f.Vvvv);
        HostReg reg = f.RegIsOpcode ? (HostReg)f.Reg : highReg ? (HostReg)(f.Reg - 12) : regInMemory ? HostReg.R10 : RegisterMap.Host(f.Reg);
        if (vvvvInMemory && regInMemory)
            vvvv = HostReg.R11;
        // One register in both roles (XADD, XCHG) must stay one.
        if (rmInMemory && regInMemory && f.Reg == f.Rm)
            reg = rm;
        // AH to BH have no name in an instruction with a REX prefix.
        if ((highRm || highReg) && ((int)rm >= 8 || (!f.RegIsOpcode && (int)reg >= 8) || NeedsRex(f, reg, rm, highReg, highRm)))
            return false;
        if (rmInMemory)
            _a.Load(rm, RegisterMap.Slot(f.Rm));
        if (regInMemory)
            _a.Load(reg, RegisterMap.Slot(f.Reg));
        if (vvvvInMemory)
            _a.Load(vvvv, RegisterMap.Slot(f.Vvvv));
        if (f.Vex)
            _a.Vex(f.Opcode, (int)reg, (int)vvvv, rm, f.RexW);
        else
            _a.Op(f.Opcode, (int)reg, rm, f.RexW, !highRm && !highReg && NeedsRex(f, reg, rm, false, false));
        EmitImmediate(op, f.ImmediateBytes);
        if (rmInMemory && f.WritesRm)
            _a.Store(RegisterMap.Slot(f.Rm), rm);
        // MULX with one register twice leaves the high half there: the order of these two matters.
        if (vvvvInMemory && f.WritesVvvv)
            _a.Store(RegisterMap.Slot(f.Vvvv), vvvv);
        if (regInMemory && f.WritesReg)
            _a.Store(RegisterMap.Slot(f.Reg), reg);
        return true;
    }

    /// <summary>A byte operand in SPL, BPL, SIL, DIL needs a REX prefix to be that.</summary>
    private static bool NeedsRex(in GuestForm f, HostReg reg, HostReg rm, bool highReg, bool highRm) =>
        (f.ByteReg && !f.RegIsOpcode && !highReg && (int)reg is >= 4 and < 8) || (f.ByteRm && !highRm && (int)rm is >= 4 and < 8) || (f.RexW && (highReg || highRm));

    private bool EmitWithMemory(Op* op, in GuestForm f)
    {
        bool regInMemory = !f.RegIsOpcode && f.Reg < 16 && RegisterMap.InMemory(f.Reg);
        bool vvvvInMemory = f.Vvvv >= 0 && RegisterMap.InMemory(f.Vvvv);
        if ((f.ByteReg && !f.RegIsOpcode && f.Reg >= 16) || (regInMemory && vvvvInMemory))
            return false;
        HostMemory m = EmitOperand(op, f.MemorySize, f.Memory);
        HostReg reg = f.RegIsOpcode ? (HostReg)f.Reg : regInMemory ? HostReg.R11 : RegisterMap.Host(f.Reg);
        HostReg vvvv = f.Vvvv < 0 ? HostReg.Rax : vvvvInMemory ? HostReg.R11 : RegisterMap.Host(f.Vvvv);
        if (regInMemory || vvvvInMemory)
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
        if (vvvvInMemory && f.WritesVvvv)
            _a.Store(RegisterMap.Slot(f.Vvvv), vvvv);
        if (regInMemory && f.WritesReg)
            _a.Store(RegisterMap.Slot(f.Reg), reg);
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
