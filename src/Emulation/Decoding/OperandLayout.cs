using Iced.Intel;

namespace VirtPS.Emulation;

/// <summary>Where an operand of an instruction form goes in an <see cref="Op"/>.</summary>
internal enum OperandSlot : byte
{
    None,
    Reg,
    Rm,
    Vvvv,
    Accumulator,
    Immediate,
    Other,
}

/// <summary>For each instruction form, where its operands go and how wide it is. Derived once from the decoder's own tables; immutable.</summary>
internal static class OperandLayout
{
    private const int MaxOperands = 5;
    private static readonly OperandSlot[] s_slots = Build(out s_sizes);
    private static readonly byte[] s_sizes;

    public static OperandSlot Slot(Code code, int operand) => s_slots[(int)code * MaxOperands + operand];

    /// <summary>Size in bytes of the first general-register operand, else the operand size of the form, else 0.</summary>
    public static int Size(Code code) => s_sizes[(int)code];

    private static OperandSlot[] Build(out byte[] sizes)
    {
        Code[] codes = Enum.GetValues<Code>();
        int count = (int)codes.Max() + 1;
        var slots = new OperandSlot[count * MaxOperands];
        sizes = new byte[count];
        foreach (Code code in codes)
        {
            OpCodeInfo info = code.ToOpCode();
            int size = 0;
            for (int i = 0; i < info.OpCount; i++)
            {
                string kind = info.GetOpKind(i).ToString();
                slots[(int)code * MaxOperands + i] = Classify(kind);
                if (size == 0)
                    size = RegisterSize(kind);
            }

            sizes[(int)code] = (byte)(size != 0 ? size : info.OperandSize / 8);
        }

        return slots;
    }

    private static OperandSlot Classify(string kind) => kind switch
    {
        "al" or "ax" or "eax" or "rax" => OperandSlot.Accumulator,
        _ when kind.StartsWith("imm", StringComparison.Ordinal) => OperandSlot.Immediate,
        _ when kind.EndsWith("_vvvv", StringComparison.Ordinal) => OperandSlot.Vvvv,
        _ when kind.EndsWith("_opcode", StringComparison.Ordinal) || kind.Contains("_or_mem", StringComparison.Ordinal)
            || kind.EndsWith("_rm", StringComparison.Ordinal) || kind.StartsWith("mem", StringComparison.Ordinal) => OperandSlot.Rm,
        _ when kind.EndsWith("_reg", StringComparison.Ordinal) || kind.EndsWith("_reg_mem", StringComparison.Ordinal) => OperandSlot.Reg,
        _ => OperandSlot.Other,
    };

    private static int RegisterSize(string kind) => kind switch
    {
        "al" => 1,
        "ax" => 2,
        "eax" => 4,
        "rax" => 8,
        _ when kind.StartsWith("r8_", StringComparison.Ordinal) => 1,
        _ when kind.StartsWith("r16_", StringComparison.Ordinal) => 2,
        _ when kind.StartsWith("r32_", StringComparison.Ordinal) => 4,
        _ when kind.StartsWith("r64_", StringComparison.Ordinal) => 8,
        _ => 0,
    };
}
