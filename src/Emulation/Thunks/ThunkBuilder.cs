using System.Runtime.InteropServices;
using Iced.Intel;
using VirtPS.Sdk.Cpu;

namespace VirtPS.Emulation.Thunks;

/// <summary>
/// Writes the host code that executes one guest instruction on the silicon. Operands are normalised (operand i of the instruction is xmm1+i, mm0+i, k1+i, r8 or r9;
/// memory is [r10], what it is masked with k7), so that one thunk serves every choice of registers. Only registers that both calling conventions let a leaf change are used.
/// </summary>
internal sealed unsafe class ThunkBuilder
{
    private const Register Frame = Register.R11, Pointer = Register.R10;
    private const int HighHalf = VcpuState.YmmHighOffset - VectorFile.Xmm;
    private static readonly bool s_windows = OperatingSystem.IsWindows();
    private readonly ByteWriter _bytes = new();
    private readonly Encoder _encoder;

    public ThunkBuilder() => _encoder = Encoder.Create(64, _bytes);

    /// <summary>
    /// The instruction with normalised operands; the register numbers that were there go to <paramref name="registers"/>: five bits for each of four operands, then the mask register.
    /// </summary>
    public static Instruction Normalize(in Instruction instruction, out uint registers)
    {
        Instruction n = instruction;
        n.CodeSize = CodeSize.Code64;
        registers = 0;
        int gprs = 0;
        for (int i = 0; i < n.OpCount; i++)
        {
            OpKind kind = n.GetOpKind(i);
            if (kind == OpKind.Memory)
            {
                PointAtScratch(ref n);
            }
            else if (kind == OpKind.Register)
            {
                Register r = n.GetOpRegister(i);
                registers |= (uint)(r.GetNumber() & 0x1F) << (5 * i);
                n.SetOpRegister(i, Substitute(r, i, ref gprs));
            }
        }

        if (n.OpMask != Register.None)
        {
            registers |= (uint)n.OpMask.GetNumber() << 20;
            n.OpMask = Register.K7;
        }

        if (WritesTwoMasks(n.Mnemonic))
            n.Op0Register = Register.K2;

        return n;
    }

    private static Register Substitute(Register r, int operand, ref int gprs)
    {
        if (r.IsXMM())
            return Register.XMM1 + operand;
        if (r.IsYMM())
            return Register.YMM1 + operand;
        if (r.IsZMM())
            return Register.ZMM1 + operand;
        if (r.IsK())
            return Register.K1 + operand;
        if (r.IsMM())
            return Register.MM0 + operand;
        if (r.IsGPR32())
            return Register.R8D + gprs++;
        if (r.IsGPR64())
            return Register.R8 + gprs++;
        return r;
    }

    public static bool WritesTwoMasks(Mnemonic m) => m is Mnemonic.Vp2intersectd or Mnemonic.Vp2intersectq;

    private static void PointAtScratch(ref Instruction n)
    {
        n.MemoryBase = Pointer;
        n.MemoryIndex = Register.None;
        n.MemoryIndexScale = 1;
        n.MemoryDisplacement64 = 0;
        n.MemoryDisplSize = 0;
        n.SegmentPrefix = Register.None;
    }

    /// <summary>Encodes one instruction; empty when Iced cannot (not valid in 64-bit mode).</summary>
    public ReadOnlySpan<byte> Encode(in Instruction instruction)
    {
        _bytes.Clear();
        return _encoder.TryEncode(instruction, 0, out _, out _) ? _bytes.Written : default;
    }

    /// <summary>The thunk for a normalised SSE, AVX or MMX instruction.</summary>
    public ReadOnlySpan<byte> BuildVector(in Instruction n, in ThunkInfo info)
    {
        _bytes.Clear();
        Prologue();
        bool wide = info.Class == VectorClass.Avx512, vex = info.Class == VectorClass.Avx || wide;
        if (info.Has(ThunkFlags.Mxcsr))
            Emit(Instruction.Create(Code.Ldmxcsr_m32, Field(ThunkFrame.MxcsrInOffset)));
        for (int i = 0; i < info.OperandCount; i++)
        {
            if (IsWide(info, i))
                LoadWide(n.GetOpRegister(i), i);
            else
                LoadOperand(n, i, (OperandKind)info.Kind[i], vex);
        }

        if (n.OpMask != Register.None)
            Emit(Instruction.Create(Code.VEX_Kmovq_kr_km64, n.OpMask, Field(ThunkFrame.MaskOffset + 8 * ThunkFrame.WriteMask)));
        LoadImplicit(n.Mnemonic, vex);
        if (info.MemoryIndex != 0xFF)
            LoadPointer(Register.R10, ThunkFrame.OperandOffset + 8 * info.MemoryIndex);
        Emit(n);
        if (info.Has(ThunkFlags.WritesFlags))
            SaveFlags();
        StoreImplicit(n.Mnemonic, vex);
        for (int i = 0; i < info.OperandCount; i++)
        {
            if ((info.Written >> i & 1) == 0)
                continue;
            if (IsWide(info, i))
                StoreWide(n.GetOpRegister(i), i);
            else
                StoreOperand(n, i, (OperandKind)info.Kind[i], vex);
        }

        if (WritesTwoMasks(n.Mnemonic))
            Emit(Instruction.Create(Code.VEX_Kmovq_m64_kr, Field(ThunkFrame.SecondMaskOffset), Register.K3));
        if (info.Has(ThunkFlags.Mxcsr))
        {
            Emit(Instruction.Create(Code.Stmxcsr_m32, Field(ThunkFrame.MxcsrOutOffset)));
            Emit(Instruction.Create(Code.Ldmxcsr_m32, Field(ThunkFrame.MxcsrHostOffset)));
        }

        if (vex)
            Emit(Instruction.Create(Code.VEX_Vzeroupper));
        if (info.Class is VectorClass.Mmx or VectorClass.SseMmx)
            Emit(Instruction.Create(Code.Emms));
        Emit(Instruction.Create(Code.Retnq));
        return _bytes.Written;
    }

    /// <summary>
    /// The thunk for an x87 instruction: whole x87 state in, instruction, state out. Exceptions the guest has unmasked stay pending in the saved status word
    /// and never reach the host: only a waiting x87 instruction would raise them, and none follows before FNINIT.
    /// </summary>
    public ReadOnlySpan<byte> BuildX87(in Instruction n, bool xsave)
    {
        _bytes.Clear();
        Prologue();
        MemoryOperand image = Field(ThunkFrame.X87Offset);
        if (xsave)
        {
            Emit(Instruction.Create(Code.Mov_r32_imm32, Register.EAX, 1));
            Emit(Instruction.Create(Code.Xor_rm32_r32, Register.EDX, Register.EDX));
        }

        Emit(Instruction.Create(xsave ? Code.Xrstor64_mem : Code.Fxrstor64_m512byte, image));
        Emit(Instruction.Create(Code.Lea_r64_m, Pointer, Field(ThunkFrame.ScratchOffset)));
        Emit(Instruction.Create(Code.Push_rm64, Field(ThunkFrame.FlagsOffset)));
        Emit(Instruction.Create(Code.Popfq));
        Emit(n);
        SaveFlags();
        Emit(Instruction.Create(xsave ? Code.Xsave64_mem : Code.Fxsave64_m512byte, image));
        Emit(Instruction.Create(Code.Fninit));
        Emit(Instruction.Create(Code.Retnq));
        return _bytes.Written;
    }

    private static bool IsWide(in ThunkInfo info, int i) => (OperandKind)info.Kind[i] is OperandKind.Wide or OperandKind.Mask;

    // The whole register, however narrow the instruction: what it zeroes above its result is in the silicon's answer.
    private void LoadWide(Register r, int i)
    {
        if (r.IsK())
            Emit(Instruction.Create(Code.VEX_Kmovq_kr_km64, r, Field(ThunkFrame.MaskOffset + 8 * i)));
        else
            Emit(Instruction.Create(Code.EVEX_Vmovups_zmm_k1z_zmmm512, Register.ZMM0 + r.GetNumber(), Field(ThunkFrame.WideOffset + 64 * i)));
    }

    private void StoreWide(Register r, int i)
    {
        if (r.IsK())
            Emit(Instruction.Create(Code.VEX_Kmovq_m64_kr, Field(ThunkFrame.MaskOffset + 8 * i), r));
        else
            Emit(Instruction.Create(Code.EVEX_Vmovups_zmmm512_k1z_zmm, Field(ThunkFrame.WideOffset + 64 * i), Register.ZMM0 + r.GetNumber()));
    }

    private void Prologue() => Emit(Instruction.Create(Code.Mov_r64_rm64, Frame, s_windows ? Register.RCX : Register.RDI));

    private static MemoryOperand Field(int offset) => new(Frame, offset, offset == 0 ? 0 : offset < 128 ? 1 : 8);

    private static MemoryOperand At(int offset) => new(Pointer, offset, offset == 0 ? 0 : offset < 128 ? 1 : 8);

    private void LoadPointer(Register r, int field) => Emit(Instruction.Create(Code.Mov_r64_rm64, r, Field(field)));

    private void SaveFlags()
    {
        Emit(Instruction.Create(Code.Pushfq));
        Emit(Instruction.Create(Code.Pop_rm64, Field(ThunkFrame.FlagsOffset)));
    }

    private void LoadOperand(in Instruction n, int i, OperandKind kind, bool vex)
    {
        if (kind is OperandKind.Memory or OperandKind.Immediate or OperandKind.None)
            return;
        LoadPointer(Pointer, ThunkFrame.OperandOffset + 8 * i);
        Register r = n.GetOpRegister(i);
        switch (kind)
        {
            case OperandKind.Xmm:
                Emit(Instruction.Create(vex ? Code.VEX_Vmovups_xmm_xmmm128 : Code.Movups_xmm_xmmm128, r, At(0)));
                break;
            case OperandKind.Ymm:
                Emit(Instruction.Create(Code.VEX_Vmovups_xmm_xmmm128, Register.XMM0 + r.GetNumber(), At(0)));
                Emit(Instruction.Create(Code.VEX_Vinsertf128_ymm_ymm_xmmm128_imm8, r, r, At(HighHalf), 1));
                break;
            case OperandKind.Mmx:
                Emit(Instruction.Create(Code.Movq_mm_mmm64, r, At(0)));
                break;
            case OperandKind.Gpr:
                Emit(Instruction.Create(Code.Mov_r64_rm64, r.GetFullRegister(), At(0)));
                break;
        }
    }

    // A VEX instruction zeroes what lies above its destination, so its whole 32 bytes are written back (SDM Vol. 2A §2.3.10.1).
    private void StoreOperand(in Instruction n, int i, OperandKind kind, bool vex)
    {
        if (kind == OperandKind.Memory)
            return;
        LoadPointer(Pointer, ThunkFrame.OperandOffset + 8 * i);
        Register r = n.GetOpRegister(i);
        switch (kind)
        {
            case OperandKind.Mmx:
                Emit(Instruction.Create(Code.Movq_mmm64_mm, At(0), r));
                break;
            case OperandKind.Gpr:
                Emit(Instruction.Create(Code.Mov_rm64_r64, At(0), r.GetFullRegister()));
                break;
            default:
                StoreVector(r.GetNumber(), vex);
                break;
        }
    }

    private void StoreVector(int number, bool vex)
    {
        Emit(Instruction.Create(vex ? Code.VEX_Vmovups_xmmm128_xmm : Code.Movups_xmmm128_xmm, At(0), Register.XMM0 + number));
        if (vex)
            Emit(Instruction.Create(Code.VEX_Vextractf128_xmmm128_ymm_imm8, At(HighHalf), Register.YMM0 + number, 1));
    }

    private void LoadImplicit(Mnemonic m, bool vex)
    {
        if (ThunkFacts.IsExplicitLengthCompare(m))
        {
            LoadPointer(Pointer, ThunkFrame.GprsOffset);
            Emit(Instruction.Create(Code.Mov_r64_rm64, Register.RAX, At(0)));
            Emit(Instruction.Create(Code.Mov_r64_rm64, Register.RDX, At(16)));
        }
        else if (m is Mnemonic.Blendvps or Mnemonic.Blendvpd or Mnemonic.Pblendvb or Mnemonic.Sha256rnds2)
        {
            LoadPointer(Pointer, ThunkFrame.Xmm0Offset);
            Emit(Instruction.Create(vex ? Code.VEX_Vmovups_xmm_xmmm128 : Code.Movups_xmm_xmmm128, Register.XMM0, At(0)));
        }
    }

    private void StoreImplicit(Mnemonic m, bool vex)
    {
        if (ThunkFacts.ReturnsIndex(m))
        {
            LoadPointer(Pointer, ThunkFrame.GprsOffset);
            Emit(Instruction.Create(Code.Mov_rm64_r64, At(8), Register.RCX));
        }
        else if (ThunkFacts.ReturnsMask(m))
        {
            LoadPointer(Pointer, ThunkFrame.Xmm0Offset);
            StoreVector(0, vex);
        }
    }

    private void Emit(in Instruction instruction) => _encoder.Encode(instruction, 0);

    private sealed class ByteWriter : CodeWriter
    {
        private byte[] _buffer = new byte[512];
        private int _length;

        public ReadOnlySpan<byte> Written => _buffer.AsSpan(0, _length);

        public void Clear() => _length = 0;

        public override void WriteByte(byte value)
        {
            if (_length == _buffer.Length)
                Array.Resize(ref _buffer, _length * 2);
            _buffer[_length++] = value;
        }
    }
}
