using Iced.Intel;
using VirtPS.Sdk.Cpu;
using VirtPS.X86;

namespace VirtPS.Emulation;

/// <summary>Turns instruction bytes into <see cref="Op"/>s. One per vCPU; not thread-safe.</summary>
internal sealed unsafe class OpDecoder
{
    private sealed class Reader : CodeReader
    {
        public byte* Next, End;

        public override int ReadByte() => Next < End ? *Next++ : -1;
    }

    private readonly Reader _reader = new();
    private readonly Decoder _decoder16, _decoder32, _decoder64;
    private readonly ushort _zeroOffset = NativeCpu.ZeroOffset;

    public OpDecoder()
    {
        _decoder16 = Decoder.Create(16, _reader);
        _decoder32 = Decoder.Create(32, _reader);
        _decoder64 = Decoder.Create(64, _reader);
    }

    /// <summary>SYSCALL is a call into a supervisor that mostly comes back to the next instruction: it does not end its block.</summary>
    public bool SyscallReturns { get; set; }

    /// <summary>
    /// Decodes the instruction at <paramref name="bytes"/>, which lies <paramref name="offset"/> bytes behind the start of its block. Returns its
    /// length; 0 when it needs more than <paramref name="available"/> bytes. Undefined encodings give an op that raises #UD.
    /// </summary>
    public int Decode(byte* bytes, int available, int offset, uint mode, Op* op)
    {
        uint bits = mode & CodeMode.SizeMask;
        Decoder decoder = bits == CodeMode.Bits64 ? _decoder64 : bits == CodeMode.Bits32 ? _decoder32 : _decoder16;
        int limit = Math.Min(available, 15);
        _reader.Next = bytes;
        _reader.End = bytes + limit;
        decoder.IP = (ulong)offset;
        decoder.Decode(out Instruction instruction);
        if (decoder.LastError == DecoderError.NoMoreBytes)
        {
            if (available < 15)
                return 0;
            // Longer than 15 bytes: #GP(0) (SDM Vol. 2A §2.3.11).
            *op = default;
            Clear(op);
            op->Length = 15;
            op->Slow = &TooLong;
            op->Flags = OpFlags.EndsBlock;
            return 15;
        }

        *op = default;
        Clear(op);
        op->Offset = (short)offset;
        op->Length = (byte)instruction.Length;
        op->Code = instruction.Code;
        op->Slow = HandlerTable.Get(instruction.Code);
        if (instruction.IsInvalid)
        {
            op->Length = (byte)Math.Max(1, instruction.Length);
            op->Flags |= OpFlags.EndsBlock;
            return op->Length;
        }

        ReadPrefixes(op, bytes, instruction, bits);
        ReadOperands(op, instruction, bits);
        if (instruction.FlowControl is not (FlowControl.Next or FlowControl.ConditionalBranch) && !(SyscallReturns && instruction.Code == Code.Syscall))
            op->Flags |= OpFlags.EndsBlock;
        if (op->IsMemory && IsFlat(op, mode))
            op->Flags |= OpFlags.Flat;
        else if (op->IsMemory && op->AddrSize == 4 && ((op->Seg == SegmentName.FS && (mode & CodeMode.WideFs) != 0) || (op->Seg == SegmentName.GS && (mode & CodeMode.WideGs) != 0)))
            op->Flags |= OpFlags.WideSegment;
        int condition = HotForms.ConditionOf(instruction.Mnemonic);
        if (condition >= 0)
            op->Reg3 = (byte)condition;
        op->Handler = HotForms.Select(op, mode);
        return op->Length;
    }

    private static bool TooLong(SoftVcpu cpu, Op* op) => cpu.Raise(Vector.GP, 0);

    private void Clear(Op* op)
    {
        op->Base = op->Index = 0xFF;
        op->BaseOff = op->IndexOff = op->SegOff = _zeroOffset;
        op->Seg = SegmentName.DS;
        op->AddrMask = ulong.MaxValue;
    }

    private static void ReadPrefixes(Op* op, byte* bytes, in Instruction i, uint bits)
    {
        bool addressPrefix = false;
        int p = 0;
        for (; p < i.Length; p++)
        {
            byte b = bytes[p];
            if (b == 0x67)
                addressPrefix = true;
            else if (b == 0xF3)
                op->Flags = op->Flags & ~OpFlags.Repne | OpFlags.Rep;
            else if (b == 0xF2)
                op->Flags = op->Flags & ~OpFlags.Rep | OpFlags.Repne;
            else if (b is not (0x66 or 0xF0 or 0x26 or 0x2E or 0x36 or 0x3E or 0x64 or 0x65))
                break;
        }

        if (bits == CodeMode.Bits64)
        {
            op->Flags |= OpFlags.Code64;
            if (p < i.Length && (bytes[p] & 0xF8) == 0x48)
                op->Flags |= OpFlags.RexW;
        }

        if (i.HasLockPrefix)
            op->Flags |= OpFlags.Lock;
        if (i.Code.Encoding() == EncodingKind.VEX)
        {
            op->Flags |= OpFlags.Vex;
            bool three = bytes[p] == 0xC4;
            if ((bytes[p + (three ? 2 : 1)] & 4) != 0)
                op->Flags |= OpFlags.Vex256;
            if (three && (bytes[p + 2] & 0x80) != 0)
                op->Flags |= OpFlags.RexW;
        }

        op->AddrSize = (byte)(bits switch
        {
            CodeMode.Bits64 => addressPrefix ? 4 : 8,
            CodeMode.Bits32 => addressPrefix ? 2 : 4,
            _ => addressPrefix ? 4 : 2,
        });
        op->AddrMask = op->AddrSize == 8 ? ulong.MaxValue : op->AddrSize == 4 ? 0xFFFF_FFFF : 0xFFFF;
    }

    private void ReadOperands(Op* op, in Instruction i, uint bits)
    {
        op->OpSize = (byte)OperandLayout.Size(i.Code);
        bool accumulator = false, rmUsed = false;
        for (int n = 0; n < i.OpCount; n++)
        {
            OpKind kind = i.GetOpKind(n);
            switch (kind)
            {
                case OpKind.Register:
                    OperandSlot slot = OperandLayout.Slot(i.Code, n);
                    byte number = Number(i.GetOpRegister(n));
                    if (slot == OperandSlot.Reg)
                    {
                        op->Reg = number;
                        op->RegOff = RegisterOffset(number);
                        if (n == 0)
                            op->Flags |= OpFlags.ToReg;
                    }
                    else if (slot == OperandSlot.Rm)
                    {
                        op->Rm = number;
                        op->RmOff = RegisterOffset(number);
                        rmUsed = true;
                    }
                    else if (slot == OperandSlot.Vvvv)
                        op->Reg3 = number;
                    else if (slot == OperandSlot.Accumulator)
                    {
                        accumulator = true;
                        if (n == 0)
                            op->Flags |= OpFlags.ToReg;
                    }

                    break;
                case OpKind.Memory:
                    ReadMemory(op, i, bits);
                    rmUsed = true;
                    break;
                case OpKind.NearBranch16 or OpKind.NearBranch32 or OpKind.NearBranch64:
                    op->Imm = i.NearBranchTarget;
                    break;
                case OpKind.FarBranch16:
                    op->Imm = i.FarBranch16 | (ulong)i.FarBranchSelector << 32;
                    break;
                case OpKind.FarBranch32:
                    op->Imm = i.FarBranch32 | (ulong)i.FarBranchSelector << 32;
                    break;
                case OpKind.Immediate8_2nd:
                    op->Imm |= (ulong)i.Immediate8_2nd << 32;
                    break;
                case >= OpKind.MemorySegSI and <= OpKind.MemorySegRDI:
                    SetSegment(op, i, bits, stackBased: false);
                    break;
                case >= OpKind.MemoryESDI and <= OpKind.MemoryESRDI:
                    break;
                default:
                    ReadImmediate(op, i, n, kind);
                    break;
            }
        }

        // AL, AX, EAX, RAX stand in for an r/m operand where there is none (ADD AL, imm8), else for the register (MOV AL, moffs).
        if (accumulator && !rmUsed)
            op->Flags &= ~OpFlags.ToReg;
        if (op->OpSize == 0 && op->IsMemory)
            op->OpSize = (byte)Math.Min(i.MemorySize.GetSize(), 255);
    }

    private static void ReadImmediate(Op* op, in Instruction i, int n, OpKind kind)
    {
        op->Flags |= OpFlags.Immediate;
        ulong v = i.GetImmediate(n);
        op->Imm = kind switch
        {
            OpKind.Immediate8 when op->OpSize == 1 => (ulong)(sbyte)v,
            OpKind.Immediate16 when op->OpSize == 2 => (ulong)(short)v,
            OpKind.Immediate32 when op->OpSize == 4 => (ulong)(int)v,
            OpKind.Immediate8to16 => (ulong)(short)v,
            OpKind.Immediate8to32 => (ulong)(int)v,
            _ => v,
        };
    }

    private void ReadMemory(Op* op, in Instruction i, uint bits)
    {
        op->Flags |= OpFlags.Memory;
        Register b = i.MemoryBase, x = i.MemoryIndex;
        op->Disp = (long)i.MemoryDisplacement64;
        if (b is Register.RIP or Register.EIP)
        {
            op->Flags |= OpFlags.RipRelative;
            op->BaseOff = RipOffset;
            if (b == Register.EIP)
                op->Disp = (int)op->Disp;
        }
        else if (b != Register.None)
        {
            op->Base = Number(b);
            op->BaseOff = RegisterOffset(op->Base);
        }

        if (x.IsVectorRegister())
        {
            op->Index = Number(x);
            op->Flags |= OpFlags.Vsib;
        }
        else if (x != Register.None)
        {
            op->Index = Number(x);
            op->IndexOff = RegisterOffset(op->Index);
        }

        op->Scale = (byte)System.Numerics.BitOperations.TrailingZeroCount(i.MemoryIndexScale);
        SetSegment(op, i, bits, b is Register.RSP or Register.ESP or Register.RBP or Register.EBP or Register.BP);
    }

    private static void SetSegment(Op* op, in Instruction i, uint bits, bool stackBased)
    {
        SegmentName seg = (SegmentName)(i.MemorySegment - Register.ES);
        // In 64-bit mode only the FS and GS prefixes count.
        if (bits == CodeMode.Bits64 && seg < SegmentName.FS)
            seg = stackBased ? SegmentName.SS : SegmentName.DS;
        op->Seg = seg;
        if (bits == CodeMode.Bits64 && seg >= SegmentName.FS)
            op->SegOff = (ushort)(NativeCpu.SegmentBaseOffset + (int)seg * sizeof(SegmentRegister));
    }

    private static bool IsFlat(Op* op, uint mode) =>
        (mode & CodeMode.SizeMask) == CodeMode.Bits64
        || ((mode & CodeMode.Flat) != 0 && op->AddrSize == 4 && op->Seg is SegmentName.DS or SegmentName.ES or SegmentName.SS);

    /// <summary>Register number as encoded; AH–BH are 16–19.</summary>
    private static byte Number(Register r)
    {
        if (r is >= Register.AL and <= Register.R15L)
        {
            int n = r - Register.AL;
            return (byte)(n < 4 ? n : n < 8 ? n + 12 : n - 4);
        }

        if (r is >= Register.ES and <= Register.GS)
            return (byte)(r - Register.ES);
        return (byte)r.GetNumber();
    }

    /// <summary>Offset of RIP from the state: it follows the general registers.</summary>
    internal const ushort RipOffset = 16 * 8;

    internal static ushort RegisterOffset(byte number) => (ushort)(number >= 16 ? (number - 16) * 8 + 1 : number * 8);
}
