using Iced.Intel;

namespace VirtPS.Emulation;

/// <summary>Case numbers of the main loop and the instruction forms that they stand for.</summary>
internal static unsafe partial class HotForms
{
    public const ushort
        AddRR64 = 1, AddRI64 = 2, AddRM64 = 3, AddMR64 = 4, AddMI64 = 5, OrRR64 = 6, OrRI64 = 7, OrRM64 = 8, OrMR64 = 9, OrMI64 = 10, AdcRR64 = 11,
        AdcRI64 = 12, AdcRM64 = 13, SbbRR64 = 14, SbbRI64 = 15, SbbRM64 = 16, AndRR64 = 17, AndRI64 = 18, AndRM64 = 19, AndMR64 = 20, AndMI64 = 21,
        SubRR64 = 22, SubRI64 = 23, SubRM64 = 24, SubMR64 = 25, SubMI64 = 26, Zero64 = 27, XorRR64 = 28, XorRI64 = 29, XorRM64 = 30, XorMR64 = 31,
        XorMI64 = 32, CmpRR64 = 33, CmpRI64 = 34, CmpRM64 = 35, CmpMR64 = 36, CmpMI64 = 37, TestRR64 = 38, TestRI64 = 39, TestMR64 = 40,
        TestMI64 = 41, AddRR32 = 42, AddRI32 = 43, AddRM32 = 44, AddMR32 = 45, AddMI32 = 46, OrRR32 = 47, OrRI32 = 48, OrRM32 = 49, OrMR32 = 50,
        OrMI32 = 51, AdcRR32 = 52, AdcRI32 = 53, AdcRM32 = 54, SbbRR32 = 55, SbbRI32 = 56, SbbRM32 = 57, AndRR32 = 58, AndRI32 = 59, AndRM32 = 60,
        AndMR32 = 61, AndMI32 = 62, SubRR32 = 63, SubRI32 = 64, SubRM32 = 65, SubMR32 = 66, SubMI32 = 67, Zero32 = 68, XorRR32 = 69, XorRI32 = 70,
        XorRM32 = 71, XorMR32 = 72, XorMI32 = 73, CmpRR32 = 74, CmpRI32 = 75, CmpRM32 = 76, CmpMR32 = 77, CmpMI32 = 78, TestRR32 = 79, TestRI32 = 80,
        TestMR32 = 81, TestMI32 = 82, AddRR8 = 83, AddRI8 = 84, OrRR8 = 85, OrRI8 = 86, OrRM8 = 87, OrMR8 = 88, OrMI8 = 89, AdcRR8 = 90, AdcRI8 = 91,
        SbbRR8 = 92, SbbRI8 = 93, AndRR8 = 94, AndRI8 = 95, AndRM8 = 96, AndMR8 = 97, AndMI8 = 98, SubRR8 = 99, SubRI8 = 100, XorRR8 = 101,
        XorRI8 = 102, CmpRR8 = 103, CmpRI8 = 104, CmpRM8 = 105, CmpMR8 = 106, CmpMI8 = 107, TestRR8 = 108, TestRI8 = 109, TestMR8 = 110,
        TestMI8 = 111, CmpMR16 = 112, CmpMI16 = 113, TestMR16 = 114, TestMI16 = 115, MovRR64 = 116, MovRI64 = 117, Load64 = 118, Store64 = 119,
        StoreI64 = 120, MovRR32 = 121, MovRI32 = 122, Load32 = 123, Store32 = 124, StoreI32 = 125, MovRR16 = 126, Load16 = 127, Store16 = 128,
        StoreI16 = 129, MovRR8 = 130, MovRI8 = 131, Load8 = 132, Store8 = 133, StoreI8 = 134, MovzxRR8 = 135, MovzxRM8 = 136, MovsxRR32From8 = 137,
        MovsxRM32From8 = 138, MovsxRR64From8 = 139, MovsxRM64From8 = 140, MovzxRR16 = 141, MovzxRM16 = 142, MovsxRR32From16 = 143,
        MovsxRM32From16 = 144, MovsxRR64From16 = 145, MovsxRM64From16 = 146, MovsxdRR = 147, MovsxdRM = 148, Lea64 = 149, Lea32 = 150,
        LeaDisp64 = 151, IncR64 = 152, IncM64 = 153, DecR64 = 154, DecM64 = 155, NegR64 = 156, NotR64 = 157, ShlRI64 = 158, ShrRI64 = 159,
        SarRI64 = 160, RolRI64 = 161, RorRI64 = 162, ShlRC64 = 163, ShrRC64 = 164, SarRC64 = 165, ImulRR64 = 166, ImulRM64 = 167, ImulRI64 = 168,
        XchgRR64 = 169, BtRI64 = 170, BtRR64 = 171, CmovRR64 = 172, CmovRM64 = 173, IncR32 = 174, IncM32 = 175, DecR32 = 176, DecM32 = 177,
        NegR32 = 178, NotR32 = 179, ShlRI32 = 180, ShrRI32 = 181, SarRI32 = 182, RolRI32 = 183, RorRI32 = 184, ShlRC32 = 185, ShrRC32 = 186,
        SarRC32 = 187, ImulRR32 = 188, ImulRM32 = 189, ImulRI32 = 190, XchgRR32 = 191, BtRI32 = 192, BtRR32 = 193, CmovRR32 = 194, CmovRM32 = 195,
        SetccR = 196, BswapR32 = 197, BswapR64 = 198, Cdqe = 199, Cqo = 200, Cdq = 201, Nop = 202, PushR = 203, PushI = 204, PopR = 205, Leave = 206,
        CallRel = 207, CallR = 208, CallM = 209, JmpRel = 210, JmpR = 211, JmpM = 212, Ret = 213, RetI = 214, Jo = 215, Jno = 216, Jb = 217,
        Jae = 218, Je = 219, Jne = 220, Jbe = 221, Ja = 222, Js = 223, Jns = 224, Jp = 225, Jnp = 226, Jl = 227, Jge = 228, Jle = 229, Jg = 230,
        End = 231;

    private static void Fill(Table t)
    {
        t.Register(AddRR64,
            Code.Add_rm64_r64, Code.Add_r64_rm64);
        t.Register(AddRI64,
            Code.Add_rm64_imm32, Code.Add_RAX_imm32, Code.Add_rm64_imm8);
        t.Memory(AddRM64,
            Code.Add_r64_rm64);
        t.Memory(AddMR64,
            Code.Add_rm64_r64);
        t.Memory(AddMI64,
            Code.Add_rm64_imm32, Code.Add_rm64_imm8);
        t.Register(OrRR64,
            Code.Or_rm64_r64, Code.Or_r64_rm64);
        t.Register(OrRI64,
            Code.Or_rm64_imm32, Code.Or_RAX_imm32, Code.Or_rm64_imm8);
        t.Memory(OrRM64,
            Code.Or_r64_rm64);
        t.Memory(OrMR64,
            Code.Or_rm64_r64);
        t.Memory(OrMI64,
            Code.Or_rm64_imm32, Code.Or_rm64_imm8);
        t.Register(AdcRR64,
            Code.Adc_rm64_r64, Code.Adc_r64_rm64);
        t.Register(AdcRI64,
            Code.Adc_rm64_imm32, Code.Adc_RAX_imm32, Code.Adc_rm64_imm8);
        t.Memory(AdcRM64,
            Code.Adc_r64_rm64);
        t.Register(SbbRR64,
            Code.Sbb_rm64_r64, Code.Sbb_r64_rm64);
        t.Register(SbbRI64,
            Code.Sbb_rm64_imm32, Code.Sbb_RAX_imm32, Code.Sbb_rm64_imm8);
        t.Memory(SbbRM64,
            Code.Sbb_r64_rm64);
        t.Register(AndRR64,
            Code.And_rm64_r64, Code.And_r64_rm64);
        t.Register(AndRI64,
            Code.And_rm64_imm32, Code.And_RAX_imm32, Code.And_rm64_imm8);
        t.Memory(AndRM64,
            Code.And_r64_rm64);
        t.Memory(AndMR64,
            Code.And_rm64_r64);
        t.Memory(AndMI64,
            Code.And_rm64_imm32, Code.And_rm64_imm8);
        t.Register(SubRR64,
            Code.Sub_rm64_r64, Code.Sub_r64_rm64);
        t.Register(SubRI64,
            Code.Sub_rm64_imm32, Code.Sub_RAX_imm32, Code.Sub_rm64_imm8);
        t.Memory(SubRM64,
            Code.Sub_r64_rm64);
        t.Memory(SubMR64,
            Code.Sub_rm64_r64);
        t.Memory(SubMI64,
            Code.Sub_rm64_imm32, Code.Sub_rm64_imm8);
        t.Register(XorRR64,
            Code.Xor_rm64_r64, Code.Xor_r64_rm64);
        t.Register(XorRI64,
            Code.Xor_rm64_imm32, Code.Xor_RAX_imm32, Code.Xor_rm64_imm8);
        t.Memory(XorRM64,
            Code.Xor_r64_rm64);
        t.Memory(XorMR64,
            Code.Xor_rm64_r64);
        t.Memory(XorMI64,
            Code.Xor_rm64_imm32, Code.Xor_rm64_imm8);
        t.Register(CmpRR64,
            Code.Cmp_rm64_r64, Code.Cmp_r64_rm64);
        t.Register(CmpRI64,
            Code.Cmp_rm64_imm32, Code.Cmp_RAX_imm32, Code.Cmp_rm64_imm8);
        t.Memory(CmpRM64,
            Code.Cmp_r64_rm64);
        t.Memory(CmpMR64,
            Code.Cmp_rm64_r64);
        t.Memory(CmpMI64,
            Code.Cmp_rm64_imm32, Code.Cmp_rm64_imm8);
        t.Register(TestRR64,
            Code.Test_rm64_r64);
        t.Register(TestRI64,
            Code.Test_rm64_imm32, Code.Test_RAX_imm32);
        t.Memory(TestMR64,
            Code.Test_rm64_r64);
        t.Memory(TestMI64,
            Code.Test_rm64_imm32);
        t.Register(AddRR32,
            Code.Add_rm32_r32, Code.Add_r32_rm32);
        t.Register(AddRI32,
            Code.Add_rm32_imm32, Code.Add_EAX_imm32, Code.Add_rm32_imm8);
        t.Memory(AddRM32,
            Code.Add_r32_rm32);
        t.Memory(AddMR32,
            Code.Add_rm32_r32);
        t.Memory(AddMI32,
            Code.Add_rm32_imm32, Code.Add_rm32_imm8);
        t.Register(OrRR32,
            Code.Or_rm32_r32, Code.Or_r32_rm32);
        t.Register(OrRI32,
            Code.Or_rm32_imm32, Code.Or_EAX_imm32, Code.Or_rm32_imm8);
        t.Memory(OrRM32,
            Code.Or_r32_rm32);
        t.Memory(OrMR32,
            Code.Or_rm32_r32);
        t.Memory(OrMI32,
            Code.Or_rm32_imm32, Code.Or_rm32_imm8);
        t.Register(AdcRR32,
            Code.Adc_rm32_r32, Code.Adc_r32_rm32);
        t.Register(AdcRI32,
            Code.Adc_rm32_imm32, Code.Adc_EAX_imm32, Code.Adc_rm32_imm8);
        t.Memory(AdcRM32,
            Code.Adc_r32_rm32);
        t.Register(SbbRR32,
            Code.Sbb_rm32_r32, Code.Sbb_r32_rm32);
        t.Register(SbbRI32,
            Code.Sbb_rm32_imm32, Code.Sbb_EAX_imm32, Code.Sbb_rm32_imm8);
        t.Memory(SbbRM32,
            Code.Sbb_r32_rm32);
        t.Register(AndRR32,
            Code.And_rm32_r32, Code.And_r32_rm32);
        t.Register(AndRI32,
            Code.And_rm32_imm32, Code.And_EAX_imm32, Code.And_rm32_imm8);
        t.Memory(AndRM32,
            Code.And_r32_rm32);
        t.Memory(AndMR32,
            Code.And_rm32_r32);
        t.Memory(AndMI32,
            Code.And_rm32_imm32, Code.And_rm32_imm8);
        t.Register(SubRR32,
            Code.Sub_rm32_r32, Code.Sub_r32_rm32);
        t.Register(SubRI32,
            Code.Sub_rm32_imm32, Code.Sub_EAX_imm32, Code.Sub_rm32_imm8);
        t.Memory(SubRM32,
            Code.Sub_r32_rm32);
        t.Memory(SubMR32,
            Code.Sub_rm32_r32);
        t.Memory(SubMI32,
            Code.Sub_rm32_imm32, Code.Sub_rm32_imm8);
        t.Register(XorRR32,
            Code.Xor_rm32_r32, Code.Xor_r32_rm32);
        t.Register(XorRI32,
            Code.Xor_rm32_imm32, Code.Xor_EAX_imm32, Code.Xor_rm32_imm8);
        t.Memory(XorRM32,
            Code.Xor_r32_rm32);
        t.Memory(XorMR32,
            Code.Xor_rm32_r32);
        t.Memory(XorMI32,
            Code.Xor_rm32_imm32, Code.Xor_rm32_imm8);
        t.Register(CmpRR32,
            Code.Cmp_rm32_r32, Code.Cmp_r32_rm32);
        t.Register(CmpRI32,
            Code.Cmp_rm32_imm32, Code.Cmp_EAX_imm32, Code.Cmp_rm32_imm8);
        t.Memory(CmpRM32,
            Code.Cmp_r32_rm32);
        t.Memory(CmpMR32,
            Code.Cmp_rm32_r32);
        t.Memory(CmpMI32,
            Code.Cmp_rm32_imm32, Code.Cmp_rm32_imm8);
        t.Register(TestRR32,
            Code.Test_rm32_r32);
        t.Register(TestRI32,
            Code.Test_rm32_imm32, Code.Test_EAX_imm32);
        t.Memory(TestMR32,
            Code.Test_rm32_r32);
        t.Memory(TestMI32,
            Code.Test_rm32_imm32);
        t.Register(AddRR8,
            Code.Add_rm8_r8, Code.Add_r8_rm8);
        t.Register(AddRI8,
            Code.Add_rm8_imm8, Code.Add_AL_imm8);
        t.Register(OrRR8,
            Code.Or_rm8_r8, Code.Or_r8_rm8);
        t.Register(OrRI8,
            Code.Or_rm8_imm8, Code.Or_AL_imm8);
        t.Memory(OrRM8,
            Code.Or_r8_rm8);
        t.Memory(OrMR8,
            Code.Or_rm8_r8);
        t.Memory(OrMI8,
            Code.Or_rm8_imm8);
        t.Register(AdcRR8,
            Code.Adc_rm8_r8, Code.Adc_r8_rm8);
        t.Register(AdcRI8,
            Code.Adc_rm8_imm8, Code.Adc_AL_imm8);
        t.Register(SbbRR8,
            Code.Sbb_rm8_r8, Code.Sbb_r8_rm8);
        t.Register(SbbRI8,
            Code.Sbb_rm8_imm8, Code.Sbb_AL_imm8);
        t.Register(AndRR8,
            Code.And_rm8_r8, Code.And_r8_rm8);
        t.Register(AndRI8,
            Code.And_rm8_imm8, Code.And_AL_imm8);
        t.Memory(AndRM8,
            Code.And_r8_rm8);
        t.Memory(AndMR8,
            Code.And_rm8_r8);
        t.Memory(AndMI8,
            Code.And_rm8_imm8);
        t.Register(SubRR8,
            Code.Sub_rm8_r8, Code.Sub_r8_rm8);
        t.Register(SubRI8,
            Code.Sub_rm8_imm8, Code.Sub_AL_imm8);
        t.Register(XorRR8,
            Code.Xor_rm8_r8, Code.Xor_r8_rm8);
        t.Register(XorRI8,
            Code.Xor_rm8_imm8, Code.Xor_AL_imm8);
        t.Register(CmpRR8,
            Code.Cmp_rm8_r8, Code.Cmp_r8_rm8);
        t.Register(CmpRI8,
            Code.Cmp_rm8_imm8, Code.Cmp_AL_imm8);
        t.Memory(CmpRM8,
            Code.Cmp_r8_rm8);
        t.Memory(CmpMR8,
            Code.Cmp_rm8_r8);
        t.Memory(CmpMI8,
            Code.Cmp_rm8_imm8);
        t.Register(TestRR8,
            Code.Test_rm8_r8);
        t.Register(TestRI8,
            Code.Test_rm8_imm8, Code.Test_AL_imm8);
        t.Memory(TestMR8,
            Code.Test_rm8_r8);
        t.Memory(TestMI8,
            Code.Test_rm8_imm8);
        t.Memory(CmpMR16,
            Code.Cmp_rm16_r16);
        t.Memory(CmpMI16,
            Code.Cmp_rm16_imm16, Code.Cmp_rm16_imm8);
        t.Memory(TestMR16,
            Code.Test_rm16_r16);
        t.Memory(TestMI16,
            Code.Test_rm16_imm16);
        t.Register(MovRR64,
            Code.Mov_rm64_r64, Code.Mov_r64_rm64);
        t.Register(MovRI64,
            Code.Mov_rm64_imm32, Code.Mov_r64_imm64);
        t.Memory(Load64,
            Code.Mov_r64_rm64);
        t.Memory(Store64,
            Code.Mov_rm64_r64);
        t.Memory(StoreI64,
            Code.Mov_rm64_imm32);
        t.Register(MovRR32,
            Code.Mov_rm32_r32, Code.Mov_r32_rm32);
        t.Register(MovRI32,
            Code.Mov_rm32_imm32, Code.Mov_r32_imm32);
        t.Memory(Load32,
            Code.Mov_r32_rm32);
        t.Memory(Store32,
            Code.Mov_rm32_r32);
        t.Memory(StoreI32,
            Code.Mov_rm32_imm32);
        t.Register(MovRR16,
            Code.Mov_rm16_r16, Code.Mov_r16_rm16);
        t.Memory(Load16,
            Code.Mov_r16_rm16);
        t.Memory(Store16,
            Code.Mov_rm16_r16);
        t.Memory(StoreI16,
            Code.Mov_rm16_imm16);
        t.Register(MovRR8,
            Code.Mov_rm8_r8, Code.Mov_r8_rm8);
        t.Register(MovRI8,
            Code.Mov_rm8_imm8, Code.Mov_r8_imm8);
        t.Memory(Load8,
            Code.Mov_r8_rm8);
        t.Memory(Store8,
            Code.Mov_rm8_r8);
        t.Memory(StoreI8,
            Code.Mov_rm8_imm8);
        t.Register(MovzxRR8,
            Code.Movzx_r32_rm8, Code.Movzx_r64_rm8);
        t.Memory(MovzxRM8,
            Code.Movzx_r32_rm8, Code.Movzx_r64_rm8);
        t.Register(MovsxRR32From8,
            Code.Movsx_r32_rm8);
        t.Memory(MovsxRM32From8,
            Code.Movsx_r32_rm8);
        t.Register(MovsxRR64From8,
            Code.Movsx_r64_rm8);
        t.Memory(MovsxRM64From8,
            Code.Movsx_r64_rm8);
        t.Register(MovzxRR16,
            Code.Movzx_r32_rm16, Code.Movzx_r64_rm16);
        t.Memory(MovzxRM16,
            Code.Movzx_r32_rm16, Code.Movzx_r64_rm16);
        t.Register(MovsxRR32From16,
            Code.Movsx_r32_rm16);
        t.Memory(MovsxRM32From16,
            Code.Movsx_r32_rm16);
        t.Register(MovsxRR64From16,
            Code.Movsx_r64_rm16);
        t.Memory(MovsxRM64From16,
            Code.Movsx_r64_rm16);
        t.Register(MovsxdRR,
            Code.Movsxd_r64_rm32);
        t.Memory(MovsxdRM,
            Code.Movsxd_r64_rm32);
        t.Memory(Lea64,
            Code.Lea_r64_m);
        t.Memory(Lea32,
            Code.Lea_r32_m);
        t.Register(IncR64,
            Code.Inc_rm64);
        t.Memory(IncM64,
            Code.Inc_rm64);
        t.Register(DecR64,
            Code.Dec_rm64);
        t.Memory(DecM64,
            Code.Dec_rm64);
        t.Register(NegR64,
            Code.Neg_rm64);
        t.Register(NotR64,
            Code.Not_rm64);
        t.Register(ShlRI64,
            Code.Shl_rm64_imm8, Code.Shl_rm64_1, Code.Sal_rm64_imm8, Code.Sal_rm64_1);
        t.Register(ShrRI64,
            Code.Shr_rm64_imm8, Code.Shr_rm64_1);
        t.Register(SarRI64,
            Code.Sar_rm64_imm8, Code.Sar_rm64_1);
        t.Register(RolRI64,
            Code.Rol_rm64_imm8, Code.Rol_rm64_1);
        t.Register(RorRI64,
            Code.Ror_rm64_imm8, Code.Ror_rm64_1);
        t.Register(ShlRC64,
            Code.Shl_rm64_CL, Code.Sal_rm64_CL);
        t.Register(ShrRC64,
            Code.Shr_rm64_CL);
        t.Register(SarRC64,
            Code.Sar_rm64_CL);
        t.Register(ImulRR64,
            Code.Imul_r64_rm64);
        t.Memory(ImulRM64,
            Code.Imul_r64_rm64);
        t.Register(ImulRI64,
            Code.Imul_r64_rm64_imm8, Code.Imul_r64_rm64_imm32);
        t.Register(XchgRR64,
            Code.Xchg_rm64_r64, Code.Xchg_r64_RAX);
        t.Register(BtRI64,
            Code.Bt_rm64_imm8);
        t.Register(BtRR64,
            Code.Bt_rm64_r64);
        t.Register(CmovRR64,
            Code.Cmovo_r64_rm64, Code.Cmovno_r64_rm64, Code.Cmovb_r64_rm64, Code.Cmovae_r64_rm64, Code.Cmove_r64_rm64, Code.Cmovne_r64_rm64,
            Code.Cmovbe_r64_rm64, Code.Cmova_r64_rm64, Code.Cmovs_r64_rm64, Code.Cmovns_r64_rm64, Code.Cmovp_r64_rm64, Code.Cmovnp_r64_rm64,
            Code.Cmovl_r64_rm64, Code.Cmovge_r64_rm64, Code.Cmovle_r64_rm64, Code.Cmovg_r64_rm64);
        t.Memory(CmovRM64,
            Code.Cmovo_r64_rm64, Code.Cmovno_r64_rm64, Code.Cmovb_r64_rm64, Code.Cmovae_r64_rm64, Code.Cmove_r64_rm64, Code.Cmovne_r64_rm64,
            Code.Cmovbe_r64_rm64, Code.Cmova_r64_rm64, Code.Cmovs_r64_rm64, Code.Cmovns_r64_rm64, Code.Cmovp_r64_rm64, Code.Cmovnp_r64_rm64,
            Code.Cmovl_r64_rm64, Code.Cmovge_r64_rm64, Code.Cmovle_r64_rm64, Code.Cmovg_r64_rm64);
        t.Register(IncR32,
            Code.Inc_rm32, Code.Inc_r32);
        t.Memory(IncM32,
            Code.Inc_rm32);
        t.Register(DecR32,
            Code.Dec_rm32, Code.Dec_r32);
        t.Memory(DecM32,
            Code.Dec_rm32);
        t.Register(NegR32,
            Code.Neg_rm32);
        t.Register(NotR32,
            Code.Not_rm32);
        t.Register(ShlRI32,
            Code.Shl_rm32_imm8, Code.Shl_rm32_1, Code.Sal_rm32_imm8, Code.Sal_rm32_1);
        t.Register(ShrRI32,
            Code.Shr_rm32_imm8, Code.Shr_rm32_1);
        t.Register(SarRI32,
            Code.Sar_rm32_imm8, Code.Sar_rm32_1);
        t.Register(RolRI32,
            Code.Rol_rm32_imm8, Code.Rol_rm32_1);
        t.Register(RorRI32,
            Code.Ror_rm32_imm8, Code.Ror_rm32_1);
        t.Register(ShlRC32,
            Code.Shl_rm32_CL, Code.Sal_rm32_CL);
        t.Register(ShrRC32,
            Code.Shr_rm32_CL);
        t.Register(SarRC32,
            Code.Sar_rm32_CL);
        t.Register(ImulRR32,
            Code.Imul_r32_rm32);
        t.Memory(ImulRM32,
            Code.Imul_r32_rm32);
        t.Register(ImulRI32,
            Code.Imul_r32_rm32_imm8, Code.Imul_r32_rm32_imm32);
        t.Register(XchgRR32,
            Code.Xchg_rm32_r32, Code.Xchg_r32_EAX);
        t.Register(BtRI32,
            Code.Bt_rm32_imm8);
        t.Register(BtRR32,
            Code.Bt_rm32_r32);
        t.Register(CmovRR32,
            Code.Cmovo_r32_rm32, Code.Cmovno_r32_rm32, Code.Cmovb_r32_rm32, Code.Cmovae_r32_rm32, Code.Cmove_r32_rm32, Code.Cmovne_r32_rm32,
            Code.Cmovbe_r32_rm32, Code.Cmova_r32_rm32, Code.Cmovs_r32_rm32, Code.Cmovns_r32_rm32, Code.Cmovp_r32_rm32, Code.Cmovnp_r32_rm32,
            Code.Cmovl_r32_rm32, Code.Cmovge_r32_rm32, Code.Cmovle_r32_rm32, Code.Cmovg_r32_rm32);
        t.Memory(CmovRM32,
            Code.Cmovo_r32_rm32, Code.Cmovno_r32_rm32, Code.Cmovb_r32_rm32, Code.Cmovae_r32_rm32, Code.Cmove_r32_rm32, Code.Cmovne_r32_rm32,
            Code.Cmovbe_r32_rm32, Code.Cmova_r32_rm32, Code.Cmovs_r32_rm32, Code.Cmovns_r32_rm32, Code.Cmovp_r32_rm32, Code.Cmovnp_r32_rm32,
            Code.Cmovl_r32_rm32, Code.Cmovge_r32_rm32, Code.Cmovle_r32_rm32, Code.Cmovg_r32_rm32);
        t.Register(SetccR,
            Code.Seto_rm8, Code.Setno_rm8, Code.Setb_rm8, Code.Setae_rm8, Code.Sete_rm8, Code.Setne_rm8, Code.Setbe_rm8, Code.Seta_rm8,
            Code.Sets_rm8, Code.Setns_rm8, Code.Setp_rm8, Code.Setnp_rm8, Code.Setl_rm8, Code.Setge_rm8, Code.Setle_rm8, Code.Setg_rm8);
        t.Register(BswapR32,
            Code.Bswap_r32);
        t.Register(BswapR64,
            Code.Bswap_r64);
        t.Register(Cdqe,
            Code.Cdqe);
        t.Register(Cqo,
            Code.Cqo);
        t.Register(Cdq,
            Code.Cdq);
        t.Register(Nop,
            Code.Nopd, Code.Nopw, Code.Nopq, Code.Nop_rm16, Code.Nop_rm32, Code.Nop_rm64, Code.Endbr64, Code.Endbr32);
        t.Memory(Nop,
            Code.Nop_rm16, Code.Nop_rm32, Code.Nop_rm64, Code.Prefetchnta_m8, Code.Prefetcht0_m8, Code.Prefetcht1_m8, Code.Prefetcht2_m8,
            Code.Prefetch_m8, Code.Prefetchw_m8);
        t.Register(PushR,
            Code.Push_r64);
        t.Register(PushI,
            Code.Pushq_imm8, Code.Pushq_imm32);
        t.Register(PopR,
            Code.Pop_r64);
        t.Register(Leave,
            Code.Leaveq);
        t.Register(CallRel,
            Code.Call_rel32_64);
        t.Register(CallR,
            Code.Call_rm64);
        t.Memory(CallM,
            Code.Call_rm64);
        t.Register(JmpRel,
            Code.Jmp_rel8_64, Code.Jmp_rel32_64, Code.Jmp_rel8_32, Code.Jmp_rel32_32);
        t.Register(JmpR,
            Code.Jmp_rm64);
        t.Memory(JmpM,
            Code.Jmp_rm64);
        t.Register(Ret,
            Code.Retnq);
        t.Register(RetI,
            Code.Retnq_imm16);
        t.Register(Jo,
            Code.Jo_rel8_64, Code.Jo_rel32_64, Code.Jo_rel8_32, Code.Jo_rel32_32);
        t.Register(Jno,
            Code.Jno_rel8_64, Code.Jno_rel32_64, Code.Jno_rel8_32, Code.Jno_rel32_32);
        t.Register(Jb,
            Code.Jb_rel8_64, Code.Jb_rel32_64, Code.Jb_rel8_32, Code.Jb_rel32_32);
        t.Register(Jae,
            Code.Jae_rel8_64, Code.Jae_rel32_64, Code.Jae_rel8_32, Code.Jae_rel32_32);
        t.Register(Je,
            Code.Je_rel8_64, Code.Je_rel32_64, Code.Je_rel8_32, Code.Je_rel32_32);
        t.Register(Jne,
            Code.Jne_rel8_64, Code.Jne_rel32_64, Code.Jne_rel8_32, Code.Jne_rel32_32);
        t.Register(Jbe,
            Code.Jbe_rel8_64, Code.Jbe_rel32_64, Code.Jbe_rel8_32, Code.Jbe_rel32_32);
        t.Register(Ja,
            Code.Ja_rel8_64, Code.Ja_rel32_64, Code.Ja_rel8_32, Code.Ja_rel32_32);
        t.Register(Js,
            Code.Js_rel8_64, Code.Js_rel32_64, Code.Js_rel8_32, Code.Js_rel32_32);
        t.Register(Jns,
            Code.Jns_rel8_64, Code.Jns_rel32_64, Code.Jns_rel8_32, Code.Jns_rel32_32);
        t.Register(Jp,
            Code.Jp_rel8_64, Code.Jp_rel32_64, Code.Jp_rel8_32, Code.Jp_rel32_32);
        t.Register(Jnp,
            Code.Jnp_rel8_64, Code.Jnp_rel32_64, Code.Jnp_rel8_32, Code.Jnp_rel32_32);
        t.Register(Jl,
            Code.Jl_rel8_64, Code.Jl_rel32_64, Code.Jl_rel8_32, Code.Jl_rel32_32);
        t.Register(Jge,
            Code.Jge_rel8_64, Code.Jge_rel32_64, Code.Jge_rel8_32, Code.Jge_rel32_32);
        t.Register(Jle,
            Code.Jle_rel8_64, Code.Jle_rel32_64, Code.Jle_rel8_32, Code.Jle_rel32_32);
        t.Register(Jg,
            Code.Jg_rel8_64, Code.Jg_rel32_64, Code.Jg_rel8_32, Code.Jg_rel32_32);
    }
}
