using Iced.Intel;
using VirtPS.X86;

namespace VirtPS.Opcodes;

// What single instructions need so that they neither fault natively nor give undefined results.
internal sealed unsafe partial class Generator
{
    private bool SetImplicitMemory(ref Instruction i, int k, OpCodeOperandKind kind)
    {
        if (kind == OpCodeOperandKind.seg_rBX_al)
        {
            i.SetOpKind(k, OpKind.Memory);
            (i.MemoryBase, i.MemoryIndex, i.MemoryIndexScale) = (bits == 64 ? Register.RBX : Register.EBX, Register.AL, 1);
            _setUp.Add(Load(Register.RBX, SandboxAddress(256, 1)));
            return true;
        }

        bool source = kind == OpCodeOperandKind.seg_rSI;
        if (bits == 64)
            i.SetOpKind(k, source ? OpKind.MemorySegRSI : kind == OpCodeOperandKind.es_rDI ? OpKind.MemoryESRDI : OpKind.MemorySegRDI);
        else
            i.SetOpKind(k, source ? OpKind.MemorySegESI : kind == OpCodeOperandKind.es_rDI ? OpKind.MemoryESEDI : OpKind.MemorySegEDI);
        // Either direction, up to 32 elements of eight bytes.
        _setUp.Add(Load(source ? Register.RSI : Register.RDI, (ulong)layout.Sandbox + 512 + (ulong)random.Below(7000)));
        if (k == i.OpCount - 1 || i.OpCount == 1 || !source)
            _setUp.Add(Load(Register.RCX, (ulong)random.Below(33)));
        return true;
    }

    private bool Constrain(ref Instruction i)
    {
        // Gathers fault when destination, mask and index are not three registers.
        if (i.IsVsib && !IsEvex(i.Code))
            return Distinct(i.Op0Register.GetNumber(), i.Op2Register.GetNumber(), i.MemoryIndex.GetNumber());
        // A NOP on Intel's processors, #UD on AMD's.
        if (i.Code is (Code.Reservednop_rm16_r16_0F0D or Code.Reservednop_rm32_r32_0F0D or Code.Reservednop_rm64_r64_0F0D) && i.Op0Kind == OpKind.Register)
            return false;
        // Two bytes by the manuals; some processors read four, over the end of the sandbox.
        if (i.Code == Code.Movsxd_r16_rm16 && i.Op1Kind == OpKind.Memory)
            return false;
        switch (i.Mnemonic)
        {
            case Mnemonic.Cvtpi2ps when i.Op1Kind == OpKind.Memory:
                // Intel's processors enter the MMX state (SDM Vol. 2A), AMD's do not; the emulator follows the SDM.
                return false;
            case Mnemonic.Div or Mnemonic.Idiv:
                return ConstrainDivide(ref i);
            case Mnemonic.Bt or Mnemonic.Bts or Mnemonic.Btr or Mnemonic.Btc:
                return ConstrainBitTest(ref i);
            case Mnemonic.Shld or Mnemonic.Shrd:
                return ConstrainDoubleShift(ref i);
            case Mnemonic.Aam:
                // A base of zero is a division by zero.
                i.Immediate8 |= 1;
                return true;
            case Mnemonic.Ldmxcsr or Mnemonic.Vldmxcsr:
                SetAbsolute(ref i);
                RestartSetUp(Poke(_target, 0x1F80u | (uint)(random.Next() & 0xE07F)));
                return true;
            case Mnemonic.Fldcw or Mnemonic.Fldenv or Mnemonic.Frstor:
                _target &= ~3ul;
                SetAbsolute(ref i);
                RestartSetUp(Poke(_target, ControlWord()));
                return true;
            case Mnemonic.Fxrstor or Mnemonic.Fxrstor64:
                SetAbsolute(ref i);
                RestartSetUp(Poke(_target, ControlWord()));
                _setUp.Add(Poke(_target + 24, 0x1F80u | (uint)(random.Next() & 0xE07F)));
                return true;
            case Mnemonic.Fxsave or Mnemonic.Fxsave64 or Mnemonic.Fnsave or Mnemonic.Fnstenv:
                SetAbsolute(ref i);
                _setUp.Clear();
                return true;
            default:
                return !i.IsStackInstruction && i.FlowControl == FlowControl.Next || ConstrainStack(ref i);
        }
    }

    private static bool Distinct(int a, int b, int c) => a != b && b != c && a != c;

    private void RestartSetUp(in Instruction first)
    {
        _setUp.Clear();
        _setUp.Add(first);
    }

    private uint ControlWord() => (uint)(random.Next() & 0xFFFF_FFC0) | 0x3F;

    /// <summary>Dividend with a zero upper half (and clear sign for IDIV), odd divisor: no overflow and no zero.</summary>
    private bool ConstrainDivide(ref Instruction i)
    {
        if (i.Op0Kind == OpKind.Register)
        {
            Register full = i.Op0Register.GetFullRegister();
            if (full is Register.RAX or Register.RDX or Register.RSP)
                return false;
            _setUp.Add(Load(full, random.Interesting() | 0x0101));
        }
        else
        {
            _target &= ~3ul;
            SetAbsolute(ref i);
            RestartSetUp(Poke(_target, (uint)random.Interesting() | 0x0101_0101));
        }

        int bits = i.Op0Kind == OpKind.Register ? i.Op0Register.GetSize() * 8 : i.MemorySize.GetSize() * 8;
        ulong dividend = random.Interesting();
        if (bits == 8)
            dividend &= i.Mnemonic == Mnemonic.Idiv ? 0x7Ful : 0xFFul;
        else if (i.Mnemonic == Mnemonic.Idiv)
            dividend &= (1ul << (bits - 1)) - 1;
        _setUp.Add(Load(Register.RAX, dividend));
        _setUp.Add(Load(Register.RDX, 0));
        return true;
    }

    /// <summary>A register bit offset reaches far from the operand: the target moves to the middle and the offset stays small.</summary>
    private bool ConstrainBitTest(ref Instruction i)
    {
        if (i.Op0Kind != OpKind.Memory || i.Op1Kind != OpKind.Register)
            return true;
        if (i.Op1Register.GetFullRegister() == Register.RSP)
            return false;
        _target = (ulong)layout.Sandbox + 1024 + (ulong)(random.Below(6000) & (i.HasLockPrefix ? ~7 : ~0));
        SetAbsolute(ref i);
        RestartSetUp(Load(i.Op1Register, (ulong)(random.Below(16000) - 8000)));
        return true;
    }

    // Counts above the operand size are undefined for 16 bits.
    private bool ConstrainDoubleShift(ref Instruction i)
    {
        bool word = i.Op1Register.GetSize() == 2;
        if (i.Op2Kind == OpKind.Immediate8)
        {
            if (word)
                i.Immediate8 &= 15;
        }
        else
        {
            bool clash = i.MemoryBase.GetFullRegister() == Register.RCX || i.MemoryIndex.GetFullRegister() == Register.RCX;
            if (clash)
                return false;
            _setUp.Add(Load(Register.RCX, random.Next() & ~31ul | (uint)random.Below(word ? 16 : 32)));
        }

        return true;
    }

    private bool ConstrainStack(ref Instruction i)
    {
        if (i.IsStackInstruction && (i.MemoryBase.GetFullRegister() == Register.RSP || i.MemoryIndex.GetFullRegister() == Register.RSP))
            return false;
        ulong stack = StackAddress();
        switch (i.Mnemonic)
        {
            case Mnemonic.Enter:
                i.Immediate16 &= 0xFF;
                i.Immediate8_2nd = (byte)random.Below(6);
                _setUp.Add(Load(Register.RBP, StackAddress()));
                break;
            case Mnemonic.Leave:
                _setUp.Add(Load(Register.RBP, stack));
                break;
            case Mnemonic.Popf or Mnemonic.Popfd or Mnemonic.Popfq:
                _setUp.Add(Poke(stack, (uint)FlagsImage()));
                _setUp.Add(Poke(stack + 4, 0));
                break;
            case Mnemonic.Ret:
                i.Immediate16 &= 0x1FF;
                return true;
        }

        if (i.IsStackInstruction)
            _setUp.Insert(0, Load(Register.RSP, stack));
        return true;
    }

    /// <summary>
    /// A branch goes over one filler, whose effect tells whether it was taken. Indirect targets are put into the register or memory operand first.
    /// </summary>
    private bool EncodeBranch(Sequence sequence, ref Instruction i)
    {
        Register counter = (bits == 64 ? Register.RAX : Register.EAX) + random.Below(4);
        Instruction filler = Instruction.Create(bits == 64 ? Code.Lea_r64_m : Code.Lea_r32_m, counter, new MemoryOperand(counter, (sbyte)random.Next() | 1, 1));
        int at = sequence.Length;
        if (!EmitBranch(sequence, ref i, sequence.Address) || !sequence.TryEmit(filler))
            return false;
        ulong after = sequence.Address;
        sequence.Truncate(at);
        return EmitBranch(sequence, ref i, after) && sequence.TryEmit(filler) && sequence.Address == after;
    }

    private bool EmitBranch(Sequence sequence, ref Instruction i, ulong target)
    {
        switch (i.FlowControl)
        {
            case FlowControl.Return:
                return sequence.TryEmit(Load(Register.RSP, (ulong)layout.StackTop + 2048)) && sequence.TryEmit(Instruction.Create(bits == 64 ? Code.Pushq_imm32 : Code.Pushd_imm32, (int)target))
                    && sequence.TryEmit(i);
            case FlowControl.IndirectBranch or FlowControl.IndirectCall when i.Op0Kind == OpKind.Register:
                return i.Op0Register.GetFullRegister() != Register.RSP && sequence.TryEmit(Load(i.Op0Register, target)) && sequence.TryEmit(i);
            case FlowControl.IndirectBranch or FlowControl.IndirectCall:
                SetAbsolute(ref i);
                return sequence.TryEmit(Poke(_target, (uint)target)) && (bits == 32 || sequence.TryEmit(Poke(_target + 4, 0))) && sequence.TryEmit(i);
            default:
                if (bits == 64)
                    i.NearBranch64 = target;
                else
                    i.NearBranch32 = (uint)target;
                return sequence.TryEmit(i);
        }
    }
}
