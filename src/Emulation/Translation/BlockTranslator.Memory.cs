using VirtPS.Sdk.Cpu;
using VirtPS.X86;

namespace VirtPS.Emulation;

// Addresses of memory operands and the software TLB in generated code.
internal sealed unsafe partial class BlockTranslator
{
    private static readonly int s_fsBase = VcpuMemory.StateOffset + NativeCpu.SegmentBaseOffset + (int)SegmentName.FS * sizeof(SegmentRegister),
        s_gsBase = VcpuMemory.StateOffset + NativeCpu.SegmentBaseOffset + (int)SegmentName.GS * sizeof(SegmentRegister);

    private static readonly HostMemory s_tlbMask = HostMemory.State(VcpuMemory.TlbMaskOffset);

    /// <summary>
    /// The linear address of a memory operand in a register: R11, or the guest's base register itself where that is all of the address. Uses R10.
    /// </summary>
    private HostReg EmitAddress(Op* op)
    {
        bool segment = op->Seg >= SegmentName.FS;
        if (op->Has(OpFlags.RipRelative))
        {
            EmitCodeAddress(HostReg.R11, (int)op->Disp);
        }
        else if (!segment && op->AddrSize == 8 && op->Base != 0xFF && op->Index == 0xFF && op->Disp == 0 && op->Base != (int)HostReg.Rcx && !RegisterMap.InMemory(op->Base))
        {
            return RegisterMap.Host(op->Base);
        }
        else
        {
            EmitOffset(op, HostReg.R11);
        }

        if (segment)
        {
            _a.Load(HostReg.R10, HostMemory.State(op->Seg == SegmentName.FS ? s_fsBase : s_gsBase));
            var linear = new HostMemory(HostReg.R11, 0, HostReg.R10);
            if (_code64)
                _a.Lea(HostReg.R11, linear);
            else
                _a.Lea32(HostReg.R11, linear);
        }

        return HostReg.R11;
    }

    /// <summary>Base + index × scale + displacement, truncated to the address size, or (<paramref name="narrow"/>) to 32 bits. Uses R10 and R11.</summary>
    private void EmitOffset(Op* op, HostReg to, bool narrow = false)
    {
        narrow |= op->AddrSize == 4;
        HostReg b = HostReg.None, x = HostReg.None;
        if (op->Base != 0xFF)
        {
            b = RegisterMap.InMemory(op->Base) ? HostReg.R11 : RegisterMap.Host(op->Base);
            if (b == HostReg.R11)
                _a.Load(b, RegisterMap.Slot(op->Base));
        }

        if (op->Index != 0xFF)
        {
            x = RegisterMap.InMemory(op->Index) ? HostReg.R10 : RegisterMap.Host(op->Index);
            if (x == HostReg.R10)
                _a.Load(x, RegisterMap.Slot(op->Index));
        }

        if (b == HostReg.None && x == HostReg.None)
            _a.MoveImmediate(to, narrow ? (uint)op->Disp : (int)op->Disp);
        else if (narrow)
            _a.Lea32(to, new HostMemory(b, (int)op->Disp, x, op->Scale));
        else if (x == HostReg.None && op->Disp == 0)
            _a.Move(to, b);
        else
            _a.Lea(to, new HostMemory(b, (int)op->Disp, x, op->Scale));
    }

    /// <summary>A linear address <paramref name="distance"/> bytes from the start of the block.</summary>
    private void EmitCodeAddress(HostReg to, int distance)
    {
        if (!_isUser)
        {
            if (_code64)
                _a.MoveCode(to, _rip, distance);
            else
                _a.MoveImmediate(to, (uint)((long)_rip + distance));
            return;
        }

        _a.Load(to, HostMemory.State(VcpuMemory.PageBaseOffset));
        var place = new HostMemory(to, (int)(_rip & 0xFFF) + distance);
        if (_code64)
            _a.Lea(to, place);
        else
            _a.Lea32(to, place);
    }

    /// <summary>
    /// Checks that <paramref name="size"/> bytes at <paramref name="address"/> + <paramref name="displacement"/> may be accessed by the short path, else has the interpreter do the whole
    /// instruction. Behind it R10 + <paramref name="address"/> + <paramref name="displacement"/> is the host's address. Changes no flag and, but R10 and (unless it is the address) R11, no register.
    /// </summary>
    private void EmitCheck(HostReg address, int size, bool write, bool aligned = false, int displacement = 0)
    {
        if (!_host.Bmi2)
        {
            EmitCheckWithFlagsAside(address, size, write, aligned, displacement);
            return;
        }

        int entries = VcpuMemory.TlbOffset + _view * Tlb.ViewBytes;
        HostMemory save = HostMemory.State(VcpuMemory.SaveOffset);
        // RCX stays in a register if there is one: memory would put a store and a load into its chain.
        bool spare = address != HostReg.R11;
        if (spare)
            _a.Move(HostReg.R11, HostReg.Rcx);
        else
            _a.Store(save, HostReg.Rcx);
        HostReg b = address == HostReg.Rcx ? HostReg.R11 : address;
        if (displacement != 0)
            _a.Lea(HostReg.R10, new HostMemory(b, displacement));
        EmitPageIndex(displacement != 0 ? HostReg.R10 : b, flagsAreFree: false);
        _a.Load(HostReg.Rcx, HostMemory.Array(HostReg.R10, entries + (write ? Tlb.ArrayStride : 0)));
        if (aligned)
        {
            // The offset in the page, if the tag is the page's: nothing but a multiple of the size.
            _a.Lea(HostReg.Rcx, new HostMemory(HostReg.Rcx, displacement, b));
            _a.Pext(HostReg.Rcx, HostReg.Rcx, HostMemory.State(size == 64 ? Stubs.AlignedMask64Offset : size == 32 ? Stubs.AlignedMask32Offset : Stubs.AlignedMask16Offset));
        }
        else
        {
            // The offset in the page of the last byte, if the tag is the page's.
            _a.Lea(HostReg.Rcx, new HostMemory(HostReg.Rcx, displacement + size - 1, b));
            _a.Shrx(HostReg.Rcx, HostReg.Rcx, HostReg.Rsp);
        }

        byte* hit = _a.JumpIfRcxZero();
        // A former instruction's check may have destroyed the flags.
        AddMiss(_a.Jump(), spare ? ColdKind.MissWithRcxInR11 : ColdKind.Miss, CanMakeFlags ? _recipe : default);
        _a.BindShort(hit);
        if (spare)
            _a.Move(HostReg.Rcx, HostReg.R11);
        else
            _a.Load(HostReg.Rcx, save);
        _a.Load(HostReg.R10, HostMemory.Array(HostReg.R10, entries + 2 * Tlb.ArrayStride));
    }

    /// <summary>Whether the address of a memory operand is a register that the host has, and a displacement.</summary>
    private static bool IsBased(Op* op, out HostReg address, out int displacement)
    {
        (address, displacement) = (HostReg.None, (int)op->Disp);
        if (op->Seg >= SegmentName.FS || op->Has(OpFlags.RipRelative) || op->AddrSize != 8 || op->Base == 0xFF || op->Index != 0xFF || RegisterMap.InMemory(op->Base)
            || op->Disp != (int)op->Disp || displacement > int.MaxValue - 4096)
            return false;
        address = RegisterMap.Host(op->Base);
        return true;
    }

    /// <summary>
    /// The address's place in the TLB in R10. It is on the way to the data, so that each cycle counts: with flags free two (RORX, AND), by PEXT three; without PEXT it takes RCX where flags are
    /// to be kept.
    /// </summary>
    private void EmitPageIndex(HostReg address, bool flagsAreFree)
    {
        if (!_host.Bmi2)
        {
            EmitPageNumber(address);
        }
        else if (flagsAreFree)
        {
            _a.Rorx(HostReg.R10, address, 12);
            _a.Op(0x81, 4, HostReg.R10);
            _a.Int32((int)Tlb.IndexMask);
        }
        else if (!_avoidPext)
        {
            _a.Pext(HostReg.R10, address, s_tlbMask);
        }
        else
        {
            // The bits from 12 on to the top, and down again.
            _a.Rorx(HostReg.R10, address, 12 + Tlb.IndexBits);
            _a.MoveImmediate(HostReg.Rcx, 64 - Tlb.IndexBits);
            _a.Shrx(HostReg.R10, HostReg.R10, HostReg.Rcx);
        }
    }

    /// <summary>
    /// The same where the flags are not needed any more and could be made again (<see cref="_recipe"/>). Behind it R10 + R11 is the host's address;
    /// with <paramref name="addend"/> instead R10 is as after <see cref="EmitCheck"/>.
    /// </summary>
    private void EmitShortCheck(HostReg address, int size, bool write, bool addend = false, bool aligned = false)
    {
        int entries = VcpuMemory.TlbOffset + _view * Tlb.ViewBytes;
        EmitPageIndex(address, flagsAreFree: true);
        if (address != HostReg.R11)
            _a.Move(HostReg.R11, address);
        _a.Op(0x03, (int)HostReg.R11, HostMemory.Array(HostReg.R10, entries + (write ? Tlb.ArrayStride : 0)), w: true);
        AddMiss(EmitOffsetCompare(size, aligned), ColdKind.MissWithoutFlags, _recipe);
        _a.Load(HostReg.R10, HostMemory.Array(HostReg.R10, entries + (addend ? 2 : 4) * Tlb.ArrayStride));
    }

    /// <summary>R11 is the offset in the page, if the tag was the page's; branches away where it is not.</summary>
    private byte* EmitOffsetCompare(int size, bool aligned)
    {
        if (aligned)
        {
            // TEST; JNE
            _a.Op(0xF7, 0, HostReg.R11, w: true);
            _a.Int32(~(4096 - size));
            return _a.JumpIf(5);
        }

        // CMP; JA
        _a.Op(0x81, 7, HostReg.R11, w: true);
        _a.Int32(4096 - size);
        return _a.JumpIf(7);
    }

    /// <summary>Address and check of the present instruction's memory operand; where its bytes are.</summary>
    private HostMemory EmitOperand(Op* op, int size, MemoryUse use, bool aligned = false)
    {
        if (IsPinned)
            return EmitPinned((int)op->Disp);
        bool write = use != MemoryUse.Read, free = TryFreeFlags();
        if (!free && IsBased(op, out HostReg based, out int displacement))
        {
            EmitCheck(based, size, write, aligned, displacement);
            return new HostMemory(based, displacement, HostReg.R10);
        }

        // The register itself stays in the address of the bytes: they are waited for a step less.
        if (free && IsBased(op, out based, out displacement))
        {
            EmitShortCheck(EmitAddress(op), size, write, addend: true, aligned);
            return new HostMemory(based, displacement, HostReg.R10);
        }

        HostReg address = EmitAddress(op);
        if (free)
        {
            EmitShortCheck(address, size, write, aligned: aligned);
            return new HostMemory(HostReg.R10, 0, HostReg.R11);
        }

        EmitCheck(address, size, write, aligned);
        return new HostMemory(HostReg.R10, 0, address);
    }
}
