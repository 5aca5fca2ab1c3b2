using Iced.Intel;
using VirtPS.X86;

namespace VirtPS.Emulation;

/// <summary>Instructions that add a constant to a register and do nothing else but set flags: INC, DEC, ADD and SUB of an immediate, LEA of a register to itself.</summary>
internal static unsafe class RegisterMove
{
    /// <summary>What <paramref name="op"/> adds to which register, and how many of its bytes (4 or 8) it moves; 32 bits clear the upper half. 0: it is none, or adds nothing.</summary>
    public static int Read(Op* op, out int register, out byte bytes)
    {
        (register, bytes) = (op->Rm, op->OpSize);
        if (op->Code is Code.Lea_r64_m or Code.Lea_r32_m)
        {
            register = op->Reg;
            return op->Base == op->Reg && op->Index == 0xFF && op->AddrSize == op->OpSize && op->Seg < SegmentName.FS && op->Disp == (int)op->Disp ? (int)op->Disp : 0;
        }

        if (op->IsMemory)
            return 0;
        switch (op->Code)
        {
            case Code.Add_rm64_imm8 or Code.Add_rm64_imm32 or Code.Add_rm32_imm8 or Code.Add_rm32_imm32:
                return (int)op->Imm;
            case Code.Sub_rm64_imm8 or Code.Sub_rm64_imm32 or Code.Sub_rm32_imm8 or Code.Sub_rm32_imm32 when (int)op->Imm != int.MinValue:
                return -(int)op->Imm;
            case Code.Inc_rm64 or Code.Inc_rm32 or Code.Inc_r32:
                return 1;
            case Code.Dec_rm64 or Code.Dec_rm32 or Code.Dec_r32:
                return -1;
            default:
                return 0;
        }
    }

    /// <summary>The same for moves of so many bytes; others are none.</summary>
    public static int ReadWide(Op* op, int wanted, out int register)
    {
        int by = Read(op, out register, out byte bytes);
        return bytes == wanted ? by : 0;
    }
}
