using Iced.Intel;

namespace VirtPS.Opcodes;

// Random operands by Iced's operand kinds.
internal sealed unsafe partial class Generator
{
    private bool SetOperand(ref Instruction i, OpCodeInfo info, int k)
    {
        OpCodeOperandKind kind = info.GetOpKind(k);
        switch (kind)
        {
            case OpCodeOperandKind.mem or OpCodeOperandKind.mem_offs:
                return SetMemory(ref i, k, kind == OpCodeOperandKind.mem_offs);
            case OpCodeOperandKind.mem_vsib32x or OpCodeOperandKind.mem_vsib64x:
                return SetVsib(ref i, k, Register.XMM0, kind == OpCodeOperandKind.mem_vsib64x);
            case OpCodeOperandKind.mem_vsib32y or OpCodeOperandKind.mem_vsib64y:
                return SetVsib(ref i, k, Register.YMM0, kind == OpCodeOperandKind.mem_vsib64y);
            case OpCodeOperandKind.mem_vsib32z or OpCodeOperandKind.mem_vsib64z:
                return SetVsib(ref i, k, Register.ZMM0, kind == OpCodeOperandKind.mem_vsib64z);
            case OpCodeOperandKind.r8_or_mem or OpCodeOperandKind.r16_or_mem or OpCodeOperandKind.r32_or_mem or OpCodeOperandKind.r64_or_mem
                or OpCodeOperandKind.mm_or_mem or OpCodeOperandKind.xmm_or_mem or OpCodeOperandKind.ymm_or_mem or OpCodeOperandKind.zmm_or_mem or OpCodeOperandKind.k_or_mem:
                return random.OneIn(2) ? SetMemory(ref i, k, false) : SetRegister(ref i, k, PickRegister(kind));
            case OpCodeOperandKind.seg_rSI or OpCodeOperandKind.es_rDI or OpCodeOperandKind.seg_rDI or OpCodeOperandKind.seg_rBX_al:
                return SetImplicitMemory(ref i, k, kind);
            case OpCodeOperandKind.br16_1 or OpCodeOperandKind.br32_1 or OpCodeOperandKind.br64_1 or OpCodeOperandKind.br16_2 or OpCodeOperandKind.br32_4
                or OpCodeOperandKind.br64_4:
                i.SetOpKind(k, bits == 64 ? OpKind.NearBranch64 : OpKind.NearBranch32);
                return true;
            default:
                Register register = PickRegister(kind);
                return register != Register.None ? SetRegister(ref i, k, register) : SetImmediate(ref i, k, kind);
        }
    }

    private static bool SetRegister(ref Instruction i, int k, Register register)
    {
        i.SetOpKind(k, OpKind.Register);
        i.SetOpRegister(k, register);
        return true;
    }

    private Register PickRegister(OpCodeOperandKind kind) => kind switch
    {
        OpCodeOperandKind.r8_reg or OpCodeOperandKind.r8_or_mem or OpCodeOperandKind.r8_opcode => random.OneIn(4) ? Register.AH + random.Below(4) : Byte(random.Below(bits == 64 ? 16 : 4)),
        OpCodeOperandKind.r16_reg or OpCodeOperandKind.r16_or_mem or OpCodeOperandKind.r16_opcode or OpCodeOperandKind.r16_rm or OpCodeOperandKind.r16_reg_mem => Register.AX + random.Below(_registers),
        OpCodeOperandKind.r32_reg or OpCodeOperandKind.r32_or_mem or OpCodeOperandKind.r32_opcode or OpCodeOperandKind.r32_rm or OpCodeOperandKind.r32_vvvv
            or OpCodeOperandKind.r32_reg_mem => Register.EAX + random.Below(_registers),
        OpCodeOperandKind.r64_reg or OpCodeOperandKind.r64_or_mem or OpCodeOperandKind.r64_opcode or OpCodeOperandKind.r64_rm or OpCodeOperandKind.r64_vvvv
            or OpCodeOperandKind.r64_reg_mem => Register.RAX + random.Below(_registers),
        OpCodeOperandKind.mm_reg or OpCodeOperandKind.mm_or_mem or OpCodeOperandKind.mm_rm => Register.MM0 + random.Below(8),
        OpCodeOperandKind.xmm_reg or OpCodeOperandKind.xmm_or_mem or OpCodeOperandKind.xmm_rm or OpCodeOperandKind.xmm_vvvv or OpCodeOperandKind.xmm_is4
            or OpCodeOperandKind.xmm_is5 => Register.XMM0 + random.Below(_vectors),
        OpCodeOperandKind.ymm_reg or OpCodeOperandKind.ymm_or_mem or OpCodeOperandKind.ymm_rm or OpCodeOperandKind.ymm_vvvv or OpCodeOperandKind.ymm_is4
            or OpCodeOperandKind.ymm_is5 => Register.YMM0 + random.Below(_vectors),
        OpCodeOperandKind.zmm_reg or OpCodeOperandKind.zmm_or_mem or OpCodeOperandKind.zmm_rm or OpCodeOperandKind.zmm_vvvv => Register.ZMM0 + random.Below(_vectors),
        OpCodeOperandKind.k_reg or OpCodeOperandKind.k_or_mem or OpCodeOperandKind.k_rm or OpCodeOperandKind.k_vvvv => Register.K0 + random.Below(8),
        OpCodeOperandKind.kp1_reg => Register.K0 + 2 * random.Below(4),
        OpCodeOperandKind.seg_reg => Register.ES + random.Below(6),
        OpCodeOperandKind.es => Register.ES,
        OpCodeOperandKind.cs => Register.CS,
        OpCodeOperandKind.ss => Register.SS,
        OpCodeOperandKind.ds => Register.DS,
        OpCodeOperandKind.fs => Register.FS,
        OpCodeOperandKind.gs => Register.GS,
        OpCodeOperandKind.al => Register.AL,
        OpCodeOperandKind.cl => Register.CL,
        OpCodeOperandKind.ax => Register.AX,
        OpCodeOperandKind.dx => Register.DX,
        OpCodeOperandKind.eax => Register.EAX,
        OpCodeOperandKind.rax => Register.RAX,
        OpCodeOperandKind.st0 => Register.ST0,
        OpCodeOperandKind.sti_opcode => Register.ST0 + random.Below(8),
        _ => Register.None,
    };

    private static Register Byte(int n) => n < 4 ? Register.AL + n : Register.SPL + (n - 4);

    private bool SetImmediate(ref Instruction i, int k, OpCodeOperandKind kind)
    {
        ulong value = random.Interesting();
        switch (kind)
        {
            case OpCodeOperandKind.imm8:
                bool second = k > 0 && i.GetOpKind(k - 1) is OpKind.Immediate8 or OpKind.Immediate16;
                i.SetOpKind(k, second ? OpKind.Immediate8_2nd : OpKind.Immediate8);
                if (second)
                    i.Immediate8_2nd = (byte)random.Next();
                else
                    i.Immediate8 = (byte)random.Next();
                return true;
            case OpCodeOperandKind.imm8_const_1:
                i.SetOpKind(k, OpKind.Immediate8);
                i.Immediate8 = 1;
                return true;
            case OpCodeOperandKind.imm8sex16:
                i.SetOpKind(k, OpKind.Immediate8to16);
                i.Immediate8to16 = (sbyte)value;
                return true;
            case OpCodeOperandKind.imm8sex32:
                i.SetOpKind(k, OpKind.Immediate8to32);
                i.Immediate8to32 = (sbyte)value;
                return true;
            case OpCodeOperandKind.imm8sex64:
                i.SetOpKind(k, OpKind.Immediate8to64);
                i.Immediate8to64 = (sbyte)value;
                return true;
            case OpCodeOperandKind.imm16:
                i.SetOpKind(k, OpKind.Immediate16);
                i.Immediate16 = (ushort)value;
                return true;
            case OpCodeOperandKind.imm32:
                i.SetOpKind(k, OpKind.Immediate32);
                i.Immediate32 = (uint)value;
                return true;
            case OpCodeOperandKind.imm32sex64:
                i.SetOpKind(k, OpKind.Immediate32to64);
                i.Immediate32to64 = (int)value;
                return true;
            case OpCodeOperandKind.imm64:
                i.SetOpKind(k, OpKind.Immediate64);
                i.Immediate64 = value;
                return true;
            default:
                return false;
        }
    }

    private bool SetMemory(ref Instruction i, int k, bool offset)
    {
        i.SetOpKind(k, OpKind.Memory);
        i.IsBroadcast = i.Code.ToOpCode().CanBroadcast && random.OneIn(3);
        int size = Math.Max(SizeOf(i), 1), alignment = Alignment(i, size);
        _target = Dangerous && i.OpMask != Register.None && !random.OneIn(3) ? EdgeAddress(size, alignment) : SandboxAddress(size, alignment);
        if (offset)
        {
            (i.MemoryDisplacement64, i.MemoryDisplSize) = (_target, bits / 8);
            return true;
        }

        switch (random.Below(8))
        {
            case 0 when bits == 64:
                (i.MemoryBase, i.MemoryDisplacement64, i.MemoryDisplSize) = (Register.RIP, _target, 8);
                return true;
            case 1:
                SetAbsolute(ref i);
                return true;
            default:
                SetBaseIndex(ref i, size);
                return true;
        }
    }

    private static int SizeOf(in Instruction i)
    {
        var probe = new Instruction { Code = i.Code, IsBroadcast = i.IsBroadcast };
        for (int k = 0; k < probe.OpCount; k++)
            probe.SetOpKind(k, OpKind.Memory);
        return probe.MemorySize.GetSize();
    }

    private void SetAbsolute(ref Instruction i)
    {
        (i.MemoryBase, i.MemoryIndex, i.MemoryIndexScale) = (Register.None, Register.None, 1);
        (i.MemoryDisplacement64, i.MemoryDisplSize) = (_target, bits == 32 || random.OneIn(4) ? 4 : 8);
    }

    /// <summary>[base + index * scale + disp] in 64 or 32 bits; set-up loads the registers so that it names the target.</summary>
    private void SetBaseIndex(ref Instruction i, int size)
    {
        bool narrow = bits == 32 || random.OneIn(8), hasIndex = random.OneIn(2), hasBase = !hasIndex || !random.OneIn(4);
        Register first = narrow ? Register.EAX : Register.RAX;
        Register @base = hasBase ? first + random.Below(_registers) : Register.None;
        Register index = Register.None;
        if (hasIndex)
        {
            do
                index = first + random.Below(_registers);
            while (index == @base || index.GetFullRegister() == Register.RSP);
        }

        if (@base.GetFullRegister() == Register.RSP)
            _target = Math.Min((_target - (ulong)layout.Sandbox) % Layout.Page, Layout.Page - 512) + (ulong)layout.StackTop;
        int scale = hasIndex ? 1 << random.Below(4) : 1;
        long displacement = hasBase ? Displacement(i, size) : (int)random.Next();
        (i.MemoryBase, i.MemoryIndex, i.MemoryIndexScale) = (@base, index, scale);
        i.MemoryDisplacement64 = narrow ? (uint)displacement : (ulong)displacement;
        i.MemoryDisplSize = hasBase ? DisplacementSize(i, displacement, narrow) : 4;
        ulong high = narrow ? random.Next() << 32 : 0;
        ulong rest = _target - (ulong)displacement;
        if (!hasBase)
        {
            // Index alone: the displacement makes up for it.
            ulong value = (ulong)random.Below((int)(_target / (ulong)scale));
            i.MemoryDisplacement64 = _target - value * (ulong)scale;
            i.MemoryDisplSize = narrow ? 4 : 8;
            _setUp.Add(Load(index, value | high));
            return;
        }

        if (hasIndex)
        {
            ulong value = random.Interesting();
            _setUp.Add(Load(index, value));
            rest -= value * (ulong)scale;
        }

        _setUp.Add(Load(@base, narrow ? (uint)rest | high : rest));
    }

    /// <summary>Bytes an aligned operand must be aligned to; 1 where any address will do.</summary>
    private int Alignment(in Instruction i, int size)
    {
        if (i.Mnemonic is Mnemonic.Fxsave or Mnemonic.Fxsave64 or Mnemonic.Fxrstor or Mnemonic.Fxrstor64 or Mnemonic.Cmpxchg16b)
            return 16;
        bool any = size < 16 || random.OneIn(2) && AllowsUnaligned(i);
        // Locked accesses across cache lines are slow everywhere and traps on some hosts.
        if (any)
            return i.Code.ToOpCode().CanUseLockPrefix && size <= 8 ? size : 1;
        return size >= 64 ? 64 : size >= 32 ? 32 : 16;
    }

    private static bool AllowsUnaligned(in Instruction i)
    {
        if (i.Code.Encoding() is EncodingKind.VEX or EncodingKind.EVEX)
        {
            return i.Mnemonic is not (Mnemonic.Vmovaps or Mnemonic.Vmovapd or Mnemonic.Vmovdqa or Mnemonic.Vmovntps or Mnemonic.Vmovntpd or Mnemonic.Vmovntdq
                or Mnemonic.Vmovntdqa or Mnemonic.Vmovdqa32 or Mnemonic.Vmovdqa64);
        }

        return i.Mnemonic is Mnemonic.Movups or Mnemonic.Movupd or Mnemonic.Movdqu or Mnemonic.Lddqu or Mnemonic.Pcmpestri or Mnemonic.Pcmpestrm
            or Mnemonic.Pcmpestri64 or Mnemonic.Pcmpestrm64 or Mnemonic.Pcmpistri or Mnemonic.Pcmpistrm or Mnemonic.Fldenv or Mnemonic.Fnstenv or Mnemonic.Fnsave or Mnemonic.Frstor;
    }
}
