namespace VirtPS.Emulation;

// Ways out of a block to a known place: counting, requests, links, the guards of pages.
internal sealed unsafe partial class BlockTranslator
{
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
}
