using Iced.Intel;

namespace VirtPS.Emulation;

// Branches: direct, conditional, counted, indirect.
internal sealed unsafe partial class BlockTranslator
{
    private bool EmitBranch(Op* op)
    {
        int next = op->Offset + op->Length;
        switch (op->Handler)
        {
            case >= HotForms.Jo and <= HotForms.Jg when IsFollowed(next):
                AddBranch(_a.JumpIf((op->Handler - HotForms.Jo) ^ 1), next);
                return true;
            case >= HotForms.Jo and <= HotForms.Jg:
                EmitConditional(op->Handler - HotForms.Jo, (int)op->Imm, next);
                return true;
            case HotForms.JmpRel:
                if (!TargetFollows(_index))
                    EmitEdge((int)op->Imm, _index + 1);
                return true;
            case HotForms.CallRel:
                EmitPushReturn(next);
                if (!TargetFollows(_index))
                    EmitEdge((int)op->Imm, _index + 1);
                return true;
            case HotForms.Ret or HotForms.RetI:
                _a.Load(HostReg.R10, EmitPopPlace());
                _a.Lea(RegisterMap.GuestRsp, new HostMemory(RegisterMap.GuestRsp, 8 + (op->Handler == HotForms.RetI ? (ushort)op->Imm : 0)));
                EmitIndirect(_index + 1);
                return true;
        }

        return EmitIndirectBranch(op, next) || EmitCounted(op) || EmitBranch32(op, next);
    }

    /// <summary>In a loop over several blocks: what is behind the present branch is what it leads to, not what is <paramref name="next"/> in memory.</summary>
    private bool IsFollowed(int next) => _index + 1 < _block->Count && _block->Ops[_index + 1].Offset != next;

    /// <summary>A direct branch whose target is the next instruction of the block.</summary>
    private bool TargetFollows(int index) => index + 1 < _block->Count;

    private bool EmitIndirectBranch(Op* op, int next)
    {
        if (op->Code is not (Code.Jmp_rm64 or Code.Call_rm64))
            return false;
        bool call = op->Code == Code.Call_rm64;
        if (op->IsMemory && !call)
        {
            _a.Load(HostReg.R10, EmitOperand(op, 8, MemoryUse.Read));
        }
        else if (op->IsMemory)
        {
            EmitLoadTarget(op);
            EmitPushReturn(next);
            _a.Load(HostReg.R10, HostMemory.State(VcpuMemory.FlagsOffset));
        }
        else
        {
            if (call && op->Rm == 4)
                return false;
            if (call)
                EmitPushReturn(next);

            if (RegisterMap.InMemory(op->Rm))
                _a.Load(HostReg.R10, RegisterMap.Slot(op->Rm));
            else
                _a.Move(HostReg.R10, RegisterMap.Host(op->Rm));
        }

        EmitIndirect(_index + 1);
        return true;
    }

    /// <summary>Reads an eight-byte memory operand into the place where otherwise only the stubs keep flags: checks use the other one.</summary>
    private void EmitLoadTarget(Op* op)
    {
        HostMemory m = EmitOperand(op, 8, MemoryUse.Read);
        _a.Load(HostReg.R10, m);
        _a.Store(HostMemory.State(VcpuMemory.FlagsOffset), HostReg.R10);
    }

    /// <summary>Pushes the address of the instruction <paramref name="next"/> bytes from the start of the block.</summary>
    private void EmitPushReturn(int next)
    {
        HostMemory place = EmitPushPlace();
        long address = (long)_rip + next;
        if (!_isUser && address == (int)address)
        {
            _a.StoreCode(place, _rip, next);
        }
        else
        {
            place = FreeScratch(place);
            EmitCodeAddress(HostReg.R11, next);
            _a.Store(place, HostReg.R11);
        }

        _a.Lea(RegisterMap.GuestRsp, new HostMemory(RegisterMap.GuestRsp, -8));
    }

    private void EmitConditional(int condition, int target, int next)
    {
        if (target > next)
        {
            AddBranch(_a.JumpIf(condition), target);
            return;
        }

        // Backwards: a loop, most likely taken.
        byte* over = _a.JumpIf(condition ^ 1);
        if (target == 0 && (_index <= LongestLoop || IsFirstAgain(_index)) && !_hasLoop)
            EmitLoop(condition);
        else
            EmitEdge(target, _index + 1);
        _a.Bind(over);
    }

    /// <summary>JRCXZ and LOOP with a 64-bit count.</summary>
    private bool EmitCounted(Op* op)
    {
        switch (op->Code)
        {
            case Code.Jrcxz_rel8_64:
                EmitIfRcxZero(op);
                return true;
            case Code.Loop_rel8_64_RCX:
                _a.Lea(HostReg.Rcx, new HostMemory(HostReg.Rcx, -1));
                EmitUnlessRcxZero(op);
                return true;
            default:
                return false;
        }
    }

    private void EmitIfRcxZero(Op* op)
    {
        byte* taken = _a.JumpIfRcxZero();
        byte* over = _a.JumpShort();
        _a.BindShort(taken);
        AddBranch(_a.Jump(), (int)op->Imm);
        _a.BindShort(over);
    }

    private void EmitUnlessRcxZero(Op* op)
    {
        byte* done = _a.JumpIfRcxZero();
        AddBranch(_a.Jump(), (int)op->Imm);
        _a.BindShort(done);
    }

    /// <summary>Leaves the block for the linear address in R10 through the jump cache.</summary>
    private void EmitIndirect(int instructions)
    {
        EmitCount(instructions, HostReg.R11);
        EmitJumpCache(_index);
    }

    /// <summary>No instruction of the guest's has to be done again should the target not be canonical: it always is.</summary>
    private const int NoSite = -1;

    private void EmitIndirectSite(int index)
    {
        if (index == NoSite)
            _a.MoveImmediate(HostReg.R11, Stubs.NoSite);
        else
            EmitSite(index);
    }

    private void EmitJumpCache(int index)
    {
        if (!_host.Bmi2)
        {
            EmitIndirectWithFlagsAside(index);
            return;
        }

        HostMemory save = HostMemory.State(VcpuMemory.SaveOffset);
        // MOVZX: the index
        _a.Op(0xB7 | HostOp.Map0F, (int)HostReg.R11, HostReg.R10);
        _a.Store(save, HostReg.Rcx);
        _a.Load(HostReg.Rcx, Stubs.JumpTags(_isUser));
        _a.Load(HostReg.Rcx, new HostMemory(HostReg.Rcx, 0, HostReg.R11, 3));
        _a.Lea(HostReg.Rcx, new HostMemory(HostReg.Rcx, 0, HostReg.R10));
        byte* hit = _a.JumpIfRcxZero();
        _a.Load(HostReg.Rcx, save);
        EmitIndirectSite(index);
        _a.Jump(_isUser ? _cache.Stubs.SecondLookUser : _cache.Stubs.SecondLookSupervisor);
        _a.BindShort(hit);
        _a.Load(HostReg.Rcx, save);
        if (_isUser)
            Stubs.EmitSetPageBase(ref _a);
        _a.JumpMemory(Stubs.JumpHosts(_isUser));
    }
}
