using Iced.Intel;

namespace VirtPS.Emulation;

/// <summary>
/// A loop whose rounds do nothing but count and compare: each register that it changes moves by a constant a round, or is set to the same value in each. How many rounds go by before any of its
/// branches can go another way follows from the registers, so that nobody has to make them (<see cref="BlockTranslator"/>'s Counting). Read from the ops of one round; allocated once per translator.
/// </summary>
internal sealed unsafe class CountingLoop
{
    private const int Registers = 16;

    /// <summary>A value in a round: what is in a register when the round begins (none: -1), and so much more. <see cref="Bytes"/>: 4, the upper half is zero, or 8.</summary>
    public struct Value
    {
        public int Register;
        public long Offset;
        public byte Bytes;
    }

    /// <summary>The round goes on while the moving value compares so with the fixed one: x86's condition of CMP moving, fixed, of <see cref="Bytes"/>.</summary>
    public struct Exit
    {
        public Value Moving, Fixed;
        public int Condition, Stride;
        public byte Bytes;
    }

    /// <summary>The most branches that count.</summary>
    public const int MostExits = 6;

    private readonly Exit[] _exits = new Exit[MostExits];
    private readonly int[] _strides = new int[Registers];
    private readonly byte[] _bytes = new byte[Registers];
    private readonly Value[] _values = new Value[Registers];
    private Value _left, _right;
    private byte _comparedBytes;

    /// <summary>Registers that move, and that are set in each round, a bit each.</summary>
    private uint _moving, _set, _isSet;
    private int _exitCount;

    /// <summary>What is known of the flags.</summary>
    private enum Flags : byte
    {
        Nothing,

        /// <summary>They are those of a comparison.</summary>
        Compared,

        /// <summary>They are those of a result; it is compared with zero, of which only equality is taken.</summary>
        Result,
    }

    private Flags _flags;

    /// <summary>The round has touched flags; whoever did so last has set all of them.</summary>
    private bool _hasFlags, _setsAll;

    public ReadOnlySpan<Exit> Exits => _exits.AsSpan(0, _exitCount);

    public int StrideOf(int register) => (_moving >> register & 1) != 0 ? _strides[register] : 0;

    public int BytesOf(int register) => _bytes[register];

    /// <summary>
    /// Whether the round is one: <paramref name="count"/> ops in the order of execution, the last of them the conditional branch back. So are rounds only whose first and last instruction that touch flags set
    /// all of them: then they can be made again between two rounds.
    /// </summary>
    public bool TryRead(Op* ops, int count)
    {
        (_moving, _set, _isSet, _exitCount) = (0, 0, 0, 0);
        (_flags, _hasFlags) = (Flags.Nothing, false);
        Array.Clear(_strides);
        if (!FindMoves(ops, count))
            return false;
        for (int r = 0; r < Registers; r++)
            _values[r] = new Value { Register = r, Bytes = (_moving >> r & 1) != 0 ? _bytes[r] : (byte)8 };
        for (int i = 0; i < count; i++)
        {
            Op* op = ops + i;
            if (op->Handler is HotForms.JmpRel or HotForms.Nop)
                continue;
            bool branch = op->Handler is >= HotForms.Jo and <= HotForms.Jg;
            if (branch ? !AddExit(Continues(op, i == count - 1)) : !Follow(op))
                return false;
        }

        return _exitCount > 0 && _setsAll;
    }

    /// <summary>The condition under which a branch goes on in the round.</summary>
    private static int Continues(Op* op, bool last)
    {
        int condition = op->Handler - HotForms.Jo;
        bool followed = last || op[1].Offset != op->Offset + op->Length;
        return followed ? condition : condition ^ 1;
    }

    private bool FindMoves(Op* ops, int count)
    {
        for (int i = 0; i < count; i++)
        {
            Op* op = ops + i;
            if (RegisterMove.Read(op, out int register, out byte bytes) is not 0 and int by)
            {
                uint bit = 1u << register;
                if ((_moving & bit) != 0 && _bytes[register] != bytes)
                    return false;
                if (Math.Abs((long)_strides[register] + by) > 1 << 20)
                    return false;
                _moving |= bit;
                _bytes[register] = bytes;
                _strides[register] += by;
            }
            else if (TryReadSet(op, out register, out _))
            {
                _set |= 1u << register;
            }
        }

        return (_moving & _set) == 0;
    }

    private static int First(Op* op) => op->Has(OpFlags.ToReg) ? op->Reg : op->Rm;

    private static int Second(Op* op) => op->Has(OpFlags.ToReg) ? op->Rm : op->Reg;

    /// <summary>XOR of a register with itself, MOV of a constant.</summary>
    private static bool TryReadSet(Op* op, out int register, out Value value)
    {
        register = op->Rm;
        value = new Value { Register = -1, Bytes = op->OpSize };
        if (op->IsMemory)
            return false;
        switch (op->Code)
        {
            case Code.Xor_rm32_r32 or Code.Xor_r32_rm32:
                value.Bytes = 8;
                return op->Reg == op->Rm;
            case Code.Mov_r32_imm32 or Code.Mov_rm32_imm32:
                value = value with { Offset = (uint)op->Imm, Bytes = 8 };
                return true;
            case Code.Mov_rm64_imm32:
                value.Offset = (long)op->Imm;
                return true;
            default:
                return false;
        }
    }

    private bool Follow(Op* op)
    {
        if (RegisterMove.Read(op, out int register, out byte bytes) is not 0 and int by)
        {
            _values[register].Offset += by;
            bool setsAll = op->Code is not (Code.Inc_rm32 or Code.Inc_rm64 or Code.Dec_rm32 or Code.Dec_rm64);
            return op->Code is Code.Lea_r64_m or Code.Lea_r32_m || Touch(setsAll, Flags.Result, _values[register], new Value { Register = -1, Bytes = 8 }, bytes);
        }

        if (TryReadSet(op, out register, out Value value))
        {
            _values[register] = value;
            _isSet |= 1u << register;
            return op->Code is not (Code.Xor_rm32_r32 or Code.Xor_r32_rm32) || Touch(true, Flags.Nothing, default, default, 0);
        }

        return TryReadComparison(op, out Value left, out Value right) && Touch(true, Flags.Compared, left, right, op->OpSize);
    }

    /// <summary>An instruction writes flags. False: it is the first in the round, and leaves some as they were.</summary>
    private bool Touch(bool setsAll, Flags known, in Value left, in Value right, byte bytes)
    {
        if (!_hasFlags && !setsAll)
            return false;
        (_hasFlags, _setsAll) = (true, setsAll);
        (_flags, _left, _right, _comparedBytes) = (known, left, right, bytes);
        return true;
    }

    private bool TryReadComparison(Op* op, out Value left, out Value right)
    {
        left = right = default;
        if (op->IsMemory)
            return false;
        switch (op->Code)
        {
            case Code.Cmp_rm32_r32 or Code.Cmp_rm64_r64 or Code.Cmp_r32_rm32 or Code.Cmp_r64_rm64:
                return TryReadRegister(First(op), out left) && TryReadRegister(Second(op), out right);
            case Code.Test_rm32_r32 or Code.Test_rm64_r64 when op->Reg == op->Rm:
                right = new Value { Register = -1, Bytes = 8 };
                return TryReadRegister(op->Rm, out left);
            case Code.Cmp_rm32_imm8 or Code.Cmp_rm64_imm8 or Code.Cmp_rm32_imm32 or Code.Cmp_rm64_imm32:
                right = new Value { Register = -1, Offset = (long)op->Imm, Bytes = 8 };
                return TryReadRegister(op->Rm, out left);
            case Code.Cmp_EAX_imm32 or Code.Cmp_RAX_imm32:
                right = new Value { Register = -1, Offset = (long)op->Imm, Bytes = 8 };
                return TryReadRegister(0, out left);
            default:
                return false;
        }
    }

    /// <summary>What is in a register now. False: what the round before has set.</summary>
    private bool TryReadRegister(int register, out Value value)
    {
        value = _values[register];
        return (_set >> register & 1) == 0 || (_isSet >> register & 1) != 0;
    }

    private bool Moves(in Value v) => v.Register >= 0 && (_moving >> v.Register & 1) != 0;

    /// <summary>A branch that goes on under a condition. One between values that do not move goes as it went in the round before.</summary>
    private bool AddExit(int condition)
    {
        if (_flags == Flags.Nothing || (_flags == Flags.Result && condition is not (4 or 5)))
            return false;
        (Value moving, Value other) = (_left, _right);
        if (!Moves(moving) && !Moves(other))
            return true;
        if (Moves(other))
        {
            (moving, other) = (other, moving);
            condition = Mirrored(condition);
        }

        // Wider than the register moves, it would not go round where the register does.
        if (Moves(other) || moving.Bytes < _comparedBytes || _exitCount == MostExits || condition is not (2 or 3 or 5 or 6 or 7 or >= 12))
            return false;
        int stride = _strides[moving.Register];
        if (stride == 0 || !int.IsPow2(Math.Abs(stride)) || moving.Offset != (int)moving.Offset || !IsImmediate(other))
            return false;
        _exits[_exitCount++] = new Exit { Moving = moving, Fixed = other, Condition = condition, Stride = stride, Bytes = _comparedBytes };
        return true;
    }

    /// <summary>A constant that an instruction can have in it. Of 32 bits only the lower ones matter.</summary>
    private bool IsImmediate(in Value v) => v.Register >= 0 ? v.Offset == 0 : _comparedBytes == 4 || v.Offset == (int)v.Offset;

    /// <summary>The condition after CMP with its operands the other way round; -1: there is none.</summary>
    private static int Mirrored(int condition) => condition switch
    {
        2 => 7, 7 => 2, 3 => 6, 6 => 3,
        4 or 5 => condition,
        12 => 15, 15 => 12, 13 => 14, 14 => 13,
        _ => -1,
    };
}
