using VirtPS.Emulation.Thunks;

namespace VirtPS.Emulation.Tests;

// The random programs.
public sealed unsafe partial class PinRandomTests
{
    /// <summary>Instructions that belong together; <see cref="Skip"/>: the last one is a branch over so many items.</summary>
    private sealed record Item(Instruction[] Code, int Skip = 0);

    /// <summary>Registers that hold addresses at the start of a run: RBX, RSP, RSI, R8–R11, R13. A program uses a few of them, the others are data.</summary>
    private static bool IsBase(int r) => r is 3 or 4 or 6 or >= 8 and <= 11 or 13;

    private static readonly int[][] s_choices =
    [
        [4], [4, 3], [4, 9], [4, 10, 11], [4, 8, 9], [4, 8, 10, 13], [4, 3, 9, 10], [4, 6, 11], [4, 13, 3], [4, 9, 10, 11, 8], [4, 10], [4, 8],
    ];

    private static readonly Code[] s_moves =
    [
        Code.Mov_r64_rm64, Code.Mov_rm64_r64, Code.Mov_r32_rm32, Code.Mov_rm32_r32, Code.Mov_r16_rm16, Code.Mov_rm16_r16, Code.Mov_r8_rm8, Code.Mov_rm8_r8, Code.Mov_rm64_imm32, Code.Mov_rm8_imm8,
        Code.Movzx_r32_rm8, Code.Movzx_r64_rm16, Code.Movsx_r64_rm8, Code.Movsx_r32_rm16, Code.Movsxd_r64_rm32, Code.Movbe_r64_m64, Code.Movbe_m32_r32, Code.Bswap_r64, Code.Mov_r64_imm64,
    ];

    private static readonly Code[] s_arithmetic =
    [
        Code.Add_rm64_r64, Code.Add_r64_rm64, Code.Sub_r32_rm32, Code.Sub_rm64_r64, Code.Cmp_r64_rm64, Code.Cmp_rm64_r64, Code.Cmp_rm32_imm8, Code.Test_rm64_r64, Code.Test_rm8_r8, Code.And_r64_rm64,
        Code.Or_rm64_r64, Code.Xor_r32_rm32, Code.Add_rm8_r8, Code.Sub_r8_rm8, Code.Add_rm64_imm8, Code.Sub_rm32_imm32, Code.Xor_rm64_imm8, Code.Inc_rm64, Code.Dec_rm32, Code.Inc_rm8, Code.Neg_rm64,
        Code.Not_rm64, Code.Imul_r64_rm64, Code.Imul_r64_rm64_imm8, Code.Imul_r32_rm32, Code.Mul_rm64, Code.Imul_rm64, Code.Shl_rm64_imm8, Code.Shr_rm32_imm8, Code.Sar_rm64_1, Code.Rol_rm64_imm8,
        Code.Shl_rm64_CL, Code.Shr_rm32_CL, Code.Sar_rm64_CL, Code.Rcl_rm64_1, Code.Ror_rm8_CL, Code.Shld_rm64_r64_imm8, Code.Shrd_rm64_r64_CL, Code.Popcnt_r64_rm64, Code.Tzcnt_r64_rm64, Code.Lzcnt_r32_rm32,
        Code.Bsf_r64_rm64, Code.Cdq, Code.Cqo, Code.Cdqe, Code.Stc, Code.Clc, Code.Cmc, Code.Sahf, Code.Lahf,
    ];

    private static readonly Code[] s_consumers =
    [
        Code.Adc_r64_rm64, Code.Adc_rm64_r64, Code.Adc_rm64_imm8, Code.Sbb_r32_rm32, Code.Sbb_rm64_r64, Code.Sbb_rm8_r8, Code.Setb_rm8, Code.Sete_rm8, Code.Setl_rm8, Code.Sets_rm8, Code.Seto_rm8, Code.Setp_rm8,
        Code.Cmovb_r64_rm64, Code.Cmove_r32_rm32, Code.Cmovl_r64_rm64, Code.Cmovs_r64_rm64, Code.Cmova_r16_rm16, Code.Rcl_rm32_CL, Code.Rcr_rm64_1,
    ];

    private static readonly Code[] s_special =
    [
        Code.VEX_Mulx_r64_r64_rm64, Code.VEX_Mulx_r32_r32_rm32, Code.Adcx_r64_rm64, Code.Adox_r64_rm64, Code.VEX_Andn_r64_r64_rm64, Code.VEX_Shlx_r64_rm64_r64, Code.VEX_Sarx_r32_rm32_r32, Code.VEX_Rorx_r64_rm64_imm8,
        Code.VEX_Bextr_r64_rm64_r64, Code.VEX_Blsr_r64_rm64, Code.VEX_Pdep_r64_r64_rm64, Code.Xchg_rm64_r64, Code.Xchg_rm8_r8, Code.Xadd_rm64_r64, Code.Xadd_rm32_r32, Code.Cmpxchg_rm64_r64, Code.Cmpxchg_rm32_r32,
        Code.Bt_rm64_imm8, Code.Bts_rm64_imm8, Code.Btr_rm32_imm8, Code.Bt_rm64_r64, Code.Btc_rm64_r64, Code.Crc32_r64_rm64, Code.Cmpxchg8b_m64, Code.Movnti_m64_r64, Code.Prefetcht0_m8, Code.Lea_r64_m, Code.Lea_r32_m,
    ];

    private static readonly Code[] s_sse =
    [
        Code.Movdqu_xmm_xmmm128, Code.Movdqu_xmmm128_xmm, Code.Movups_xmm_xmmm128, Code.Movups_xmmm128_xmm, Code.Movaps_xmm_xmmm128, Code.Movdqa_xmmm128_xmm, Code.Movq_xmm_rm64, Code.Movq_rm64_xmm, Code.Movd_xmm_rm32,
        Code.Movq_xmm_xmmm64, Code.Movq_xmmm64_xmm, Code.Paddd_xmm_xmmm128, Code.Pxor_xmm_xmmm128, Code.Pshufd_xmm_xmmm128_imm8, Code.Pmovmskb_r32_xmm, Code.Pextrq_rm64_xmm_imm8, Code.Pinsrq_xmm_rm64_imm8,
        Code.Movhps_xmm_m64, Code.Movlps_m64_xmm, Code.Ptest_xmm_xmmm128, Code.Pextrb_r32m8_xmm_imm8, Code.Movmskpd_r64_xmm,
    ];

    private static readonly Code[] s_avx =
    [
        Code.VEX_Vmovdqu_ymm_ymmm256, Code.VEX_Vmovdqu_ymmm256_ymm, Code.VEX_Vmovdqu_xmm_xmmm128, Code.VEX_Vmovups_xmmm128_xmm, Code.VEX_Vpaddd_ymm_ymm_ymmm256, Code.VEX_Vpxor_xmm_xmm_xmmm128, Code.VEX_Vpbroadcastd_ymm_xmmm32,
        Code.VEX_Vmovq_xmm_rm64, Code.VEX_Vmovq_rm64_xmm, Code.VEX_Vpmovmskb_r32_ymm, Code.VEX_Vpcmpeqb_ymm_ymm_ymmm256, Code.VEX_Vmovdqa_ymm_ymmm256, Code.VEX_Vmovd_rm32_xmm, Code.VEX_Vptest_ymm_ymmm256,
        Code.VEX_Vextracti128_xmmm128_ymm_imm8, Code.VEX_Vinserti128_ymm_ymm_xmmm128_imm8, Code.VEX_Vpmaskmovd_ymm_ymm_m256, Code.VEX_Vpmaskmovq_m128_xmm_xmm,
    ];

    private static readonly Code[] s_evex =
    [
        Code.EVEX_Vmovdqu32_zmm_k1z_zmmm512, Code.EVEX_Vmovdqu32_zmmm512_k1z_zmm, Code.EVEX_Vmovdqu8_ymm_k1z_ymmm256, Code.EVEX_Vmovdqu64_xmmm128_k1z_xmm, Code.EVEX_Vpaddd_zmm_k1z_zmm_zmmm512b32,
        Code.EVEX_Vpaddq_ymm_k1z_ymm_ymmm256b64, Code.EVEX_Vpxorq_xmm_k1z_xmm_xmmm128b64, Code.EVEX_Vpternlogd_zmm_k1z_zmm_zmmm512b32_imm8, Code.EVEX_Vpcmpub_kr_k1_zmm_zmmm512_imm8, Code.EVEX_Vptestmd_kr_k1_ymm_ymmm256b32,
        Code.EVEX_Vpbroadcastq_zmm_k1z_r64, Code.EVEX_Vmovq_xmm_rm64, Code.EVEX_Vmovd_rm32_xmm, Code.EVEX_Vpmovqd_ymmm256_k1z_zmm, Code.EVEX_Vmovdqa32_zmm_k1z_zmmm512,
        Code.VEX_Kmovq_kr_r64, Code.VEX_Kmovq_r64_kr, Code.VEX_Kmovd_kr_r32, Code.VEX_Kmovw_kr_km16, Code.VEX_Kmovq_m64_kr, Code.VEX_Kortestq_kr_kr, Code.VEX_Kandq_kr_kr_kr, Code.VEX_Kortestw_kr_kr,
    ];

    private static readonly Code[] s_branches =
    [
        Code.Jb_rel32_64, Code.Jae_rel8_64, Code.Je_rel32_64, Code.Jne_rel8_64, Code.Jl_rel32_64, Code.Jg_rel8_64, Code.Js_rel32_64, Code.Jo_rel8_64, Code.Jp_rel8_64, Code.Ja_rel8_64, Code.Jmp_rel8_64, Code.Call_rel32_64,
    ];

    /// <summary>Logic clears AF, in the interpreter and by processors, though nothing says so.</summary>
    private static bool LeavesUndefined(Instruction i) => i.RflagsUndefined != 0 && i.Mnemonic is not (Mnemonic.And or Mnemonic.Or or Mnemonic.Xor or Mnemonic.Test);

    /// <summary>What a program is made from.</summary>
    private sealed class Maker(Random random, HostFeatures host)
    {
        private readonly int[] _bases = s_choices[random.Next(s_choices.Length)];
        private readonly int _vectors = random.Next(3) == 0 ? 25 : 4, _memory = random.Next(30, 80), _stack = random.Next(3) == 0 ? 20 : 6, _moved = random.Next(2, 15), _code = random.Next(3) == 0 ? 40 : 6;
        private readonly int _middle = random.Next(4) == 0 ? random.Next(-4000, 4000) : 0, _page = random.Next(3) switch { 0 => CodePage - 1, 1 => CodePage + 2, _ => random.Next(Pages) };

        /// <summary>No instruction leaves flags undefined. In other programs AF may be, and is hidden.</summary>
        private readonly bool _strict = random.Next(2) == 0;
        private readonly Iced.Intel.Encoder _encoder = Iced.Intel.Encoder.Create(64, new NoWriter());

        private sealed class NoWriter : CodeWriter
        {
            public override void WriteByte(byte value)
            {
            }
        }

        public Item Next()
        {
            int n = random.Next(100);
            if ((n -= _vectors) < 0)
                return Single(random.Next(3) switch { 0 when host.Avx512 => s_evex, 1 when host.Avx => s_avx, _ => s_sse });
            if ((n -= _stack) < 0)
                return OnStack();
            if ((n -= _moved) < 0)
                return MoveBase();
            if ((n -= 4) < 0)
                return new Item([Instruction.CreateBranch(s_branches[random.Next(s_branches.Length)], 0)], random.Next(1, 12));
            if ((n -= 12) < 0)
                return Single(s_consumers);
            if ((n -= 10) < 0)
                return Single(s_special);
            return Single(random.Next(5) < 2 ? s_moves : s_arithmetic);
        }

        private Item OnStack()
        {
            switch (random.Next(26))
            {
                case < 10: return new Item([Instruction.Create(Code.Push_r64, Gpr64(random.Next(16)))]);
                case < 12: return new Item([Instruction.Create(Code.Pushq_imm8, random.Next(-128, 128))]);
                case < 20: return new Item([Instruction.Create(Code.Pop_r64, Gpr64(Data()))]);
                case < 22: return new Item([.. PushFlags(), .. random.Next(2) == 0 ? Single(s_arithmetic).Code : [], Instruction.Create(Code.Popfq)]);
                case 22: return new Item(PushFlags());
                case 23: return new Item([Instruction.Create(Code.Lea_r64_m, Register.RBP, At(Register.RSP, random.Next(-8, 9) * 8)), .. Single(s_moves).Code, Instruction.Create(Code.Leaveq)]);
                case 24: return new Item([Instruction.Create(Code.Lea_r64_m, Register.RBP, At(Register.RSP, random.Next(-8, 9) * 8))]);
                default: return new Item([Instruction.Create(Code.Push_rm64, At(Gpr64(Base()), Distance()))]);
            }
        }

        private Instruction[] PushFlags() =>
            _strict ? [Instruction.Create(Code.Pushfq)] : [Instruction.Create(Code.Pushfq), Instruction.Create(Code.And_rm8_imm8, At(Register.RSP, 0), unchecked((int)0xFFFFFFEF))];

        private Item MoveBase()
        {
            int r = Base(), by = random.Next(3) == 0 ? random.Next(-300, 300) : random.Next(-8, 9) * 8;
            Register b = Gpr64(r);
            switch (random.Next(20))
            {
                case < 4: return new Item([Instruction.Create(Code.Add_rm64_imm32, b, by)]);
                case < 7: return new Item([Instruction.Create(Code.Sub_rm64_imm32, b, by)]);
                case < 12: return new Item([Instruction.Create(Code.Lea_r64_m, b, At(b, by))]);
                case 12: return new Item([Instruction.Create(Code.Inc_rm64, b)]);
                case 13: return new Item([Instruction.Create(Code.Dec_rm64, b)]);
                case 14: return new Item([Instruction.Create(Code.Mov_r64_rm64, b, Gpr64(Base()))]);
                case 15: return new Item([Instruction.Create(Code.Lea_r64_m, b, At(Gpr64(Base()), by))]);
                case 16: return new Item([Instruction.Create(Code.Xchg_rm64_r64, b, Gpr64(Base()))]);
                case 17: return new Item([Instruction.Create(Code.Lea_r64_m, b, At(Register.RIP, (long)CodeData()))]);
                case 18: return new Item([Instruction.Create(Code.And_rm64_imm8, b, -8)]);
                default:
                    return new Item([Instruction.Create(Code.And_rm32_imm8, Register.ECX, 0x78), Instruction.Create(random.Next(2) == 0 ? Code.Add_rm64_r64 : Code.Sub_rm64_r64, b, Register.RCX)]);
            }
        }

        private static MemoryOperand At(Register b, long distance) => new(b, Register.None, 1, distance, b == Register.RIP ? 8 : 1, false, Register.None);

        private static Register Gpr64(int r) => Register.RAX + r;

        private int Base() => _bases[random.Next(_bases.Length)];

        /// <summary>A register for data, rarely one that holds an address.</summary>
        private int Data()
        {
            for (; ; )
            {
                int r = random.Next(2) == 0 ? random.Next(9, 12) : random.Next(16);
                if (!_bases.Contains(r) || (r != 4 && random.Next(100) == 0))
                    return r;
            }
        }

        private int Distance() => random.Next(40) switch
        {
            0 => random.Next(-4200, 4200),
            < 12 => _middle + random.Next(-200, 200),
            _ => _middle + random.Next(-16, 17) * 8,
        };

        private ulong CodeData() => Area + (ulong)(random.Next(8) == 0 ? random.Next(CodePage - 1, CodePage + 3) : _page) * 4096 + (ulong)(random.Next(4) == 0 ? random.Next(4096) : random.Next(64) * 64);

        /// <summary>One instruction out of a list, with operands that it takes.</summary>
        private Item Single(Code[] codes)
        {
            for (; ; )
            {
                Instruction i = Operands(codes[random.Next(codes.Length)]);
                if ((_strict && LeavesUndefined(i)) || !_encoder.TryEncode(i, Area + CodePage * 4096, out _, out _))
                    continue;
                if (i.Code == Code.Lahf && !_strict)
                    return new Item([i, Instruction.Create(Code.And_rm8_imm8, Register.AH, unchecked((int)0xFFFFFFEF))]);
                return (i.RflagsUndefined & ~RflagsBits.AF) == 0 ? new Item([i]) : new Item([i, Defining(i)]);
            }
        }

        /// <summary>Gives flags that an instruction leaves undefined a value; where the carry is not among them it stays.</summary>
        private Instruction Defining(in Instruction i)
        {
            if ((i.RflagsUndefined & RflagsBits.CF) == 0 && random.Next(4) != 0)
                return random.Next(2) == 0 ? Instruction.Create(Code.Inc_rm64, Gpr64(Data())) : Instruction.Create(Code.Dec_rm32, Register.EAX + Data());
            return Instruction.Create(random.Next(2) == 0 ? Code.Cmp_rm64_r64 : Code.Add_rm64_r64, Gpr64(Data()), Gpr64(Data()));
        }

        private Instruction Operands(Code code)
        {
            OpCodeInfo info = code.ToOpCode();
            var i = new Instruction { Code = code };
            for (int n = 0; n < info.OpCount; n++)
                SetOperand(ref i, info, n);
            if (info.CanUseLockPrefix && i.Op0Kind == OpKind.Memory && random.Next(8) == 0)
                i.HasLockPrefix = true;
            bool masked = info.CanUseOpMaskRegister && random.Next(2) == 0;
            if (masked)
                i.OpMask = Register.K0 + random.Next(1, 8);
            if (masked && info.CanUseZeroingMasking && i.Op0Kind == OpKind.Register && random.Next(2) == 0)
                i.ZeroingMasking = true;
            if (info.CanBroadcast && HasMemory(i))
                i.IsBroadcast = random.Next(2) == 0;
            return i;
        }

        private static bool HasMemory(in Instruction i) => i.Op0Kind == OpKind.Memory || i.Op1Kind == OpKind.Memory || i.Op2Kind == OpKind.Memory;

        private void SetOperand(ref Instruction i, OpCodeInfo info, int n)
        {
            OpCodeOperandKind kind = info.GetOpKind(n);
            string name = kind.ToString();
            bool either = name.Contains("_or_mem", StringComparison.Ordinal);
            if (kind == OpCodeOperandKind.mem || (either && random.Next(100) < _memory))
                SetMemory(ref i, n);
            else if (name.StartsWith("imm", StringComparison.Ordinal))
                SetImmediate(ref i, kind, n);
            else
                i.SetOpKind(n, OpKind.Register);
            if (i.GetOpKind(n) == OpKind.Register)
                i.SetOpRegister(n, RegisterOf(name, info.Encoding == EncodingKind.EVEX));
        }

        private void SetMemory(ref Instruction i, int n)
        {
            i.SetOpKind(n, OpKind.Memory);
            if (random.Next(100) < _code)
            {
                (i.MemoryBase, i.MemoryDisplacement64, i.MemoryDisplSize) = (Register.RIP, CodeData(), 8);
                return;
            }

            (i.MemoryBase, i.MemoryDisplacement64, i.MemoryDisplSize) = (Gpr64(Base()), (ulong)Distance(), 1);
            if (random.Next(200) == 0)
                (i.MemoryIndex, i.MemoryIndexScale) = (Register.RCX, 1);
        }

        private void SetImmediate(ref Instruction i, OpCodeOperandKind kind, int n)
        {
            OpKind op = kind switch
            {
                OpCodeOperandKind.imm8 or OpCodeOperandKind.imm8_const_1 => OpKind.Immediate8,
                OpCodeOperandKind.imm8sex32 => OpKind.Immediate8to32,
                OpCodeOperandKind.imm8sex64 => OpKind.Immediate8to64,
                OpCodeOperandKind.imm32 => OpKind.Immediate32,
                OpCodeOperandKind.imm32sex64 => OpKind.Immediate32to64,
                _ => OpKind.Immediate64,
            };
            i.SetOpKind(n, op);
            i.SetImmediate(n, kind == OpCodeOperandKind.imm8_const_1 ? 1 : op is OpKind.Immediate32 or OpKind.Immediate32to64 ? random.Next(int.MinValue, int.MaxValue) : random.Next(-128, 128));
        }

        private Register RegisterOf(string kind, bool evex) => kind switch
        {
            "cl" => Register.CL,
            _ when kind.StartsWith("r64", StringComparison.Ordinal) => Gpr64(Data()),
            _ when kind.StartsWith("r32", StringComparison.Ordinal) => Register.EAX + Data(),
            _ when kind.StartsWith("r16", StringComparison.Ordinal) => Register.AX + Data(),
            _ when kind.StartsWith("r8", StringComparison.Ordinal) => ByteRegister(Data()),
            _ when kind.StartsWith('k') => Register.K0 + random.Next(8),
            _ when kind.StartsWith("xmm", StringComparison.Ordinal) => Register.XMM0 + random.Next(evex ? 32 : 16),
            _ when kind.StartsWith("ymm", StringComparison.Ordinal) => Register.YMM0 + random.Next(evex ? 32 : 16),
            _ when kind.StartsWith("zmm", StringComparison.Ordinal) => Register.ZMM0 + random.Next(32),
            _ => throw new InvalidOperationException(kind),
        };

        private Register ByteRegister(int r) => r < 4 ? (random.Next(4) == 0 ? Register.AH : Register.AL) + r : r < 8 ? Register.SPL + (r - 4) : Register.R8L + (r - 8);
    }

    private static List<Item> Generate(Random random, HostFeatures host)
    {
        var maker = new Maker(random, host);
        return [.. Enumerable.Range(0, random.Next(8, 101)).Select(_ => maker.Next())];
    }

    private static void Write(Assembler a, List<Item> items)
    {
        var labels = new Label?[items.Count + 1];
        for (int i = 0; i <= items.Count; i++)
        {
            if (labels[i] is Label here)
                a.Label(ref here);
            if (i == items.Count)
                break;
            for (int k = 0; k < items[i].Code.Length; k++)
            {
                Instruction instruction = items[i].Code[k];
                if (items[i].Skip > 0)
                    instruction.NearBranch64 = (labels[Math.Min(items.Count, i + 1 + items[i].Skip)] ??= a.CreateLabel()).Id;
                a.AddInstruction(instruction);
            }
        }

        a.hlt();
    }
}
