using Iced.Intel;
using VirtPS.Sdk.Cpu;
using VirtPS.X86;

namespace VirtPS.Emulation;

// Instructions that kernels execute often and that are not simply the host's: flags, selectors, division, bits in memory.
internal sealed unsafe partial class BlockTranslator
{
    private static readonly int s_requests = Stubs.OffsetOf(n => (byte*)&n->State.Requests), s_lowBits = Stubs.OffsetOf(n => (byte*)&n->LowBitsMask),
        s_selectors = Stubs.OffsetOf(n => (byte*)&n->State.ES.Selector), s_kernelGsBase = Stubs.OffsetOf(n => (byte*)&n->State.KernelGsBase);

    private bool EmitSystem(Op* op)
    {
        bool ring0 = (_block->Mode & CodeMode.Ring0) != 0;
        switch (op->Code)
        {
            case Code.Cli when ring0:
                _a.Call(_cache.Stubs.ClearInterruptFlag);
                return true;
            case Code.Sti when ring0:
                EmitSti();
                return true;
            case Code.Serialize:
                EmitSerialize();
                return true;
            case Code.Swapgs when ring0 && _code64:
                _a.Load(HostReg.R10, HostMemory.State(s_gsBase));
                _a.Load(HostReg.R11, HostMemory.State(s_kernelGsBase));
                _a.Store(HostMemory.State(s_gsBase), HostReg.R11);
                _a.Store(HostMemory.State(s_kernelGsBase), HostReg.R10);
                return true;
            case Code.Cld:
                _a.Call(_cache.Stubs.ClearDirectionFlag);
                return true;
            case Code.Std:
                _a.Call(_cache.Stubs.SetDirectionFlag);
                return true;
            case Code.Pushfq:
                _a.Lea(HostReg.R11, new HostMemory(RegisterMap.GuestRsp, -8));
                EmitCheck(HostReg.R11, 8, write: true);
                _a.Move(RegisterMap.GuestRsp, HostReg.R11);
                _a.Call(_cache.Stubs.Flags);
                _a.Store(s_pushed, HostReg.R11);
                return true;
            case Code.Mov_r32m16_Sreg or Code.Mov_r64m16_Sreg when !op->IsMemory:
                EmitReadSelector(op);
                return true;
            case Code.Div_rm32 or Code.Div_rm64:
                EmitDivide(op);
                return true;
            case Code.Idiv_rm32 or Code.Idiv_rm64:
                EmitSignedDivide(op);
                return true;
            case Code.Bt_rm32_r32 or Code.Bt_rm64_r64 when op->IsMemory && op->AddrSize == (_code64 ? 8 : 4):
                return EmitBitTest(op);
            case Code.Bts_rm32_r32 or Code.Bts_rm64_r64:
                return EmitBitChange(op, 0xAB);
            case Code.Btr_rm32_r32 or Code.Btr_rm64_r64:
                return EmitBitChange(op, 0xB3);
            case Code.Btc_rm32_r32 or Code.Btc_rm64_r64:
                return EmitBitChange(op, 0xBB);
            case Code.Cmpxchg16b_m128:
                return EmitCompareExchange16(op);
            default:
                return false;
        }
    }

    /// <summary>
    /// Interrupts are only taken where the block is left, so that the one-instruction delay comes by itself. What waits already is the interpreter's.
    /// </summary>
    private void EmitSti()
    {
        EmitUnlessAsked();
        _a.Call(_cache.Stubs.SetInterruptFlag);
    }

    /// <summary>Code of this vCPU that another one has changed is announced as a request. MFENCE: stores are seen before what follows is loaded.</summary>
    private void EmitSerialize()
    {
        _a.Byte(0x0F);
        _a.Byte(0xAE);
        _a.Byte(0xF0);
        EmitUnlessAsked();
    }

    /// <summary>The present instruction is the interpreter's where any request waits. Changes no flags.</summary>
    private void EmitUnlessAsked()
    {
        HostMemory save = HostMemory.State(VcpuMemory.SaveOffset);
        _a.Store(save, HostReg.Rcx);
        _a.Load32(HostReg.Rcx, HostMemory.State(s_requests));
        byte* none = _a.JumpIfRcxZero();
        AddMiss(_a.Jump(), ColdKind.Miss);
        _a.BindShort(none);
        _a.Load(HostReg.Rcx, save);
    }

    private void EmitReadSelector(Op* op)
    {
        bool inMemory = RegisterMap.InMemory(op->Rm);
        HostReg to = inMemory ? HostReg.R11 : RegisterMap.Host(op->Rm);
        _a.Op(0xB7 | HostOp.Map0F, (int)to, HostMemory.State(s_selectors + op->Reg * sizeof(SegmentRegister)));
        if (inMemory)
            _a.Store(RegisterMap.Slot(op->Rm), to);
    }

    /// <summary>The divisor in a register that keeps its value, R11 unless the guest's own serves.</summary>
    private HostReg EmitDivisor(Op* op, bool wide)
    {
        if (op->IsMemory)
        {
            HostReg address = EmitAddress(op);
            EmitCheck(address, op->OpSize, write: false);
            _a.Op(0x8B, (int)HostReg.R11, new HostMemory(HostReg.R10, 0, address), wide);
            return HostReg.R11;
        }

        if (!RegisterMap.InMemory(op->Rm))
            return RegisterMap.Host(op->Rm);
        _a.Load(HostReg.R11, RegisterMap.Slot(op->Rm));
        return HostReg.R11;
    }

    /// <summary>DIV, unless the quotient would not fit: that is #DE, with flags as they were, hence PUSHF.</summary>
    private void EmitDivide(Op* op)
    {
        bool wide = op->OpSize == 8;
        HostReg divisor = EmitDivisor(op, wide);
        _a.Byte(0x9C);
        _a.Op(0x3B, (int)HostReg.Rdx, divisor, wide);
        AddMiss(_a.JumpIf(3), ColdKind.MissWithFlagsPushed);
        _a.Lea(HostReg.Rsp, HostMemory.State(8));
        _a.Op(0xF7, 6, divisor, wide);
    }

    /// <summary>IDIV where the dividend is the extension of RAX and the divisor neither 0 nor -1: then the quotient fits.</summary>
    private void EmitSignedDivide(Op* op)
    {
        bool wide = op->OpSize == 8;
        HostReg divisor = EmitDivisor(op, wide);
        _a.Byte(0x9C);
        _a.Op(0x8B, (int)HostReg.R10, HostReg.Rax, wide);
        _a.Op(0xC1, 7, HostReg.R10, wide);
        _a.Byte(wide ? 63 : 31);
        _a.Op(0x3B, (int)HostReg.R10, HostReg.Rdx, wide);
        AddMiss(_a.JumpIf(5), ColdKind.MissWithFlagsPushed);
        if (wide)
            _a.Lea(HostReg.R10, new HostMemory(divisor, 1));
        else
            _a.Lea32(HostReg.R10, new HostMemory(divisor, 1));
        _a.Op(0x83, 7, HostReg.R10, wide);
        _a.Byte(1);
        AddMiss(_a.JumpIf(6), ColdKind.MissWithFlagsPushed);
        _a.Lea(HostReg.Rsp, HostMemory.State(8));
        _a.Op(0xF7, 7, divisor, wide);
    }

    /// <summary>BT of a bit string in memory: the register's upper bits select the word.</summary>
    private bool EmitBitTest(Op* op)
    {
        if (RegisterMap.InMemory(op->Reg) || (op->Index != 0xFF && RegisterMap.InMemory(op->Index)))
            return false;
        bool wide = op->OpSize == 8;
        HostReg bit = RegisterMap.Host(op->Reg);
        EmitCheckOfWord(op, EmitAddress(op), write: false);
        _a.Op(0x8B, (int)HostReg.R10, new HostMemory(HostReg.R10, 0, HostReg.R11), wide);
        _a.Op(0xA3 | HostOp.Map0F, (int)bit, HostReg.R10, wide);
        return true;
    }

    /// <summary>The same for BTS, BTR and BTC: the host's own finds the word, from where the bit string would begin if all of it were where the word's page is.</summary>
    private bool EmitBitChange(Op* op, int opcode)
    {
        // R10 has to stay while the address is made again.
        if (!op->IsMemory || !_code64 || op->AddrSize != 8 || op->Seg >= SegmentName.FS || RegisterMap.InMemory(op->Reg) || (op->Index != 0xFF && RegisterMap.InMemory(op->Index)))
            return false;
        HostReg address = EmitAddress(op);
        EmitCheckOfWord(op, address, write: true);
        if (address == HostReg.R11)
            EmitAddress(op);
        if (op->Has(OpFlags.Lock))
            _a.Byte(0xF0);
        _a.Op(opcode | HostOp.Map0F, (int)RegisterMap.Host(op->Reg), new HostMemory(HostReg.R10, 0, address), op->OpSize == 8);
        return true;
    }

    /// <summary>Checks the word of a bit string, with its linear address in R11.</summary>
    private void EmitCheckOfWord(Op* op, HostReg address, bool write)
    {
        bool wide = op->OpSize == 8;
        EmitShiftRight(RegisterMap.Host(op->Reg), wide ? 6 : 5, wide);
        if (!wide)
            _a.Op(0x63, (int)HostReg.R10, HostReg.R10, w: true);
        var word = new HostMemory(address, 0, HostReg.R10, wide ? 3 : 2);
        if (_code64)
            _a.Lea(HostReg.R11, word);
        else
            _a.Lea32(HostReg.R11, word);
        EmitCheck(HostReg.R11, op->OpSize, write);
    }

    private bool EmitCompareExchange16(Op* op)
    {
        if (op->AddrSize != 8)
            return false;
        HostReg address = EmitAddress(op);
        // Not a multiple of 16: #GP, the interpreter's.
        EmitAligned16(address);
        EmitCheck(address, 16, write: true);
        if (op->Has(OpFlags.Lock))
            _a.Byte(0xF0);
        _a.Op(0xC7 | HostOp.Map0F, 1, new HostMemory(HostReg.R10, 0, address), w: true);
        return true;
    }
}
