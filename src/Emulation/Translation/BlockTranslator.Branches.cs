using Iced.Intel;

namespace VirtPS.Emulation;

// Branches, and the stack instructions that go with them.
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

    /// <summary>Some branch in the block goes on backwards: each way out of it may close a loop.</summary>
    private bool _followsBackwards;

    private static bool FollowsBackwards(Block* block)
    {
        for (int i = 1; i < block->Count; i++)
        {
            if (block->Ops[i].Offset < block->Ops[i - 1].Offset)
                return true;
        }

        return false;
    }

    /// <summary>Whether an edge to <paramref name="distance"/>, behind so many instructions, may close a loop. Each loop has one that goes backwards.</summary>
    private bool MayCloseLoop(int distance, int instructions) => _followsBackwards || (instructions > 0 && distance <= _block->Ops[instructions - 1].Offset);

    private bool EmitIndirectBranch(Op* op, int next)
    {
        if (op->Code is not (Code.Jmp_rm64 or Code.Call_rm64))
            return false;
        bool call = op->Code == Code.Call_rm64;
        if (op->IsMemory)
        {
            EmitLoadTarget(op);
            if (call)
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
        if (target == 0 && _index <= LongestLoop && !_hasLoop)
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

    /// <summary>
    /// Adds to the instruction count without touching flags. Uses <paramref name="scratch"/>; where rounds without checks are left, R10 and R11: what they have counted in advance is
    /// taken back.
    /// </summary>
    private void EmitCount(int instructions, HostReg scratch)
    {
        HostMemory retired = HostMemory.State(VcpuMemory.RetiredOffset);
        _a.Load(scratch, retired);
        if (_inRounds)
        {
            HostReg ahead = scratch == HostReg.R10 ? HostReg.R11 : HostReg.R10;
            _a.Load(ahead, HostMemory.State(VcpuMemory.RoundsOffset));
            _a.Lea(scratch, new HostMemory(scratch, instructions - _roundLength, ahead));
        }
        else
        {
            _a.Lea(scratch, new HostMemory(scratch, instructions));
        }

        _a.Store(retired, scratch);
    }

    /// <summary>
    /// Leaves the block for the instruction <paramref name="distance"/> bytes from its start, <paramref name="instructions"/> having been executed. Backwards,
    /// requests are looked at, so that every loop sees them; returns and other indirect branches see them by missing the jump cache.
    /// </summary>
    private void EmitEdge(int distance, int instructions)
    {
        int place = (int)(_rip & 0xFFF) + distance;
        bool samePage = place is >= 0 and < 4096;
        bool second = _block->CrossesPage && place is >= 4096 and < 8192;
        if (_isUser && !samePage)
        {
            if (second)
                EmitUserSecondPageEdge(distance, instructions);
            else
                EmitUserEdge(distance, instructions);
            return;
        }

        EmitCount(instructions, HostReg.R10);
        byte* asked = MayCloseLoop(distance, instructions) ? EmitRequestCheck() : null;
        byte* field = _a.Jump();
        if (asked != null)
        {
            _a.Bind(asked);
            _a.Move(HostReg.Rcx, HostReg.R10);
        }

        byte* unlinked = _a.Next;
        HostAssembler.Bind(field, unlinked);
        EmitLinkNumber();
        _a.Jump(_cache.Stubs.ExitLink);
        _cache.AddLink(_block, distance, !samePage && !second, field, unlinked, kind: second ? LinkKind.SecondPage : LinkKind.Branch);
    }

    /// <summary>In ring 3, from a block that crosses into the next page to a place there: the guard has vouched for the page.</summary>
    private void EmitUserSecondPageEdge(int distance, int instructions)
    {
        HostMemory pageBase = HostMemory.State(VcpuMemory.PageBaseOffset);
        EmitCount(instructions, HostReg.R10);
        byte* asked = MayCloseLoop(distance, instructions) ? EmitRequestCheck() : null;
        _a.Load(HostReg.R10, pageBase);
        _a.Lea(HostReg.R10, new HostMemory(HostReg.R10, 0x1000));
        _a.Store(pageBase, HostReg.R10);
        byte* field = _a.Jump();
        byte* unlinked = _a.Next;
        HostAssembler.Bind(field, unlinked);
        // Whoever computes the target knows it from the block's own page.
        _a.Lea(HostReg.R10, new HostMemory(HostReg.R10, -0x1000));
        _a.Store(pageBase, HostReg.R10);
        if (asked != null)
        {
            byte* leave = _a.Jump();
            _a.Bind(asked);
            _a.Move(HostReg.Rcx, HostReg.R10);
            _a.Bind(leave);
        }

        EmitLinkNumber();
        _a.Jump(_cache.Stubs.ExitLink);
        _cache.AddLink(_block, distance, crossesPage: false, field, unlinked, kind: LinkKind.SecondPage);
    }

    /// <summary>
    /// The start of a block whose only instruction crosses into the next page: goes on only while a slot says that what is mapped there has been looked at. In ring 3 the
    /// slot holds minus the address of that page, else zero. False: all slots are taken.
    /// </summary>
    private bool EmitGuard()
    {
        int slot = _cache.AddSlot();
        if (slot < 0)
            return false;
        if (_isUser)
            _a.Load(HostReg.R11, HostMemory.State(VcpuMemory.PageBaseOffset));
        _a.Move(HostReg.R10, HostReg.Rcx);
        _a.LoadSlot(HostReg.Rcx, _cache.FirstSlot, slot);
        if (_isUser)
            _a.Lea(HostReg.Rcx, new HostMemory(HostReg.Rcx, 0x1000, HostReg.R11));
        byte* good = _a.JumpIfRcxZero();
        _a.Move(HostReg.Rcx, HostReg.R10);
        byte* leave = _a.Next;
        EmitLinkNumber();
        _a.Jump(_cache.Stubs.ExitLink);
        _a.BindShort(good);
        _a.Move(HostReg.Rcx, HostReg.R10);
        _cache.AddLink(_block, 0, crossesPage: false, null, leave, slot, LinkKind.Guard);
        return true;
    }

    /// <summary>
    /// From page to page in ring 3, where neither the block's own address nor what is mapped at the target is constant: the jump is direct, and taken while a slot holds
    /// (minus) the target's linear address. A TLB flush empties the slots.
    /// </summary>
    private void EmitUserEdge(int distance, int instructions)
    {
        int slot = _cache.AddSlot();
        if (slot < 0)
        {
            EmitCount(instructions, HostReg.R11);
            EmitCodeAddress(HostReg.R10, distance);
            EmitJumpCache(NoSite);
            return;
        }

        int target = (int)(_rip & 0xFFF) + distance;
        HostMemory save = HostMemory.State(VcpuMemory.SaveOffset), pageBase = HostMemory.State(VcpuMemory.PageBaseOffset);
        EmitCount(instructions, HostReg.R11);
        byte* asked = MayCloseLoop(distance, instructions) ? EmitRequestCheck() : null;
        _a.Load(HostReg.R10, pageBase);
        _a.Store(save, HostReg.Rcx);
        if (_code64)
            _a.Lea(HostReg.R10, new HostMemory(HostReg.R10, target & ~0xFFF));
        else
            _a.Lea32(HostReg.R10, new HostMemory(HostReg.R10, target & ~0xFFF));
        _a.LoadSlot(HostReg.Rcx, _cache.FirstSlot, slot);
        _a.Lea(HostReg.Rcx, new HostMemory(HostReg.Rcx, 0, HostReg.R10));
        byte* hit = _a.JumpIfRcxZero();
        _a.Load(HostReg.Rcx, save);
        byte* miss = _a.Jump();
        _a.BindShort(hit);
        _a.Load(HostReg.Rcx, save);
        _a.Store(pageBase, HostReg.R10);
        byte* field = _a.Jump();
        if (asked != null)
        {
            _a.Bind(asked);
            _a.Move(HostReg.Rcx, HostReg.R10);
        }

        _a.Bind(miss);
        byte* unlinked = _a.Next;
        HostAssembler.Bind(field, unlinked);
        EmitLinkNumber();
        _a.Jump(_cache.Stubs.ExitLink);
        _cache.AddLink(_block, distance, crossesPage: true, field, unlinked, slot);
    }

    /// <summary>Branches away, with RCX in R10, when somebody wants attention.</summary>
    private byte* EmitRequestCheck()
    {
        _a.Move(HostReg.R10, HostReg.Rcx);
        _a.Load32(HostReg.Rcx, HostMemory.State(VcpuMemory.AttentionOffset));
        byte* none = _a.JumpIfRcxZero();
        byte* asked = _a.Jump();
        _a.BindShort(none);
        _a.Move(HostReg.Rcx, HostReg.R10);
        return asked;
    }

    /// <summary>
    /// The place in the jump cache in R11, from the sum there. The mask sends everybody to an empty entry when somebody wants attention; without PEXT that is a
    /// branch of its own (its field is returned), and RCX, which is saved already, is used.
    /// </summary>
    private byte* EmitJumpIndex()
    {
        if (!_avoidPext)
        {
            _a.Pext(HostReg.R11, HostReg.R11, HostMemory.State(VcpuMemory.JumpMaskOffset));
            return null;
        }

        _a.Load32(HostReg.Rcx, HostMemory.State(VcpuMemory.AttentionOffset));
        byte* none = _a.JumpIfRcxZero();
        byte* asked = _a.JumpShort();
        _a.BindShort(none);
        // The low bits to the top, and down again.
        _a.Rorx(HostReg.R11, HostReg.R11, VcpuMemory.JumpIndexBits);
        _a.MoveImmediate(HostReg.Rcx, 64 - VcpuMemory.JumpIndexBits);
        _a.Shrx(HostReg.R11, HostReg.R11, HostReg.Rcx);
        return asked;
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
        HostMemory save = HostMemory.State(VcpuMemory.SaveOffset);
        int tags = VcpuMemory.JumpOffset + (_isUser ? VcpuMemory.JumpCacheBytes : 0);
        if (!_host.Bmi2)
        {
            EmitIndirectWithFlagsAside(index);
            return;
        }

        _a.Rorx(HostReg.R11, HostReg.R10, JumpCache.Fold);
        _a.Store(save, HostReg.Rcx);
        _a.Lea(HostReg.R11, new HostMemory(HostReg.R11, 0, HostReg.R10));
        byte* asked = EmitJumpIndex();
        _a.Load(HostReg.Rcx, HostMemory.Array(HostReg.R11, tags));
        _a.Lea(HostReg.Rcx, new HostMemory(HostReg.Rcx, 0, HostReg.R10));
        byte* hit = _a.JumpIfRcxZero();
        if (asked != null)
            _a.BindShort(asked);
        _a.Load(HostReg.Rcx, save);
        EmitIndirectSite(index);
        _a.Jump(_avoidPext ? _cache.Stubs.ExitIndirect : _isUser ? _cache.Stubs.SecondLookUser : _cache.Stubs.SecondLookSupervisor);
        _a.BindShort(hit);
        _a.Load(HostReg.Rcx, save);
        if (_isUser)
            Stubs.EmitSetPageBase(ref _a);
        _a.JumpMemory(HostMemory.Array(HostReg.R11, tags + VcpuMemory.JumpArrayBytes));
    }
}
