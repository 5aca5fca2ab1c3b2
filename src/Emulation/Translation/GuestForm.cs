using VirtPS.Emulation.Thunks;

namespace VirtPS.Emulation;

/// <summary>What an instruction does with its memory operand.</summary>
internal enum MemoryUse : byte
{
    None,
    Read,
    Write,
    ReadWrite,
}

/// <summary>
/// An instruction that generated code can execute by the host's own with registers renamed: what of its encoding must be known for that. Found by
/// <see cref="TryRead"/>, from the opcode maps (SDM Vol. 2D appendix A).
/// </summary>
internal unsafe struct GuestForm
{
    /// <summary>Opcode byte, map and prefix as <see cref="HostOp"/> has them; for opcodes with a register in them, without it.</summary>
    public int Opcode;

    /// <summary>ModRM follows; else the operands are implicit or in the opcode.</summary>
    public bool HasModRm;
    public bool RexW, Lock, Vex;

    /// <summary>The ModRM.reg field is part of the opcode, <see cref="Reg"/> is it.</summary>
    public bool RegIsOpcode;

    /// <summary>The opcode's low three bits are a register (<see cref="Rm"/>).</summary>
    public bool RegisterInOpcode;

    /// <summary>The operand is a byte register.</summary>
    public bool ByteReg, ByteRm;

    /// <summary>The instruction changes the operand.</summary>
    public bool WritesReg, WritesRm, WritesVvvv;

    /// <summary>The register's old value matters. A narrow result leaves the rest of it as it was.</summary>
    public readonly bool ReadsReg => !(WritesReg && IsWide && IsPlainResult);
    public readonly bool ReadsRm => !(WritesRm && IsWide && ((Opcode & (HostOp.MapMask | 0xFF)) is 0x89 or 0xC7 || (RegisterInOpcode && (Opcode & (HostOp.MapMask | 0xF8)) == 0xB8)));

    /// <summary>BT and its relatives: with a memory operand the register would select a byte of a string.</summary>
    public readonly bool IsBitString => (Opcode & HostOp.MapMask) == HostOp.Map0F && (Opcode & 0xFF) is 0xA3 or 0xAB or 0xB3 or 0xBB;

    private readonly bool IsWide => RexW || (Opcode & HostOp.PrefixMask) != HostOp.P66;

    /// <summary>The result does not depend on what was in the ModRM.reg register: MOV, MOVZX, MOVSX, IMUL with three operands, VEX instructions.</summary>
    private readonly bool IsPlainResult => Vex || (Opcode & HostOp.MapMask) switch
    {
        0 => (Opcode & 0xFF) is 0x8B or 0x63 or 0x69 or 0x6B,
        HostOp.Map0F => (Opcode & 0xFF) is 0xB6 or 0xB7 or 0xBE or 0xBF,
        _ => false,
    };

    /// <summary>Guest register numbers; 16–19 are AH, CH, DH, BH. -1: not a general register.</summary>
    public int Reg, Rm, Vvvv;
    public MemoryUse Memory;

    /// <summary>Bytes of the memory operand.</summary>
    public int MemorySize;

    /// <summary>Bytes at the end of the instruction that are copied.</summary>
    public int ImmediateBytes;

    /// <summary>Reads an instruction of 64-bit mode, or of 32-bit code with flat segments. False: generated code leaves it to the interpreter, also where <paramref name="host"/> does not have it.</summary>
    public static bool TryRead(Op* op, HostFeatures host, out GuestForm form)
    {
        form = new GuestForm { Reg = -1, Rm = -1, Vvvv = -1 };
        byte* p = VirtPS.Emulation.Op.Bytes(op);
        byte* end = p + op->Length;
        bool p66 = false, code64 = op->Has(OpFlags.Code64);
        // A segment with a limit, or 16-bit addresses.
        if (op->IsMemory && !op->Has(OpFlags.Flat | OpFlags.WideSegment))
            return false;
        int rex = 0, repeat = 0;
        for (;; p++)
        {
            if (*p == 0x66)
                p66 = true;
            else if (*p is 0xF2 or 0xF3)
                repeat = *p;
            else if (*p == 0xF0)
                form.Lock = true;
            else if (*p is not (0x67 or 0x2E or 0x36 or 0x3E or 0x26 or 0x64 or 0x65))
                break;
        }

        if (code64 && (*p & 0xF0) == 0x40)
            rex = *p++;
        form.RexW = (rex & 8) != 0;
        bool known;
        if (!code64 && *p is (>= 0x40 and <= 0x4F) or (>= 0xA0 and <= 0xA3) or 0x63 or 0xC4 or 0xC5)
            return form.ReadCode32(op, p, p66) && form.IsOn(host);
        if (*p is 0xC4 or 0xC5)
        {
            known = form.ReadVex(ref p, ref rex);
        }
        else if (*p != 0x0F)
        {
            known = repeat == 0 && form.ReadOneByte(*p++, p66, p);
        }
        else if (p[1] == 0x38)
        {
            p += 2;
            known = form.ReadMap38(*p++, p66, repeat);
        }
        else
        {
            p++;
            known = form.ReadTwoByte(*p++, p66, repeat, p);
        }

        if (!known || !form.IsOn(host))
            return false;
        return form.ReadOperands(op, p, end, rex);
    }

    /// <summary>Whether the host has the instruction. One without BMI1 would take TZCNT for BSF, without a fault.</summary>
    private readonly bool IsOn(HostFeatures host)
    {
        int b = Opcode & 0xFF, prefix = Opcode & HostOp.PrefixMask;
        return (Opcode & HostOp.MapMask) switch
        {
            HostOp.Map0F when prefix == HostOp.PF3 => b switch { 0xB8 => host.Popcnt, 0xBC => host.Bmi1, _ => host.Lzcnt },
            HostOp.Map0F38 when Vex => b is 0xF2 or 0xF3 || (b == 0xF7 && prefix == 0) ? host.Bmi1 : host.Bmi2,
            HostOp.Map0F38 when b == 0xF6 => host.Adx,
            HostOp.Map0F38 when prefix == HostOp.PF2 => host.Sse42,
            HostOp.Map0F38 => host.Movbe,
            HostOp.Map0F3A => host.Bmi2,
            _ => true,
        };
    }

    private bool ReadOperands(Op* op, byte* p, byte* end, int rex)
    {
        if (RegisterInOpcode)
        {
            Rm = ByteRm ? op->Rm : (p[-1] & 7) | (rex & 1) << 3;
            return !Lock;
        }

        if (!HasModRm)
            return !Lock;
        int reg = *p >> 3 & 7;
        if (RegIsOpcode)
            Reg = reg;
        else
            Reg = ByteReg ? ByteNumber(reg, rex, rex & 4) : reg | (rex & 4) << 1;
        if (*p >= 0xC0)
        {
            int rm = *p & 7;
            Rm = ByteRm ? ByteNumber(rm, rex, (rex & 1) << 2) : rm | (rex & 1) << 3;
            return !Lock && Memory != MemoryUse.None;
        }

        // Nothing but a memory operand may be locked, and only where it is changed.
        return MemorySize != 0 && (!Lock || Memory == MemoryUse.ReadWrite) && op->IsMemory;
    }

    /// <summary>What 32-bit code has in place of REX prefixes: INC and DEC; MOV with an address of its own; not ARPL, LES, LDS and, since few use them there, BMI.</summary>
    private bool ReadCode32(Op* op, byte* p, bool p66)
    {
        bool bytes = (*p & 1) == 0;
        switch (*p)
        {
            case <= 0x4F:
                One(0xFF, p66, MemoryUse.ReadWrite, false, 0);
                (Reg, Rm) = (*p >> 3 & 1, *p & 7);
                return !Lock;
            case 0xA0 or 0xA1:
                Two(*p - 0xA0 + 0x8A, p66, MemoryUse.Read, bytes, true, false);
                break;
            case 0xA2 or 0xA3:
                Two(*p - 0xA2 + 0x88, p66, MemoryUse.Write, bytes, false, true);
                break;
            default:
                return false;
        }

        Reg = 0;
        return !Lock && op->IsMemory;
    }

    private static int ByteNumber(int number, int rex, int extension) => rex == 0 && number >= 4 ? number + 12 : number | extension << 1;

    private int SizeOf(bool p66) => RexW ? 8 : p66 ? 2 : 4;

    private bool Two(int opcode, bool p66, MemoryUse use, bool bytes, bool writesReg, bool writesRm)
    {
        HasModRm = true;
        Opcode = opcode | (p66 ? HostOp.P66 : 0);
        Memory = use;
        ByteReg = ByteRm = bytes;
        MemorySize = bytes ? 1 : SizeOf(p66);
        (WritesReg, WritesRm) = (writesReg, writesRm);
        return true;
    }

    /// <summary>One operand; ModRM.reg selects the operation.</summary>
    private bool One(int opcode, bool p66, MemoryUse use, bool bytes, int immediate)
    {
        Two(opcode, p66, use, bytes, false, use is MemoryUse.ReadWrite or MemoryUse.Write);
        RegIsOpcode = true;
        ImmediateBytes = immediate;
        return true;
    }

    private bool Plain(int opcode, bool p66, int immediate)
    {
        Opcode = opcode | (p66 ? HostOp.P66 : 0);
        ImmediateBytes = immediate;
        return true;
    }

    private bool ReadOneByte(int b, bool p66, byte* modrm)
    {
        bool bytes = (b & 1) == 0;
        int wide = p66 && !RexW ? 2 : 4;
        int group = *modrm >> 3 & 7;
        switch (b)
        {
            case < 0x40 when (b & 7) < 2:
                return Two(b, p66, b >= 0x38 ? MemoryUse.Read : MemoryUse.ReadWrite, bytes, false, b < 0x38);
            case < 0x40 when (b & 7) < 4:
                return Two(b, p66, MemoryUse.Read, bytes, b < 0x38, false);
            case < 0x40 when (b & 7) < 6:
                return Plain(b, p66, bytes ? 1 : wide);
            case 0x63 when !p66:
                Two(b, false, MemoryUse.Read, false, true, false);
                MemorySize = 4;
                return true;
            case 0x69 or 0x6B:
                Two(b, p66, MemoryUse.Read, false, true, false);
                ImmediateBytes = b == 0x6B ? 1 : wide;
                return true;
            case 0x80 or 0x81 or 0x83:
                return One(b, p66, group == 7 ? MemoryUse.Read : MemoryUse.ReadWrite, bytes, b == 0x81 ? wide : 1);
            case 0x84 or 0x85:
                return Two(b, p66, MemoryUse.Read, bytes, false, false);
            case 0x86 or 0x87:
                return Two(b, p66, MemoryUse.ReadWrite, bytes, true, true);
            case 0x88 or 0x89:
                return Two(b, p66, MemoryUse.Write, bytes, false, true);
            case 0x8A or 0x8B:
                return Two(b, p66, MemoryUse.Read, bytes, true, false);
            case > 0x90 and <= 0x97:
                Plain(0x90, p66, 0);
                RegisterInOpcode = WritesRm = true;
                return true;
            case 0x98 or 0x99:
                return Plain(b, p66, 0);
            case 0xA8 or 0xA9:
                return Plain(b, p66, bytes ? 1 : wide);
            case >= 0xB0 and <= 0xBF:
                Plain(b & 0xF8, p66, b < 0xB8 ? 1 : RexW ? 8 : wide);
                RegisterInOpcode = WritesRm = true;
                ByteRm = b < 0xB8;
                return true;
            case 0xC0 or 0xC1:
                return One(b, p66, MemoryUse.ReadWrite, bytes, 1);
            case >= 0xD0 and <= 0xD3:
                return One(b, p66, MemoryUse.ReadWrite, bytes, 0);
            case 0xC6 or 0xC7 when group == 0:
                return One(b, p66, MemoryUse.Write, bytes, bytes ? 1 : wide);
            case 0xF6 or 0xF7 when group < 2:
                return One(b, p66, MemoryUse.Read, bytes, bytes ? 1 : wide);
            case 0xF6 or 0xF7 when group < 4:
                return One(b, p66, MemoryUse.ReadWrite, bytes, 0);
            case 0xF6 or 0xF7 when group < 6:
                return One(b, p66, MemoryUse.Read, bytes, 0);
            case 0xFE or 0xFF when group < 2:
                return One(b, p66, MemoryUse.ReadWrite, bytes, 0);
            default:
                return false;
        }
    }

    private bool ReadTwoByte(int b, bool p66, int repeat, byte* modrm)
    {
        int op = b | HostOp.Map0F;
        if (repeat != 0)
        {
            // POPCNT, TZCNT, LZCNT.
            return repeat == 0xF3 && b is 0xB8 or 0xBC or 0xBD && !p66 && Two(op | HostOp.PF3, false, MemoryUse.Read, false, true, false);
        }

        switch (b)
        {
            case >= 0x40 and <= 0x4F:
                return Two(op, p66, MemoryUse.Read, false, true, false);
            case >= 0x90 and <= 0x9F:
                return One(op, false, MemoryUse.Write, true, 0);
            case 0xA3 when *modrm >= 0xC0:
                return Two(op, p66, MemoryUse.Read, false, false, false);
            case 0xAB or 0xB3 or 0xBB when *modrm >= 0xC0:
                return Two(op, p66, MemoryUse.ReadWrite, false, false, true);
            case 0xA4 or 0xAC:
                Two(op, p66, MemoryUse.ReadWrite, false, false, true);
                ImmediateBytes = 1;
                return true;
            case 0xA5 or 0xAD:
                return Two(op, p66, MemoryUse.ReadWrite, false, false, true);
            case 0xAF or 0xBC or 0xBD:
                return Two(op, p66, MemoryUse.Read, false, true, false);
            case 0xB0 or 0xB1:
                return Two(op, p66, MemoryUse.ReadWrite, b == 0xB0, false, true);
            case 0xB6 or 0xB7 or 0xBE or 0xBF:
                Two(op, p66, MemoryUse.Read, false, true, false);
                ByteRm = (b & 1) == 0;
                MemorySize = ByteRm ? 1 : 2;
                return true;
            case 0xBA when (*modrm >> 3 & 7) >= 4:
                return One(op, p66, (*modrm >> 3 & 7) == 4 ? MemoryUse.Read : MemoryUse.ReadWrite, false, 1);
            case 0xC0 or 0xC1:
                return Two(op, p66, MemoryUse.ReadWrite, b == 0xC0, true, true);
            case 0xC3 when *modrm < 0xC0 && !p66:
                return Two(op, false, MemoryUse.Write, false, false, true);
            case >= 0xC8 and <= 0xCF when !p66:
                Plain(0xC8 | HostOp.Map0F, false, 0);
                RegisterInOpcode = WritesRm = true;
                return true;
            default:
                return false;
        }
    }

    private bool ReadMap38(int b, bool p66, int repeat)
    {
        int op = b | HostOp.Map0F38;
        if (repeat == 0xF2 && b is 0xF0 or 0xF1)
        {
            // CRC32: the register is 32 or 64 bits whatever the operand.
            Two(op | HostOp.PF2, false, MemoryUse.Read, false, true, false);
            ByteRm = b == 0xF0;
            MemorySize = ByteRm ? 1 : SizeOf(p66);
            return !p66;
        }

        if (b == 0xF6 && (repeat == 0xF3 || (p66 && repeat == 0)))
        {
            // ADCX and ADOX: the prefix is part of the opcode.
            return Two(op | (repeat == 0xF3 ? HostOp.PF3 : HostOp.P66), false, MemoryUse.Read, false, true, false) && !(p66 && repeat == 0xF3);
        }

        return repeat == 0 && b switch
        {
            0xF0 => Two(op, p66, MemoryUse.Read, false, true, false),
            0xF1 => Two(op, p66, MemoryUse.Write, false, false, true),
            _ => false,
        };
    }

    /// <summary>The general-register instructions among the VEX-encoded ones: BMI1 and BMI2.</summary>
    private bool ReadVex(ref byte* p, ref int rex)
    {
        if (*p != 0xC4)
            return ReadVexShort(ref p, ref rex);
        int b1 = p[1], b2 = p[2], opcode = p[3];
        p += 4;
        rex = 0x40 | (~b1 >> 5 & 7);
        return ReadBmi(b1 & 31, b2, opcode);
    }

    private bool ReadVexShort(ref byte* p, ref int rex)
    {
        // The two-byte form implies map 0F, which has no such instruction.
        p += 3;
        rex = 0;
        return false;
    }

    private bool ReadBmi(int map, int b2, int opcode)
    {
        RexW = (b2 & 0x80) != 0;
        Vex = true;
        if ((b2 & 4) != 0)
            return false;
        int prefix = b2 & 3;
        int vvvv = ~b2 >> 3 & 15;
        int flags = prefix switch { 1 => HostOp.P66, 2 => HostOp.PF3, 3 => HostOp.PF2, _ => 0 };
        if (map == 3)
        {
            if (opcode != 0xF0 || prefix != 3)
                return false;
            Two(opcode | HostOp.Map0F3A | flags, false, MemoryUse.Read, false, true, false);
            ImmediateBytes = 1;
            return true;
        }

        bool known = (map, opcode, prefix) is (2, 0xF2, 0) or (2, 0xF3, 0) or (2, 0xF5, 0 or 2 or 3) or (2, 0xF6, 3) or (2, 0xF7, _);
        if (!known)
            return false;
        Vvvv = vvvv;
        Two(opcode | HostOp.Map0F38 | flags, false, MemoryUse.Read, false, opcode != 0xF3, false);
        RegIsOpcode = opcode == 0xF3;
        WritesVvvv = opcode is 0xF3 or 0xF6;
        return true;
    }
}
