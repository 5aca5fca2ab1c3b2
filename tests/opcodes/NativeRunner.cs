using Iced.Intel;

namespace VirtPS.Opcodes;

/// <summary>Runs a sequence on the host CPU: entry code loads the whole state, the sequence jumps to exit code that stores it.</summary>
internal sealed unsafe class NativeRunner
{
    private const int InOffset = 2048, OutOffset = 4096, SavedRspOffset = 1024, DefaultMxcsrOffset = 1032;
    private static readonly Register[] s_calleeSaved = [Register.RBX, Register.RBP, Register.R12, Register.R13, Register.R14, Register.R15];
    private readonly Layout _layout;
    private readonly byte* _exit;
    private int _at;

    public NativeRunner(Layout layout)
    {
        _layout = layout;
        *(uint*)(layout.Stubs + DefaultMxcsrOffset) = 0x1F80;
        // The two stubs have the last page of their area; state images are before it.
        _at = 2 * Layout.Page;
        EmitEntry();
        _exit = layout.Stubs + _at;
        EmitExit();
    }

    public MachineImage* Input => (MachineImage*)(_layout.Stubs + InOffset);

    public MachineImage* Output => (MachineImage*)(_layout.Stubs + OutOffset);

    /// <summary>Puts the code in place, followed by the way out, and runs it.</summary>
    public void Run(ReadOnlySpan<byte> code)
    {
        code.CopyTo(new Span<byte>(_layout.Code, Layout.CodePages * Layout.Page));
        byte* end = _layout.Code + code.Length;
        *end = 0xE9;
        *(int*)(end + 1) = (int)(_exit - (end + 5));
        // SAFETY: the sequence was generated so that it cannot fault, writes only to the sandbox and the stack page, and ends at the jump.
        ((delegate* unmanaged<void>)(_layout.Stubs + 2 * Layout.Page))();
    }

    private void EmitEntry()
    {
        foreach (Register r in s_calleeSaved)
            Emit(Instruction.Create(Code.Push_r64, r));
        Emit(Instruction.Create(Code.Mov_rm64_r64, Rip(SavedRspOffset), Register.RSP));
        EmitMask();
        Emit(Instruction.Create(Code.Xrstor64_mem, Rip(InOffset + MachineImage.XsaveOffset)));
        Emit(Instruction.Create(Code.Push_rm64, Rip(InOffset + MachineImage.FlagsOffset)));
        Emit(Instruction.Create(Code.Popfq));
        for (int i = 0; i < 16; i++)
            Emit(Instruction.Create(Code.Mov_r64_rm64, Register.RAX + i, Rip(InOffset + MachineImage.GprOffset + 8 * i)));
        Emit(Instruction.CreateBranch(Code.Jmp_rel32_64, (ulong)_layout.Code));
    }

    private void EmitExit()
    {
        for (int i = 0; i < 16; i++)
            Emit(Instruction.Create(Code.Mov_rm64_r64, Rip(OutOffset + MachineImage.GprOffset + 8 * i), Register.RAX + i));
        Emit(Instruction.Create(Code.Mov_r64_rm64, Register.RSP, Rip(SavedRspOffset)));
        Emit(Instruction.Create(Code.Pushfq));
        Emit(Instruction.Create(Code.Pop_rm64, Rip(OutOffset + MachineImage.FlagsOffset)));
        Emit(Instruction.Create(Code.Cld));
        EmitMask();
        Emit(Instruction.Create(Code.Xsave64_mem, Rip(OutOffset + MachineImage.XsaveOffset)));
        Emit(Instruction.Create(Code.Fninit));
        Emit(Instruction.Create(Code.Ldmxcsr_m32, Rip(DefaultMxcsrOffset)));
        Emit(Instruction.Create(Code.VEX_Vzeroupper));
        for (int i = s_calleeSaved.Length - 1; i >= 0; i--)
            Emit(Instruction.Create(Code.Pop_r64, s_calleeSaved[i]));
        Emit(Instruction.Create(Code.Retnq));
    }

    private void EmitMask()
    {
        Emit(Instruction.Create(Code.Mov_r32_imm32, Register.EAX, 7));
        Emit(Instruction.Create(Code.Mov_r32_imm32, Register.EDX, 0));
    }

    private MemoryOperand Rip(int offset) => new(Register.RIP, (long)(_layout.Stubs + offset), 8);

    private void Emit(in Instruction instruction)
    {
        var writer = new PointerWriter(_layout.Stubs + _at);
        _at += (int)Encoder.Create(64, writer).Encode(instruction, (ulong)(_layout.Stubs + _at));
    }

    private sealed class PointerWriter(byte* to) : CodeWriter
    {
        private byte* _to = to;

        public override void WriteByte(byte value) => *_to++ = value;
    }
}
