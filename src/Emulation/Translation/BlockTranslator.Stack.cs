using Iced.Intel;

namespace VirtPS.Emulation;

// The stack instructions of 64-bit code.
internal sealed unsafe partial class BlockTranslator
{
    private static readonly HostMemory s_pushed = new(HostReg.R10, 0, HostReg.R9), s_toPush = new(HostReg.R9, -8, HostReg.R10);

    private bool EmitStack(Op* op)
    {
        switch (op->Code)
        {
            case Code.Push_r64:
                EmitPush(op->Rm);
                return true;
            case Code.Pushq_imm8 or Code.Pushq_imm32:
                _a.StoreImmediate(EmitPushPlace(), (int)op->Imm);
                _a.Lea(RegisterMap.GuestRsp, new HostMemory(RegisterMap.GuestRsp, -8));
                return true;
            case Code.Push_rm64 when op->IsMemory && op->AddrSize == 8:
                EmitLoadTarget(op);
                EmitPushCheck();
                _a.Load(HostReg.R11, HostMemory.State(VcpuMemory.FlagsOffset));
                _a.Store(s_pushed, HostReg.R11);
                return true;
            case Code.Pop_r64:
                EmitPop(op->Rm);
                return true;
            case Code.Leaveq:
                _a.Load(HostReg.R10, EmitLeavePlace());
                _a.Lea(RegisterMap.GuestRsp, new HostMemory(HostReg.Rbp, 8));
                _a.Move(HostReg.Rbp, HostReg.R10);
                return true;
            default:
                return false;
        }
    }

    private HostMemory EmitLeavePlace()
    {
        if (IsPinned)
            return EmitPinned(0);
        EmitCheck(HostReg.Rbp, 8, write: false);
        return new HostMemory(HostReg.R10, 0, HostReg.Rbp);
    }

    /// <summary>Makes room for eight bytes on the stack; R10 + <see cref="RegisterMap.GuestRsp"/> is where they are. Keeps flags.</summary>
    private void EmitPushCheck()
    {
        _a.Lea(HostReg.R11, new HostMemory(RegisterMap.GuestRsp, -8));
        EmitCheck(HostReg.R11, 8, write: true);
        _a.Move(RegisterMap.GuestRsp, HostReg.R11);
    }

    /// <summary>The check for PUSH; RSP is not changed yet.</summary>
    private HostMemory EmitPushPlace()
    {
        if (IsPinned)
            return EmitPinned(-8);
        if (!TryFreeFlags())
        {
            EmitCheck(RegisterMap.GuestRsp, 8, write: true, displacement: -8);
            return s_toPush;
        }

        _a.Lea(HostReg.R11, new HostMemory(RegisterMap.GuestRsp, -8));
        EmitShortCheck(HostReg.R11, 8, write: true);
        return new HostMemory(HostReg.R10, 0, HostReg.R11);
    }

    /// <summary>The same place without R11, so that it can hold an operand.</summary>
    private HostMemory FreeScratch(in HostMemory place)
    {
        if (place.Base != HostReg.R11 && place.Index != HostReg.R11)
            return place;
        _a.Lea(HostReg.R10, place);
        _addendPin = -1;
        return new HostMemory(HostReg.R10, 0);
    }

    private void EmitPush(int guest)
    {
        HostMemory place = EmitPushPlace();
        if (RegisterMap.InMemory(guest))
        {
            place = FreeScratch(place);
            _a.Load(HostReg.R11, RegisterMap.Slot(guest));
            _a.Store(place, HostReg.R11);
        }
        else
        {
            // RSP itself: the old value.
            _a.Store(place, RegisterMap.Host(guest));
        }

        _a.Lea(RegisterMap.GuestRsp, new HostMemory(RegisterMap.GuestRsp, -8));
    }

    /// <summary>The check for eight bytes on top of the stack.</summary>
    private HostMemory EmitPopPlace()
    {
        if (IsPinned)
            return EmitPinned(0);
        if (TryFreeFlags())
        {
            EmitShortCheck(RegisterMap.GuestRsp, 8, write: false);
            return new HostMemory(HostReg.R10, 0, HostReg.R11);
        }

        EmitCheck(RegisterMap.GuestRsp, 8, write: false);
        return s_pushed;
    }

    private void EmitPop(int guest)
    {
        HostMemory place = EmitPopPlace();
        HostReg r = RegisterMap.InMemory(guest) ? HostReg.R11 : RegisterMap.Host(guest);
        _a.Load(r, place);
        if (r == HostReg.R11)
            _a.Store(RegisterMap.Slot(guest), r);
        if (guest != 4)
            _a.Lea(RegisterMap.GuestRsp, new HostMemory(RegisterMap.GuestRsp, 8));
    }
}
