using System.Runtime.InteropServices;
using Iced.Intel;

namespace VirtPS.Emulation.Thunks;

/// <summary>
/// A real 128-bit compare-and-exchange, which .NET lacks: one generated <c>lock cmpxchg16b</c> for the process. Thread-safe.
/// </summary>
internal sealed unsafe class Atomic128
{
    private readonly delegate* unmanaged[SuppressGCTransition]<ulong*, ulong*, ulong, ulong, byte> _exchange;

    private Atomic128()
    {
        // The code lives as long as the process, so nobody gives its memory back.
        if (IsSupported)
            _exchange = (delegate* unmanaged[SuppressGCTransition]<ulong*, ulong*, ulong, ulong, byte>)new ExecutableMemory().Add(Build());
    }

    public static Atomic128 Instance { get; } = new();

    /// <summary>False on hosts without the instruction: the caller must stop the other vCPUs instead.</summary>
    public static bool IsSupported => HostFeatures.Current.Cmpxchg16b;

    /// <summary>
    /// If <paramref name="target"/> (16-byte aligned) equals <paramref name="expected"/>[0..1], it becomes <paramref name="high"/>:<paramref name="low"/> and the
    /// result is true; else <paramref name="expected"/> receives what is there.
    /// </summary>
    public bool CompareExchange(ulong* target, ulong* expected, ulong low, ulong high) => _exchange(target, expected, low, high) != 0;

    private static byte[] Build()
    {
        bool windows = OperatingSystem.IsWindows();
        // rbx is the callee's to keep in both conventions.
        Register target = Register.R8, expected = Register.R9, low = Register.R10, high = Register.R11;
        Register[] from = windows ? [Register.RCX, Register.RDX, Register.R8, Register.R9] : [Register.RDI, Register.RSI, Register.RDX, Register.RCX];
        Instruction[] code =
        [
            Instruction.Create(Code.Push_r64, Register.RBX),
            Instruction.Create(Code.Mov_r64_rm64, low, from[2]),
            Instruction.Create(Code.Mov_r64_rm64, high, from[3]),
            Instruction.Create(Code.Mov_r64_rm64, target, from[0]),
            Instruction.Create(Code.Mov_r64_rm64, expected, from[1]),
            Instruction.Create(Code.Mov_r64_rm64, Register.RAX, new MemoryOperand(expected)),
            Instruction.Create(Code.Mov_r64_rm64, Register.RDX, new MemoryOperand(expected, 8, 1)),
            Instruction.Create(Code.Mov_r64_rm64, Register.RBX, low),
            Instruction.Create(Code.Mov_r64_rm64, Register.RCX, high),
            Locked(Instruction.Create(Code.Cmpxchg16b_m128, new MemoryOperand(target))),
            Instruction.Create(Code.Mov_rm64_r64, new MemoryOperand(expected), Register.RAX),
            Instruction.Create(Code.Mov_rm64_r64, new MemoryOperand(expected, 8, 1), Register.RDX),
            Instruction.Create(Code.Sete_rm8, Register.AL),
            Instruction.Create(Code.Pop_r64, Register.RBX),
            Instruction.Create(Code.Retnq),
        ];
        var bytes = new List<byte>();
        var encoder = Encoder.Create(64, new ListWriter(bytes));
        foreach (Instruction instruction in code)
            encoder.Encode(instruction, 0);
        return bytes.ToArray();
    }

    private static Instruction Locked(Instruction instruction)
    {
        instruction.HasLockPrefix = true;
        return instruction;
    }

    private sealed class ListWriter(List<byte> bytes) : CodeWriter
    {
        public override void WriteByte(byte value) => bytes.Add(value);
    }
}
