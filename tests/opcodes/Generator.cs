using Iced.Intel;
using VirtPS.X86;

namespace VirtPS.Opcodes;

/// <summary>
/// Makes random instances of instruction forms that cannot fault natively: addresses lie in the sandbox, divisors fit, stack pointers are valid. What an
/// instance needs is set up by ordinary instructions before it, which both sides execute.
/// </summary>
internal sealed unsafe partial class Generator(Layout layout, XorShift random, int bits)
{
    private readonly int _registers = bits == 64 ? 16 : 8;

    private readonly InstructionInfoFactory _facts = new();
    private readonly List<Instruction> _setUp = [];

    /// <summary>Memory operands lie where they fault, or may: over the sandbox's end, or in the page that cannot be written.</summary>
    public bool Dangerous { get; set; }

    /// <summary>Further instances not to make.</summary>
    public Func<Instruction, bool> IsLeftOut { get; init; } = _ => false;

    /// <summary>Linear address of the memory operand.</summary>
    private ulong _target;

    /// <summary>Appends set-up and instance of <paramref name="code"/>; false when this try did not work out.</summary>
    public bool TryAppend(Code code, Sequence sequence)
    {
        int start = sequence.Length;
        _setUp.Clear();
        _target = 0;
        _wild = null;
        if (TryBuild(code, out Instruction instruction) && Encode(sequence, ref instruction))
        {
            ulong undefined = FlagTable.Undefined(instruction);
            ulong written = WritesConditionally(instruction) ? 0 : FlagTable.Written(instruction);
            sequence.Add(instruction, start, sequence.UndefinedFlags & ~written | undefined);
            NoteIgnored(instruction, sequence);
            return true;
        }

        sequence.Truncate(start);
        return false;
    }

    private bool Encode(Sequence sequence, ref Instruction instruction)
    {
        if ((FlagTable.Read(instruction) & sequence.UndefinedFlags) != 0)
            return false;
        foreach (Instruction i in _setUp)
        {
            if (!sequence.TryEmit(i))
                return false;
        }

        if (instruction.FlowControl is not (FlowControl.Next or FlowControl.Exception))
            return EncodeBranch(sequence, ref instruction);
        return sequence.TryEmit(instruction);
    }

    private bool TryBuild(Code code, out Instruction instruction)
    {
        instruction = default;
        instruction.Code = code;
        OpCodeInfo info = code.ToOpCode();
        BeginEvex(ref instruction, info);
        for (int k = 0; k < info.OpCount; k++)
        {
            if (!SetOperand(ref instruction, info, k))
                return false;
        }

        AddPrefixes(ref instruction, info);
        return Constrain(ref instruction) && FinishEvex(ref instruction, info) && !WritesStackPointer(instruction) && !IsLeftOut(instruction);
    }

    private void AddPrefixes(ref Instruction instruction, OpCodeInfo info)
    {
        bool memory = instruction.OpCount > 0 && instruction.Op0Kind == OpKind.Memory;
        if (memory && info.CanUseLockPrefix && random.OneIn(3))
            instruction.HasLockPrefix = true;
        if (!instruction.IsStringInstruction)
            return;
        if (info.CanUseRepnePrefix && random.OneIn(3))
            instruction.HasRepnePrefix = true;
        else if (info.CanUseRepPrefix && random.OneIn(2))
            instruction.HasRepPrefix = true;
    }

    // RSP as a general destination would leave the process without a stack should a signal come.
    private bool WritesStackPointer(in Instruction instruction)
    {
        if (instruction.IsStackInstruction)
            return instruction.OpCount > 0 && instruction.Op0Kind == OpKind.Register && instruction.Op0Register.GetFullRegister() == Register.RSP
                && instruction.Mnemonic == Mnemonic.Pop;
        foreach (UsedRegister used in _facts.GetInfo(instruction).GetUsedRegisters())
        {
            if (used.Register.GetFullRegister() == Register.RSP && used.Access is not (OpAccess.Read or OpAccess.CondRead or OpAccess.NoMemAccess))
                return true;
        }

        return false;
    }

    /// <summary>Whether the instruction may leave all flags alone: zero counts.</summary>
    private static bool WritesConditionally(in Instruction i) => i.IsStringInstruction || i.Mnemonic is Mnemonic.Shl or Mnemonic.Shr or Mnemonic.Sar
        or Mnemonic.Sal or Mnemonic.Rol or Mnemonic.Ror or Mnemonic.Rcl or Mnemonic.Rcr or Mnemonic.Shld or Mnemonic.Shrd;

    /// <summary>Parts of stored state images that belong to the host: selectors, MXCSR_MASK.</summary>
    private void NoteIgnored(in Instruction i, Sequence sequence)
    {
        switch (i.Mnemonic)
        {
            case Mnemonic.Fxsave or Mnemonic.Fxsave64:
                // FOP, FIP, FDP and MXCSR_MASK; the reserved part is nobody's.
                sequence.Ignored.Add((_target + 6, 18));
                sequence.Ignored.Add((_target + 28, 4));
                sequence.Ignored.Add((_target + 416, 96));
                sequence.Closed = true;
                break;
            case Mnemonic.Fnstenv or Mnemonic.Fnsave:
                bool small = i.Code is Code.Fnstenv_m14byte or Code.Fnsave_m94byte;
                sequence.Ignored.Add(small ? (_target + 6, 8) : (_target + 12, 16));
                sequence.Closed = true;
                break;
        }
    }

    /// <summary>MOV of a constant to the whole register of the mode.</summary>
    private Instruction Load(Register register, ulong value) => bits == 64 ? Instruction.Create(Code.Mov_r64_imm64, register.GetFullRegister(), value)
        : Instruction.Create(Code.Mov_r32_imm32, register.GetFullRegister32(), (uint)value);

    /// <summary>MOV m, imm32 to a fixed address.</summary>
    private Instruction Poke(ulong address, uint value) => Instruction.Create(Code.Mov_rm32_imm32, Absolute(address), value);

    private MemoryOperand Absolute(ulong address) => new(Register.None, Register.None, 1, (long)address, bits / 8, false, Register.None);

    private ulong StackAddress() => (ulong)layout.StackTop + 2048 + (ulong)(random.Below(32) * (random.OneIn(4) ? 1 : 8));

    private ulong SandboxAddress(int size, int alignment)
    {
        if (Dangerous)
            return (ulong)layout.Hole + (ulong)((random.Below(2 * Layout.Page + 2 * size) - 2 * size) & -alignment);
        int room = Layout.SandboxPages * Layout.Page - size;
        // One in eight around the page boundary.
        int offset = random.OneIn(8) ? Math.Min(Layout.Page - random.Below(size + 1), room) : random.Below(room + 1);
        return (ulong)layout.Sandbox + (ulong)(offset & -alignment);
    }

    private ulong FlagsImage() => random.Next() & (Rflags.Status | Rflags.DF) | Rflags.IF | Rflags.Fixed1;
}
