using System.Runtime.InteropServices;
using Iced.Intel;
using VirtPS.X86;

namespace VirtPS.Emulation;

/// <summary>What the decoder found out about an instruction; see <see cref="Op.Flags"/>.</summary>
[Flags]
internal enum OpFlags : ushort
{
    None = 0,

    /// <summary>The ModRM (or moffs) operand is memory; else <see cref="Op.Rm"/> is a register.</summary>
    Memory = 1,
    Lock = 2,

    /// <summary>F3 prefix, where it means REP/REPE.</summary>
    Rep = 4,

    /// <summary>F2 prefix, where it means REPNE.</summary>
    Repne = 8,
    RexW = 0x10,

    /// <summary>VEX or XOP encoded.</summary>
    Vex = 0x20,

    /// <summary>VEX.L = 1 (256 bits).</summary>
    Vex256 = 0x40,

    /// <summary>RIP-relative memory operand: <see cref="Op.Disp"/> is relative to the first byte of the block.</summary>
    RipRelative = 0x80,

    /// <summary>Decoded in 64-bit mode.</summary>
    Code64 = 0x100,

    /// <summary>VSIB memory operand: <see cref="Op.Index"/> is a vector register.</summary>
    Vsib = 0x200,

    /// <summary>Ends its block whatever it does.</summary>
    EndsBlock = 0x400,

    /// <summary>The first operand is <see cref="Op.Reg"/>, the second the r/m one; else the other way round.</summary>
    ToReg = 0x800,

    /// <summary>Has an immediate as its (last) source.</summary>
    Immediate = 0x1000,

    /// <summary>Memory operands go by the short path: no base or limit can matter.</summary>
    Flat = 0x2000,

    /// <summary>Set when its block is translated: no host code was made for it.</summary>
    LeftToInterpreter = 0x4000,

    /// <summary>The memory operand is in FS or GS, of which no limit can matter (<see cref="CodeMode.WideFs"/>): not for the short path, but for generated code.</summary>
    WideSegment = 0x8000,
}

/// <summary>
/// One decoded instruction, 64 bytes, one cache line. The upper part is what the main loop needs at once: registers as byte offsets from the <c>VcpuState</c>
/// (so that AH is just another offset, and "no base register" is the offset of a zero). The lower part is for the slow handlers.
/// </summary>
[StructLayout(LayoutKind.Sequential, Size = 64)]
internal unsafe struct Op
{
    /// <summary>Case in the main loop's switch; 0 calls <see cref="Slow"/>.</summary>
    public ushort Handler;

    /// <summary>Byte offset of the ModRM.reg register from the state; AH, CH, DH, BH point at their byte.</summary>
    public ushort RegOff;

    /// <summary>Same for the ModRM.rm register when it is one (also for opcode-embedded registers).</summary>
    public ushort RmOff;
    public ushort BaseOff, IndexOff;

    /// <summary>Offset of the segment base to be added; of the zero where the segment is flat by mode.</summary>
    public ushort SegOff;

    /// <summary>Left shift of the index, 0–3.</summary>
    public byte Scale;

    /// <summary>Bytes of the whole instruction.</summary>
    public byte Length;

    /// <summary>Operand size in bytes: 1, 2, 4, 8; for vector instructions the memory operand's size where it fits a byte.</summary>
    public byte OpSize;

    /// <summary>Address size in bytes: 2, 4, 8.</summary>
    public byte AddrSize;

    /// <summary>
    /// Immediate, sign-extended to 64 bits as the instruction does it. ENTER: imm16 | level &lt;&lt; 32. Far pointer: offset | selector &lt;&lt; 32.
    /// Near branches: displacement of the target from the start of the block (<see cref="Offset"/> and length included).
    /// </summary>
    public ulong Imm;

    /// <summary>Displacement; see <see cref="OpFlags.RipRelative"/>.</summary>
    public long Disp;

    /// <summary>Address-size mask of the effective address; in branches the block they led to last.</summary>
    public ulong AddrMask;

    /// <summary>The complete handler; never null.</summary>
    public delegate*<SoftVcpu, Op*, bool> Slow;

    private ushort _code;

    /// <summary>Distance from the first byte of the block; may be negative only in what follows a branch (<see cref="SoftVcpu.FollowBranches"/>).</summary>
    public short Offset;

    /// <summary>
    /// ModRM.reg, ModRM.rm (or opcode-embedded) and VEX.vvvv (or is4) register numbers as encoded with REX/VEX, 0–15. For byte registers 16–19 are AH, CH, DH, BH.
    /// In Jcc, SETcc and CMOVcc <see cref="Reg3"/> is the condition.
    /// </summary>
    public byte Reg, Rm, Reg3;

    /// <summary>Effective segment of the memory operand.</summary>
    public SegmentName Seg;
    public OpFlags Flags;

    /// <summary>Base and index register numbers, 0xFF for none.</summary>
    public byte Base, Index;
    private int _bytesDelta;

    public Code Code
    {
        readonly get => (Code)_code;
        set => _code = (ushort)value;
    }

    public readonly bool IsMemory => (Flags & OpFlags.Memory) != 0;

    public readonly bool Has(OpFlags f) => (Flags & f) != 0;

    /// <summary>The instruction's <see cref="Length"/> raw bytes.</summary>
    public static byte* Bytes(Op* op) => (byte*)op + op->_bytesDelta;

    internal static void SetBytes(Op* op, byte* bytes) => op->_bytesDelta = (int)(bytes - (byte*)op);
}
