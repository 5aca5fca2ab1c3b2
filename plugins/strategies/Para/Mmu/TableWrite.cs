using Iced.Intel;
using VirtPS.Sdk.Cpu;
using VirtPS.X86;

namespace VirtPS.Strategy.Para.Mmu;

/// <summary>
/// One instruction that a kernel uses on page-table entries in memory: stores, exchanges, compare-and-exchange, and the logical and bit instructions. Computes what it would leave in the
/// entry; registers and flags change only when the write has been allowed.
/// </summary>
internal sealed unsafe class TableWrite
{
    private const int MaxLength = 15;

    private readonly byte[] _code = new byte[MaxLength];
    private readonly ByteArrayCodeReader _reader;
    private readonly Decoder _decoder;
    private Instruction _instruction;
    private ulong _flags;
    private ulong? _result;
    private Register _resultRegister;

    public TableWrite()
    {
        _reader = new ByteArrayCodeReader(_code);
        _decoder = Decoder.Create(64, _reader);
    }

    /// <summary>
    /// <paramref name="offset"/>: of the access in the entry. False for an instruction, or a width, that page tables are not written with. <paramref name="compares"/>: nothing changed is nothing written.
    /// </summary>
    public bool TryDecode(XenVcpu vcpu, VcpuState* s, int offset, ulong entry, out ulong value, out bool compares)
    {
        value = entry;
        compares = false;
        fixed (byte* code = _code)
        {
            if (vcpu.FetchKernelCode(s, code) == 0)
                return false;
        }

        _reader.Position = 0;
        _decoder.IP = s->Rip;
        _decoder.Decode(out _instruction);
        int size = _instruction.IsInvalid || _instruction.Op0Kind != OpKind.Memory ? 0 : _instruction.MemorySize.GetSize();
        if (size is not (1 or 2 or 4 or 8) || offset + size > 8)
            return false;
        ulong mask = size == 8 ? ulong.MaxValue : (1ul << (size * 8)) - 1;
        ulong old = entry >> (offset * 8) & mask;
        _flags = s->Rflags;
        _result = null;
        if (!Compute(s, old, mask, size * 8, out ulong now, out compares))
            return false;
        value = (entry & ~(mask << (offset * 8))) | (now & mask) << (offset * 8);
        return true;
    }

    public void Complete(VcpuState* s)
    {
        if (_result is { } value)
            SetRegister(s, _resultRegister, value);
        s->Rflags = _flags;
        s->Rip += (ulong)_instruction.Length;
    }

    private bool Compute(VcpuState* s, ulong old, ulong mask, int bits, out ulong now, out bool compares)
    {
        now = old;
        compares = false;
        ulong source = Source(s, mask);
        switch (_instruction.Mnemonic)
        {
            case Mnemonic.Mov:
                now = source;
                return true;
            case Mnemonic.Xchg:
                (now, _result, _resultRegister) = (source, old, _instruction.Op1Register);
                return true;
            case Mnemonic.And:
                now = Logic(old & source, bits);
                return true;
            case Mnemonic.Or:
                now = Logic(old | source, bits);
                return true;
            case Mnemonic.Xor:
                now = Logic(old ^ source, bits);
                return true;
            case Mnemonic.Btr or Mnemonic.Bts or Mnemonic.Btc when _instruction.Op1Kind == OpKind.Immediate8:
                int bit = _instruction.Immediate8 & (bits - 1);
                _flags = (_flags & ~Rflags.CF) | (old >> bit & 1);
                now = _instruction.Mnemonic switch
                {
                    Mnemonic.Btr => old & ~(1ul << bit),
                    Mnemonic.Bts => old | 1ul << bit,
                    _ => old ^ 1ul << bit,
                };
                return true;
            case Mnemonic.Cmpxchg:
                return CompareExchange(s, old, source, mask, bits, out now, out compares);
            default:
                return false;
        }
    }

    private bool CompareExchange(VcpuState* s, ulong old, ulong source, ulong mask, int bits, out ulong now, out bool compares)
    {
        ulong expected = s->Gpr[(int)Gpr.Rax] & mask, difference = (expected - old) & mask;
        compares = expected != old;
        now = compares ? old : source;
        _flags &= ~Rflags.Status;
        if (expected < old)
            _flags |= Rflags.CF;
        if (((expected ^ old) & (expected ^ difference)) >> (bits - 1) != 0)
            _flags |= Rflags.OF;
        if (((expected ^ old ^ difference) & 0x10) != 0)
            _flags |= Rflags.AF;
        SetResultFlags(difference, bits);
        if (compares)
            (_result, _resultRegister) = (old, bits switch { 8 => Register.AL, 16 => Register.AX, 32 => Register.EAX, _ => Register.RAX });
        return true;
    }

    private ulong Logic(ulong value, int bits)
    {
        _flags &= ~Rflags.Status;
        SetResultFlags(value, bits);
        return value;
    }

    private void SetResultFlags(ulong value, int bits)
    {
        if (value == 0)
            _flags |= Rflags.ZF;
        if ((value >> (bits - 1) & 1) != 0)
            _flags |= Rflags.SF;
        if ((System.Numerics.BitOperations.PopCount((byte)value) & 1) == 0)
            _flags |= Rflags.PF;
    }

    private ulong Source(VcpuState* s, ulong mask)
    {
        if (_instruction.OpCount < 2)
            return 0;
        return _instruction.Op1Kind == OpKind.Register ? GetRegister(s, _instruction.Op1Register) & mask : _instruction.GetImmediate(1) & mask;
    }

    private static ulong GetRegister(VcpuState* s, Register register)
    {
        ulong value = s->Gpr[register.GetFullRegister() - Register.RAX];
        return IsHighByte(register) ? value >> 8 : value;
    }

    private static void SetRegister(VcpuState* s, Register register, ulong value)
    {
        ref ulong gpr = ref s->Gpr[register.GetFullRegister() - Register.RAX];
        gpr = register.GetSize() switch
        {
            8 => value,
            4 => (uint)value,
            2 => (gpr & ~0xFFFFul) | (ushort)value,
            _ when IsHighByte(register) => (gpr & ~0xFF00ul) | (ulong)(byte)value << 8,
            _ => (gpr & ~0xFFul) | (byte)value,
        };
    }

    private static bool IsHighByte(Register register) => register is Register.AH or Register.BH or Register.CH or Register.DH;
}
