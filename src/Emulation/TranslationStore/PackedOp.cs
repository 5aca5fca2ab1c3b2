using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using VirtPS.Sdk.Cpu;
using VirtPS.X86;

namespace VirtPS.Emulation;

/// <summary>
/// An <see cref="Op"/> of 64-bit code on disk, without what follows from the rest: 16 bytes, then immediate and displacement as short as they can be. Whoever writes one checks that it
/// reads as what it was made from.
/// </summary>
[StructLayout(LayoutKind.Sequential, Size = Bytes)]
internal unsafe struct PackedOp
{
    public const int Bytes = 16, MaxBytes = Bytes + 16;

    private ushort _handler, _code, _flags;
    private byte _length, _scaleAndSizes, _opSize, _addrSize, _reg, _rm, _reg3, _seg, _base, _index;

    /// <summary>Writes an op as the decoder left it; returns the bytes that it took.</summary>
    public static int Write(Op* op, byte* to)
    {
        byte* next = to + Bytes;
        int imm = WriteNumber((long)op->Imm, ref next), disp = WriteNumber(op->Disp, ref next);
        *(PackedOp*)to = new PackedOp
        {
            _handler = op->Handler, _code = (ushort)op->Code, _flags = (ushort)op->Flags, _length = op->Length, _scaleAndSizes = (byte)(op->Scale | imm << 2 | disp << 4),
            _opSize = op->OpSize, _addrSize = op->AddrSize, _reg = op->Reg, _rm = op->Rm, _reg3 = op->Reg3, _seg = (byte)op->Seg, _base = op->Base, _index = op->Index,
        };
        return (int)(next - to);
    }

    /// <summary>Reads an op that lies <paramref name="offset"/> bytes behind the start of its block; returns the bytes that it took.</summary>
    public static int Read(byte* from, int offset, Op* op)
    {
        PackedOp* p = (PackedOp*)from;
        byte* next = from + Bytes;
        *op = default;
        op->Handler = p->_handler;
        op->Code = (Iced.Intel.Code)p->_code;
        op->Slow = HandlerTable.Get(op->Code);
        op->Flags = (OpFlags)p->_flags;
        (op->Length, op->Scale, op->OpSize, op->AddrSize) = (p->_length, (byte)(p->_scaleAndSizes & 3), p->_opSize, p->_addrSize);
        (op->Reg, op->Rm, op->Reg3, op->Seg, op->Base, op->Index) = (p->_reg, p->_rm, p->_reg3, (SegmentName)p->_seg, p->_base, p->_index);
        op->Offset = (short)offset;
        op->Imm = (ulong)ReadNumber(p->_scaleAndSizes >> 2 & 3, ref next);
        op->Disp = ReadNumber(p->_scaleAndSizes >> 4 & 3, ref next);
        FindOffsets(op);
        return (int)(next - from);
    }

    private static void FindOffsets(Op* op)
    {
        ushort zero = NativeCpu.ZeroOffset;
        op->RegOff = OpDecoder.RegisterOffset(op->Reg);
        op->RmOff = OpDecoder.RegisterOffset(op->Rm);
        op->BaseOff = op->Has(OpFlags.RipRelative) ? OpDecoder.RipOffset : op->Base == 0xFF ? zero : OpDecoder.RegisterOffset(op->Base);
        op->IndexOff = op->Index == 0xFF || op->Has(OpFlags.Vsib) ? zero : OpDecoder.RegisterOffset(op->Index);
        op->SegOff = op->Seg >= SegmentName.FS ? (ushort)(NativeCpu.SegmentBaseOffset + (int)op->Seg * sizeof(SegmentRegister)) : zero;
        op->AddrMask = op->AddrSize == 4 ? 0xFFFF_FFFF : ulong.MaxValue;
    }

    private static int WriteNumber(long value, ref byte* next)
    {
        if (value == 0)
            return 0;
        int kind = value == (sbyte)value ? 1 : value == (int)value ? 2 : 3;
        int size = kind == 1 ? 1 : kind == 2 ? 4 : 8;
        Unsafe.CopyBlockUnaligned(next, &value, (uint)size);
        next += size;
        return kind;
    }

    private static long ReadNumber(int kind, ref byte* next)
    {
        byte* at = next;
        switch (kind)
        {
            case 0:
                return 0;
            case 1:
                next += 1;
                return *(sbyte*)at;
            case 2:
                next += 4;
                return Unsafe.ReadUnaligned<int>(at);
            default:
                next += 8;
                return Unsafe.ReadUnaligned<long>(at);
        }
    }
}
