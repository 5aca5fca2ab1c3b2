using Iced.Intel;

namespace VirtPS.Opcodes;

/// <summary>Runs a sequence on the host CPU: entry code loads the whole state, the sequence jumps to exit code that stores it.</summary>
internal sealed unsafe partial class NativeRunner : IDisposable
{
    private const int InOffset = Layout.Page, OutOffset = 2 * Layout.Page, XsaveInOffset = 3 * Layout.Page, XsaveOutOffset = 4 * Layout.Page, SavedRspOffset = 1024, DefaultMxcsrOffset = 1032, LowStackOffset = 1000, TargetOffset = 1040, EnteredOffset = 1124;

    /// <summary>Selectors of a Linux process: 32-bit code, 64-bit code, data.</summary>
    private const ushort Code32 = 0x23, Code64 = 0x33, Data = 0x2B;
    private static readonly Register[] s_calleeSaved = [Register.RBX, Register.RBP, Register.R12, Register.R13, Register.R14, Register.R15];
    private readonly Layout _layout;
    private readonly Watch _watch;
    private readonly byte* _entry64, _entry32, _exit64, _exit32;
    private readonly ulong _components;
    private int _at;

    /// <param name="components">What of the processor's state is loaded and stored: <see cref="MachineImage.Narrow"/> or <see cref="MachineImage.Wide"/>.</param>
    public NativeRunner(Layout layout, ulong components)
    {
        (_layout, _components) = (layout, components);
        *(uint*)(layout.Stubs + DefaultMxcsrOffset) = 0x1F80;
        // The stubs have the last page of their area; state images, and their XSAVE areas as the host has them, are before it.
        _at = 5 * Layout.Page;
        _entry64 = Here;
        EmitEntry64();
        _entry32 = Here;
        EmitEntry32();
        _exit64 = Here;
        EmitExit64();
        _exit32 = Here;
        EmitExit32();
        EmitFaultHandlers();
        _watch = new Watch((int*)(layout.Stubs + RunningOffset), SigXcpu);
    }

    /// <summary>Whether the operating system lets a 64-bit process use a 32-bit code segment, which LAR tells.</summary>
    public bool HasCompatibilityMode()
    {
        byte* probe = Here;
        Emit(Instruction.Create(Code.Mov_r32_imm32, Register.ECX, (int)Code32));
        Emit(Instruction.Create(Code.Xor_r32_rm32, Register.EAX, Register.EAX));
        Emit(Instruction.Create(Code.Lar_r32_r32m16, Register.EAX, Register.ECX));
        Emit(Instruction.Create(Code.Retnq));
        uint rights = ((delegate* unmanaged<uint>)probe)();
        // Present, DPL 3, code, D = 1, L = 0.
        return (rights & 0x0060_F800) == 0x0040_F800;
    }

    private byte* Here => _layout.Stubs + _at;

    public MachineImage* Input => (MachineImage*)(_layout.Stubs + InOffset);

    public MachineImage* Output => (MachineImage*)(_layout.Stubs + OutOffset);

    /// <summary>Puts the code in place, followed by the way out, and runs it.</summary>
    public void Run(byte* start, ReadOnlySpan<byte> code, int bits)
    {
        code.CopyTo(new Span<byte>(start, code.Length));
        *(ulong*)(_layout.Stubs + TargetOffset) = (ulong)start;
        byte* end = start + code.Length;
        *end = 0xE9;
        *(int*)(end + 1) = (int)((bits == 64 ? _exit64 : _exit32) - (end + 5));
        Frame->Happened = 0;
        // SAFETY: the sequence was generated so that it cannot fault, writes only to the sandbox and the stack page, and ends at the jump.
        Enter(bits);
    }

    private void Enter(int bits)
    {
        HostXsave.FromImage(Input, _layout.Stubs + XsaveInOffset);
        *(int*)(_layout.Stubs + RunningOffset) = 1;
        ((delegate* unmanaged<void>)(bits == 64 ? _entry64 : _entry32))();
        *(int*)(_layout.Stubs + RunningOffset) = *(int*)(_layout.Stubs + EnteredOffset) = 0;
        HostXsave.ToImage(_layout.Stubs + XsaveOutOffset, Output);
    }

    /// <summary>The last sequence faulted, which its generator should have kept it from.</summary>
    public bool Faulted => Frame->Happened != 0;

    /// <summary>Runs what stands at <paramref name="start"/> until the way out that was put at <paramref name="end"/>, or until it faults.</summary>
    public void RunProgram(byte* start, byte* end, int bits, in MachineImage input, out Outcome outcome)
    {
        *Input = input;
        *(ulong*)(_layout.Stubs + TargetOffset) = (ulong)start;
        *end = 0xE9;
        *(int*)(end + 1) = (int)((bits == 64 ? _exit64 : _exit32) - (end + 5));
        Frame->Happened = 0;
        _watch.Next();
        // SAFETY: a fault within the layout comes back through the handlers, which leave by the exit code.
        Enter(bits);
        outcome = new Outcome { Vector = Outcome.ReachedEnd, Rip = (ulong)end };
        if (Frame->Happened != 0)
            ReadFault(ref outcome);
        outcome.Image = *Output;
    }

    private void EmitEntry64()
    {
        EmitSave();
        Emit(Instruction.Create(Code.Push_rm64, Rip(InOffset + MachineImage.FlagsOffset)));
        Emit(Instruction.Create(Code.Popfq));
        for (int i = 0; i < 16; i++)
            Emit(Instruction.Create(Code.Mov_r64_rm64, Register.RAX + i, Rip(InOffset + MachineImage.GprOffset + 8 * i)));
        Emit(Instruction.Create(Code.Jmp_rm64, Rip(TargetOffset)));
    }

    private void EmitSave()
    {
        // A program that changes itself may come here: it must not take the host's stack pointer for its own. It faults, in the stubs.
        Emit(Instruction.Create(Code.Cmp_rm32_imm8, Rip(EnteredOffset), 0));
        int patch = _at + 2;
        Emit(Instruction.CreateBranch(Code.Je_rel32_64, (ulong)Here + 6));
        Emit(Instruction.Create(Code.Ud2));
        *(int*)(_layout.Stubs + patch) = 2;
        Emit(Instruction.Create(Code.Mov_rm32_imm32, Rip(EnteredOffset), 1));
        foreach (Register r in s_calleeSaved)
            Emit(Instruction.Create(Code.Push_r64, r));
        Emit(Instruction.Create(Code.Mov_rm64_r64, Rip(SavedRspOffset), Register.RSP));
        EmitMask();
        Emit(Instruction.Create(Code.Xrstor64_mem, Rip(XsaveInOffset)));
    }

    // A far return takes the thread into compatibility mode, whose data segments a 64-bit process has not loaded.
    private void EmitEntry32()
    {
        EmitSave();
        Emit(Instruction.Create(Code.Mov_r32_imm32, Register.ESP, (int)(_layout.Stubs + LowStackOffset)));
        Emit(Instruction.Create(Code.Pushq_imm32, (int)Code32));
        int patch = _at + 1;
        Emit(Instruction.Create(Code.Pushq_imm32, int.MaxValue));
        Emit(Instruction.Create(Code.Retfq));
        *(int*)(_layout.Stubs + patch) = (int)Here;
        LoadDataSegments(Data, 32);
        Emit(Instruction.Create(Code.Push_rm32, At(InOffset + MachineImage.FlagsOffset)), 32);
        Emit(Instruction.Create(Code.Popfd), 32);
        for (int i = 0; i < 8; i++)
            Emit(Instruction.Create(Code.Mov_r32_rm32, Register.EAX + i, At(InOffset + MachineImage.GprOffset + 8 * i)), 32);
        Emit(Instruction.Create(Code.Jmp_rm32, At(TargetOffset)), 32);
    }

    private void LoadDataSegments(int selector, int bits)
    {
        Emit(Instruction.Create(Code.Mov_r32_imm32, Register.EAX, selector), bits);
        Emit(Instruction.Create(Code.Mov_Sreg_r32m16, Register.DS, Register.EAX), bits);
        Emit(Instruction.Create(Code.Mov_Sreg_r32m16, Register.ES, Register.EAX), bits);
    }

    private void EmitExit64()
    {
        for (int i = 0; i < 16; i++)
            Emit(Instruction.Create(Code.Mov_rm64_r64, Rip(OutOffset + MachineImage.GprOffset + 8 * i), Register.RAX + i));
        Emit(Instruction.Create(Code.Mov_r64_rm64, Register.RSP, Rip(SavedRspOffset)));
        Emit(Instruction.Create(Code.Pushfq));
        Emit(Instruction.Create(Code.Pop_rm64, Rip(OutOffset + MachineImage.FlagsOffset)));
        EmitRestore();
    }

    private void EmitExit32()
    {
        for (int i = 0; i < 8; i++)
            Emit(Instruction.Create(Code.Mov_rm32_r32, At(OutOffset + MachineImage.GprOffset + 8 * i), Register.EAX + i), 32);
        Emit(Instruction.Create(Code.Mov_r32_imm32, Register.ESP, (int)(_layout.Stubs + LowStackOffset)), 32);
        Emit(Instruction.Create(Code.Pushfd), 32);
        Emit(Instruction.Create(Code.Pop_rm32, At(OutOffset + MachineImage.FlagsOffset)), 32);
        const int FarJumpLength = 7;
        Emit(Instruction.CreateBranch(Code.Jmp_ptr1632, Code64, (uint)(Here + FarJumpLength)), 32);
        LoadDataSegments(0, 64);
        Emit(Instruction.Create(Code.Mov_r64_rm64, Register.RSP, Rip(SavedRspOffset)));
        EmitRestore();
    }

    private void EmitRestore()
    {
        Emit(Instruction.Create(Code.Cld));
        EmitMask();
        Emit(Instruction.Create(Code.Xsave64_mem, Rip(XsaveOutOffset)));
        EmitLeave();
    }

    private void EmitLeave()
    {
        Emit(Instruction.Create(Code.Fninit));
        Emit(Instruction.Create(Code.Ldmxcsr_m32, Rip(DefaultMxcsrOffset)));
        Emit(Instruction.Create(Code.VEX_Vzeroupper));
        for (int i = s_calleeSaved.Length - 1; i >= 0; i--)
            Emit(Instruction.Create(Code.Pop_r64, s_calleeSaved[i]));
        Emit(Instruction.Create(Code.Retnq));
    }

    private void EmitMask()
    {
        Emit(Instruction.Create(Code.Mov_r32_imm32, Register.EAX, (int)_components));
        Emit(Instruction.Create(Code.Mov_r32_imm32, Register.EDX, 0));
    }

    private MemoryOperand Rip(int offset) => new(Register.RIP, (long)(_layout.Stubs + offset), 8);

    private MemoryOperand At(int offset) => new(Register.None, Register.None, 1, (long)(_layout.Stubs + offset), 4, false, Register.None);

    private void Emit(in Instruction instruction, int bits = 64)
    {
        var writer = new PointerWriter(_layout.Stubs + _at);
        _at += (int)Encoder.Create(bits, writer).Encode(instruction, (ulong)(_layout.Stubs + _at));
    }

    private sealed class PointerWriter(byte* to) : CodeWriter
    {
        private byte* _to = to;

        public override void WriteByte(byte value) => *_to++ = value;
    }
}
