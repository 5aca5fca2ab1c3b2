using Iced.Intel;
using VirtPS.Emulation.Thunks;
using VirtPS.X86;

namespace VirtPS.Emulation;

/// <summary>
/// What is known before emission about one instruction: which status flags it reads and surely writes, and which general registers it changes. Where little is
/// known the answer is the careful one: reads all, writes none, changes all.
/// </summary>
internal unsafe struct FlagFacts
{
    public const uint All = (uint)Rflags.Status, C = (uint)Rflags.CF, Z = (uint)Rflags.ZF, S = (uint)Rflags.SF, P = (uint)Rflags.PF, O = (uint)Rflags.OF;
    private const uint Unknown = ~0u;

    /// <summary>Status flags, as bits of RFLAGS.</summary>
    public uint Reads, Writes;

    /// <summary>It may write some status flag.</summary>
    public bool Touches;

    /// <summary>Guest registers that it may change, a bit each.</summary>
    public uint Changes;

    /// <summary>Accesses memory: it may fault.</summary>
    public bool MayFault;

    /// <summary>Emitted as host code that falls through (or branches away natively); the flags pass through as said here.</summary>
    public bool IsPlain;

    public static FlagFacts Of(Op* op, HostFeatures host)
    {
        var f = new FlagFacts { Reads = All, Touches = true, Changes = Unknown };
        if (op->Handler == HotForms.Nop)
            return new FlagFacts { IsPlain = true };
        if (op->Handler is >= HotForms.Jo and <= HotForms.Jg)
            return new FlagFacts { Reads = All, IsPlain = true };
        switch (op->Code)
        {
            case Code.Lea_r64_m or Code.Lea_r32_m:
                return new FlagFacts { Changes = Bit(op->Reg), IsPlain = true };
            case Code.Push_r64 or Code.Pushq_imm8 or Code.Pushq_imm32 or Code.Push_r32 or Code.Pushd_imm8 or Code.Pushd_imm32:
                return new FlagFacts { Changes = Bit(4), MayFault = true, IsPlain = true };
            case Code.Pop_r64 or Code.Pop_r32:
                return new FlagFacts { Changes = Bit(4) | Bit(op->Rm), MayFault = true, IsPlain = true };
            case Code.Leaveq or Code.Leaved:
                return new FlagFacts { Changes = Bit(4) | Bit(5), MayFault = true, IsPlain = true };
            case Code.Cld or Code.Std:
                return new FlagFacts { IsPlain = true };
        }

        if (StringForm.TryRead(op, out StringForm s))
            return s.Facts;

        if (!GuestForm.TryRead(op, host, out GuestForm form))
            return f;
        f.IsPlain = true;
        f.MayFault = op->IsMemory;
        f.Changes = ChangesOf(form);
        FlagsOf(op, form, ref f);
        f.Touches = f.Writes != 0 || MayTouch(form);
        return f;
    }

    /// <summary>Instructions that write flags only sometimes, or leave some undefined.</summary>
    private static bool MayTouch(in GuestForm form)
    {
        int b = form.Opcode & 0xFF;
        return (form.Opcode & HostOp.MapMask) switch
        {
            0 => b is 0xC0 or 0xC1 or (>= 0xD0 and <= 0xD3),
            HostOp.Map0F => b is 0xA4 or 0xA5 or 0xAC or 0xAD,
            _ => false,
        };
    }

    private static uint Bit(int register) => register < 0 ? 0 : 1u << (register >= 16 ? register - 16 : register);

    private static uint ChangesOf(in GuestForm f)
    {
        uint changes = (f.WritesReg ? Bit(f.Reg) : 0) | (f.WritesVvvv ? Bit(f.Vvvv) : 0);
        if (f.WritesRm && f.Rm >= 0)
            changes |= Bit(f.Rm);
        int b = f.Opcode & 0xFF;
        switch (f.Opcode & HostOp.MapMask)
        {
            case 0 when !f.HasModRm && b is 0x90:
                return changes | Bit(0);
            case 0 when !f.HasModRm && b is 0x98:
                return Bit(0);
            case 0 when !f.HasModRm && b is 0x99:
                return Bit(2);
            case 0 when !f.HasModRm && !f.RegisterInOpcode:
                return b is 0xA8 or 0xA9 or 0x3C or 0x3D ? 0 : Bit(0);
            case 0 when b is 0xF6 or 0xF7 && f.Reg >= 4:
                return Bit(0) | Bit(2);
            case HostOp.Map0F when b is 0xB0 or 0xB1:
                return changes | Bit(0);
            default:
                return changes;
        }
    }

    private static void FlagsOf(Op* op, in GuestForm form, ref FlagFacts f)
    {
        int b = form.Opcode & 0xFF;
        (f.Reads, f.Writes) = (form.Opcode & HostOp.MapMask) switch
        {
            0 => OneByte(op, form, b),
            HostOp.Map0F => TwoByte(op, form, b),
            HostOp.Map0F38 when form.Vex => (0u, b is 0xF2 or 0xF3 || (b is 0xF5 or 0xF7 && (form.Opcode & HostOp.PrefixMask) == 0) ? C | Z | S | O : 0),
            HostOp.Map0F38 when b == 0xF6 => (form.Opcode & HostOp.PrefixMask) == HostOp.PF3 ? (O, O) : (C, C),
            _ => (0u, 0u),
        };
    }

    private static (uint Reads, uint Writes) Arithmetic(int group) => (group is 2 or 3 ? C : 0, All);

    private static (uint Reads, uint Writes) OneByte(Op* op, in GuestForm form, int b)
    {
        switch (b)
        {
            case < 0x40:
                return Arithmetic(b >> 3);
            case 0x80 or 0x81 or 0x83:
                return Arithmetic(form.Reg);
            case 0x69 or 0x6B or 0x84 or 0x85 or 0xA8 or 0xA9:
                return (0, All);
            case 0xC0 or 0xC1 or 0xD0 or 0xD1:
                bool zero = b < 0xD0 && ((uint)op->Imm & (op->OpSize == 8 ? 63u : 31u)) == 0;
                uint reads = form.Reg is 2 or 3 ? C : 0;
                return zero ? (reads, 0) : form.Reg < 4 ? (reads, C) : (0, All);
            case 0xD2 or 0xD3:
                // By CL, which may be zero: nothing is surely written.
                return (form.Reg is 2 or 3 ? C : 0, 0);
            case 0xF6 or 0xF7:
                return form.Reg == 2 ? (0u, 0u) : (0, All);
            case 0xFE or 0xFF:
                return (0, All & ~C);
            default:
                return (0, 0);
        }
    }

    private static (uint Reads, uint Writes) TwoByte(Op* op, in GuestForm form, int b)
    {
        switch (b)
        {
            case (>= 0x40 and <= 0x4F) or (>= 0x90 and <= 0x9F):
                return (ConditionReads(b & 15), 0);
            case 0xAF or 0xB0 or 0xB1 or 0xC0 or 0xC1 or 0xB8:
                return (0, All);
            case 0xA3 or 0xAB or 0xB3 or 0xBA or 0xBB:
                return (0, C);
            case 0xA4 or 0xAC:
                return (0, ((uint)op->Imm & (op->OpSize == 8 ? 63u : 31u)) == 0 ? 0 : All);
            case 0xBC or 0xBD:
                return (0, (form.Opcode & HostOp.PrefixMask) == HostOp.PF3 ? C | Z : Z);
            default:
                return (0, 0);
        }
    }

    private static uint ConditionReads(int condition) => (condition >> 1) switch
    {
        0 => O,
        1 => C,
        2 => Z,
        3 => C | Z,
        4 => S,
        5 => P,
        6 => S | O,
        _ => S | O | Z,
    };
}
