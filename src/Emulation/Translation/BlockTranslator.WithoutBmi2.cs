namespace VirtPS.Emulation;

// Hosts without BMI2. There a shift without flags does not exist, so that a check that must keep them puts them aside in AX, RAX being in memory meanwhile, and then compares as the
// shorter check does. Everything here has the same effect as what it stands in for.
internal sealed unsafe partial class BlockTranslator
{
    /// <summary><see cref="EmitCheck"/>, with the same promises.</summary>
    private void EmitCheckWithFlagsAside(HostReg address, int size, bool write, bool aligned, int displacement)
    {
        int entries = VcpuMemory.TlbOffset + _view * Tlb.ViewBytes, tags = entries + (write ? Tlb.ArrayStride : 0);
        if (displacement != 0)
            _a.Lea(HostReg.R11, new HostMemory(address, displacement));
        else if (address != HostReg.R11)
            _a.Move(HostReg.R11, address);
        Stubs.EmitFlagsAside(ref _a);
        EmitPageNumber(HostReg.R11);
        _a.Op(0x03, (int)HostReg.R11, HostMemory.Array(HostReg.R10, tags), w: true);
        byte* miss = EmitOffsetCompare(size, aligned);
        // A former instruction's check may have destroyed the flags.
        AddMiss(miss, ColdKind.MissWithFlagsAside, CanMakeFlags ? _recipe : default);
        if (address == HostReg.R11)
            _a.Op(0x2B, (int)HostReg.R11, HostMemory.Array(HostReg.R10, tags), w: true);
        _a.Load(HostReg.R10, HostMemory.Array(HostReg.R10, entries + 2 * Tlb.ArrayStride));
        Stubs.EmitFlagsBack(ref _a);
    }

    /// <summary>The address's place in the TLB in R10. Destroys flags.</summary>
    private void EmitPageNumber(HostReg address)
    {
        _a.Move(HostReg.R10, address);
        _a.Op(0xC1, 5, HostReg.R10, w: true);
        _a.Byte(12);
        _a.Op(0x81, 4, HostReg.R10);
        _a.Int32((int)Tlb.IndexMask);
    }

    /// <summary>Leaves the block for the linear address in R10 through the jump cache.</summary>
    private void EmitIndirectWithFlagsAside(int index)
    {
        byte* miss = Stubs.EmitJumpLookup(ref _a, _isUser, second: false);
        _a.Bind(miss);
        Stubs.EmitJumpMissed(ref _a);
        EmitIndirectSite(index);
        _a.Jump(_isUser ? _cache.Stubs.SecondLookUser : _cache.Stubs.SecondLookSupervisor);
    }

    /// <summary>An arithmetic shift to the right of a guest register into R10, keeping flags.</summary>
    private void EmitShiftRight(HostReg value, int count, bool wide)
    {
        if (_host.Bmi2)
        {
            _a.MoveImmediate(HostReg.R10, count);
            _a.Sarx(HostReg.R10, value, HostReg.R10, wide);
            return;
        }

        _a.Op(0x8B, (int)HostReg.R10, value, wide);
        Stubs.EmitFlagsAside(ref _a);
        _a.Op(0xC1, 7, HostReg.R10, wide);
        _a.Byte(count);
        Stubs.EmitFlagsBack(ref _a);
    }

    /// <summary>Has the interpreter do the instruction unless the address is a multiple of 16. Keeps flags.</summary>
    private void EmitAligned16(HostReg address)
    {
        if (!_host.Bmi2)
        {
            _a.Move(HostReg.R10, address);
            Stubs.EmitFlagsAside(ref _a);
            _a.Op(0xF6, 0, HostReg.R10);
            _a.Byte(15);
            AddMiss(_a.JumpIf(5), ColdKind.MissWithFlagsAside);
            Stubs.EmitFlagsBack(ref _a);
            return;
        }

        HostMemory save = HostMemory.State(VcpuMemory.SaveOffset);
        _a.Store(save, HostReg.Rcx);
        _a.Pext(HostReg.Rcx, address, HostMemory.State(s_lowBits));
        byte* aligned = _a.JumpIfRcxZero();
        AddMiss(_a.Jump(), ColdKind.Miss);
        _a.BindShort(aligned);
        _a.Load(HostReg.Rcx, save);
    }
}
