using Iced.Intel;

namespace VirtPS.Emulation;

// 32-bit code with flat segments: protected mode, and compatibility mode under long mode. Data instructions are the 64-bit mode's; addresses are computed in 32 bits (EmitOffset), so
// that nothing rests on the upper halves of registers, which such code cannot see but which are kept. All eight registers are in host registers. Here is what differs: the stack, and
// branches that are 32 bits wide. What has a segment with a limit, and 16-bit addresses, goes to the interpreter. FS and GS may have a base.
internal sealed unsafe partial class BlockTranslator
{
    /// <summary>The block is 64-bit code.</summary>
    private bool _code64;

    /// <summary>R10 + R11 is where the bytes are, after a check of an address in R11.</summary>
    private static readonly HostMemory s_checked = new(HostReg.R10, 0, HostReg.R11);

    /// <summary>Of what is encoded alike in both modes, whether this block may have it: 32-bit code reaches memory by flat segments and 32-bit addresses only.</summary>
    private bool IsReachable(Op* op) => _code64 || !op->IsMemory || op->Has(OpFlags.Flat | OpFlags.WideSegment)
        || op->Handler == HotForms.Nop || (op->Code is Code.Lea_r32_m && op->AddrSize == 4);

    /// <summary>
    /// <see cref="TryGetAccess"/> for pins. Between the accesses of a range that lies in one page nothing wraps, so that their addresses, computed in 32 bits like the range's own, lie in it.
    /// </summary>
    private bool TryGetAccess32(Op* op, out BasedAccess access)
    {
        access = new BasedAccess { Base = 4, Index = NoRegister, Size = 4, Alignment = 1 };
        switch (op->Code)
        {
            case Code.Push_r32 or Code.Pushd_imm8 or Code.Pushd_imm32:
                (access.Distance, access.Moves, access.Writes) = (-4, -4, true);
                return true;
            case Code.Call_rel32_32:
            case Code.Call_rm32 when !op->IsMemory && op->Rm != 4:
                (access.Distance, access.Writes) = (-4, true);
                return true;
            case Code.Pop_r32 when op->Rm != 4:
                access.Moves = 4;
                return true;
            case Code.Retnd or Code.Retnd_imm16:
                return true;
            case Code.Leaved:
                access.Base = 5;
                return true;
        }

        if (!op->IsMemory || op->Base == 0xFF || op->Index != 0xFF || !op->Has(OpFlags.Flat) || op->Code is Code.Lea_r32_m || op->Handler == HotForms.Nop)
            return false;
        (access.Base, access.Distance) = (op->Base, (int)op->Disp);
        if (GuestForm.TryRead(op, _host, out GuestForm f))
        {
            (access.Size, access.Writes) = (f.MemorySize, f.Memory != MemoryUse.Read);
            return !f.ByteReg || f.RegIsOpcode || f.Reg < 16;
        }

        if (!TryReadVector(op, out VectorForm v) || v.MemorySize == 0 || v.Aligned)
            return false;
        (access.Size, access.Writes) = (v.MemorySize, v.Memory != MemoryUse.Read);
        return true;
    }

    private bool EmitStack32(Op* op)
    {
        switch (op->Code)
        {
            case Code.Push_r32 or Code.Push_rm32 when !op->IsMemory:
                // ESP itself: the old value.
                EmitPush32(RegisterMap.Host(op->Rm));
                return true;
            case Code.Push_rm32:
                EmitLoadTarget32(op);
                EmitPush32(HostReg.None);
                return true;
            case Code.Pushd_imm8 or Code.Pushd_imm32:
                _a.StoreImmediate32(EmitPushPlace32(), (int)op->Imm);
                EmitMoveStack(-4);
                return true;
            case Code.Pop_r32:
                _a.Load32(RegisterMap.Host(op->Rm), EmitPopPlace32(RegisterMap.GuestRsp));
                if (op->Rm != 4)
                    EmitMoveStack(4);
                return true;
            case Code.Leaved:
                _a.Load32(HostReg.R10, EmitPopPlace32(HostReg.Rbp));
                _a.Lea32(RegisterMap.GuestRsp, new HostMemory(HostReg.Rbp, 4));
                _a.Op(0x8B, (int)HostReg.Rbp, HostReg.R10);
                return true;
            case Code.Pushfd:
                _a.Lea32(HostReg.R11, new HostMemory(RegisterMap.GuestRsp, -4));
                EmitCheck(HostReg.R11, 4, write: true);
                _a.Move(RegisterMap.GuestRsp, HostReg.R11);
                _a.Call(_cache.Stubs.Flags);
                _a.Store32(s_pushed, HostReg.R11);
                return true;
            default:
                return false;
        }
    }

    private bool EmitBranch32(Op* op, int next)
    {
        switch (op->Code)
        {
            case Code.Call_rel32_32:
                EmitPushReturn32(next);
                EmitEdge((int)op->Imm, _index + 1);
                return true;
            case Code.Retnd or Code.Retnd_imm16:
                _a.Load32(HostReg.R10, EmitPopPlace32(RegisterMap.GuestRsp));
                EmitMoveStack(4 + (op->Code == Code.Retnd_imm16 ? (ushort)op->Imm : 0));
                EmitIndirect(_index + 1);
                return true;
            case Code.Jmp_rm32:
                return EmitIndirectBranch32(op, next, call: false);
            case Code.Call_rm32:
                return EmitIndirectBranch32(op, next, call: true);
            case Code.Jecxz_rel8_32:
                _a.Byte(0x67);
                EmitIfRcxZero(op);
                return true;
            case Code.Loop_rel8_32_ECX:
                _a.Lea32(HostReg.Rcx, new HostMemory(HostReg.Rcx, -1));
                EmitUnlessRcxZero(op);
                return true;
            default:
                return false;
        }
    }

    private bool EmitIndirectBranch32(Op* op, int next, bool call)
    {
        if (op->IsMemory)
            EmitLoadTarget32(op);
        else if (call && op->Rm == 4)
            return false;
        if (call)
            EmitPushReturn32(next);
        if (op->IsMemory)
            _a.Load32(HostReg.R10, HostMemory.State(VcpuMemory.FlagsOffset));
        else
            _a.Op(0x8B, (int)HostReg.R10, RegisterMap.Host(op->Rm));
        EmitIndirect(_index + 1);
        return true;
    }

    /// <summary>As <see cref="EmitLoadTarget"/>, of four bytes.</summary>
    private void EmitLoadTarget32(Op* op)
    {
        HostMemory m = EmitOperand(op, 4, MemoryUse.Read);
        _a.Load32(HostReg.R10, m);
        _a.Store32(HostMemory.State(VcpuMemory.FlagsOffset), HostReg.R10);
    }

    private void EmitPushReturn32(int next)
    {
        HostMemory place = EmitPushPlace32();
        if (_isUser)
        {
            place = FreeScratch(place);
            EmitCodeAddress(HostReg.R11, next);
            _a.Store32(place, HostReg.R11);
        }
        else
        {
            _a.StoreImmediate32(place, (int)_rip + next);
        }

        EmitMoveStack(-4);
    }

    /// <summary>PUSH of a register; none: of what <see cref="EmitLoadTarget32"/> has read.</summary>
    private void EmitPush32(HostReg value)
    {
        HostMemory place = EmitPushPlace32();
        if (value == HostReg.None)
        {
            place = FreeScratch(place);
            value = HostReg.R11;
            _a.Load32(value, HostMemory.State(VcpuMemory.FlagsOffset));
        }

        _a.Store32(place, value);
        EmitMoveStack(-4);
    }

    private void EmitMoveStack(int bytes) => _a.Lea32(RegisterMap.GuestRsp, new HostMemory(RegisterMap.GuestRsp, bytes));

    /// <summary>The check for a PUSH of four bytes; ESP is not changed yet.</summary>
    private HostMemory EmitPushPlace32()
    {
        if (IsPinned)
            return EmitPinned(-4);
        bool free = TryFreeFlags();
        _a.Lea32(HostReg.R11, new HostMemory(RegisterMap.GuestRsp, -4));
        EmitCheck32(free, write: true);
        return s_checked;
    }

    /// <summary>The check for four bytes at an address in a register.</summary>
    private HostMemory EmitPopPlace32(HostReg address)
    {
        if (IsPinned)
            return EmitPinned(0);
        bool free = TryFreeFlags();
        _a.Op(0x8B, (int)HostReg.R11, address);
        EmitCheck32(free, write: false);
        return s_checked;
    }

    private void EmitCheck32(bool free, bool write)
    {
        if (free)
            EmitShortCheck(HostReg.R11, 4, write);
        else
            EmitCheck(HostReg.R11, 4, write);
    }
}
