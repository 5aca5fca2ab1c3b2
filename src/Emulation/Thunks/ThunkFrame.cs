using System.Runtime.InteropServices;

namespace VirtPS.Emulation.Thunks;

/// <summary>
/// What a thunk and its caller share: one per vCPU, native, 64-byte aligned. Generated code addresses the
/// fields by the constants.
/// </summary>
[StructLayout(LayoutKind.Explicit, Size = 1152)]
internal unsafe struct ThunkFrame
{
    /// <summary>Where the operands are: a register's place in <c>VcpuState</c>, or <see cref="Scratch"/> for memory.</summary>
    [FieldOffset(OperandOffset)]
    public fixed ulong Operand[4];

    /// <summary>The guest's general registers, for implicit RAX, RCX, RDX.</summary>
    [FieldOffset(GprsOffset)]
    public ulong* Gprs;

    /// <summary>XMM0's place, for implicit operands.</summary>
    [FieldOffset(Xmm0Offset)]
    public byte* Xmm0;

    /// <summary>Status flags in and out.</summary>
    [FieldOffset(FlagsOffset)]
    public ulong Flags;

    /// <summary>MXCSR to run with: the guest's rounding, all exceptions masked, no sticky flags.</summary>
    [FieldOffset(MxcsrInOffset)]
    public uint MxcsrIn;

    /// <summary>MXCSR after the instruction.</summary>
    [FieldOffset(MxcsrOutOffset)]
    public uint MxcsrOut;

    /// <summary>MXCSR that managed code expects.</summary>
    [FieldOffset(MxcsrHostOffset)]
    public uint MxcsrHost;

    /// <summary>A memory operand, brought in and out by the caller.</summary>
    [FieldOffset(ScratchOffset)]
    public fixed byte Scratch[64];

    /// <summary>Destination registers before an instruction that may turn out to fault.</summary>
    [FieldOffset(192)]
    public fixed byte Saved[64];

    /// <summary>x87 state for one instruction, in XSAVE format with its header; the kernel of FXSAVE hosts is the first 512 bytes.</summary>
    [FieldOffset(X87Offset)]
    public fixed byte X87[576];

    /// <summary>Vector operands of an AVX-512 instruction, 64 bytes each: ZMM0–15 and ZMM16–31 lie differently in the guest's state, so that the caller brings them in and out.</summary>
    [FieldOffset(WideOffset)]
    public fixed byte Wide[4 * 64];

    /// <summary>Mask operands of such an instruction; the last one is what the instruction itself is masked with.</summary>
    [FieldOffset(MaskOffset)]
    public fixed ulong Mask[5];

    /// <summary>The second mask that VP2INTERSECT writes.</summary>
    [FieldOffset(SecondMaskOffset)]
    public ulong SecondMask;

    public const int WriteMask = 4, WideOffset = 832, MaskOffset = 1088, SecondMaskOffset = MaskOffset + 40;

    public const int OperandOffset = 0, GprsOffset = 32, Xmm0Offset = 40, FlagsOffset = 48, MxcsrInOffset = 56, MxcsrOutOffset = 60,
        MxcsrHostOffset = 64, ScratchOffset = 128, X87Offset = 256;

    /// <summary>MXCSR after reset, which is what .NET runs with (SDM Vol. 1 §11.6.4).</summary>
    public const uint MxcsrDefault = 0x1F80;

    public static ThunkFrame* Allocate()
    {
        // SAFETY: freed by the vCPU's Dispose through Free.
        var frame = (ThunkFrame*)NativeMemory.AlignedAlloc((nuint)sizeof(ThunkFrame), 64);
        new Span<byte>(frame, sizeof(ThunkFrame)).Clear();
        frame->MxcsrHost = MxcsrDefault;
        *(ushort*)frame->X87 = 0x37F;
        *(uint*)(frame->X87 + 24) = MxcsrDefault;
        return frame;
    }

    public static void Free(ThunkFrame* frame) => NativeMemory.AlignedFree(frame);
}

/// <summary>Whose availability rules an instruction follows (SDM Vol. 2A §2.4, Vol. 3A §2.5, table 9-3).</summary>
internal enum VectorClass : byte
{
    /// <summary>x87: #NM on CR0.EM or TS.</summary>
    X87,

    /// <summary>MMX registers only: #UD on CR0.EM, #NM on TS, pending #MF.</summary>
    Mmx,

    /// <summary>XMM with an MMX register: both sets of rules.</summary>
    SseMmx,

    /// <summary>Legacy SSE.</summary>
    Sse,

    /// <summary>VEX-encoded.</summary>
    Avx,

    /// <summary>EVEX-encoded, or with a mask register for operand.</summary>
    Avx512,
}

/// <summary>Register file or place of an operand.</summary>
internal enum OperandKind : byte
{
    None,
    Xmm,
    Ymm,
    Mmx,
    Gpr,
    Memory,
    Immediate,

    /// <summary>A vector register of any width in an AVX-512 instruction.</summary>
    Wide,
    Mask,
}

/// <summary>Which bytes of its memory operand a masked instruction accesses: those of elements that the mask leaves out are not, and cannot fault (SDM Vol. 1 §15.6.4).</summary>
internal enum MaskedMemory : byte
{
    /// <summary>All of them: there is no mask, or the form reads them all whatever it is.</summary>
    Whole,

    /// <summary>Those of the elements that the mask selects.</summary>
    Elements,

    /// <summary>A broadcast: those of the elements that the mask selects for some place of the result.</summary>
    Repeated,

    /// <summary>As many elements as the mask selects, without gaps.</summary>
    Packed,
}

[Flags]
internal enum ThunkFlags : ushort
{
    None = 0,

    /// <summary>Depends on MXCSR and may set its flags.</summary>
    Mxcsr = 1,

    /// <summary>Writes the status flags.</summary>
    WritesFlags = 2,

    /// <summary>#GP(0) unless the memory operand is aligned to its size.</summary>
    Aligned = 4,
    MemoryRead = 8,
    MemoryWrite = 16,

    /// <summary>Changes x87 state into MMX state (SDM Vol. 1 §9.5.1).</summary>
    MmxTransition = 32,

    /// <summary>The rounded result may be tiny: matters while underflow is unmasked.</summary>
    MayUnderflow = 64,

    /// <summary>Returns a result in XMM0, which is not among its operands.</summary>
    WritesXmm0 = 128,

    /// <summary>Masked with a mask register.</summary>
    Masked = 256,

    /// <summary>Writes a pair of mask registers.</summary>
    TwoMasks = 512,

    /// <summary>Writes to memory only what its mask selects, but faults as if it wrote all.</summary>
    FaultsUnmasked = 1024,

    /// <summary>With {sae} or a rounding mode of its own: raises nothing, as if MXCSR masked everything.</summary>
    Silent = 2048,
}

/// <summary>One generated thunk and what its caller has to do around it. Native memory, immutable, lives as long as its <see cref="ThunkCache"/>.</summary>
internal unsafe struct ThunkInfo
{
    public delegate* unmanaged[SuppressGCTransition]<ThunkFrame*, void> Run;

    /// <summary>Byte offset, from the start of <c>VcpuState</c>, of register 0 of each operand's file.</summary>
    public fixed ushort Place[4];

    /// <summary>log2 of the distance between registers of that file.</summary>
    public fixed byte Shift[4];
    public fixed byte Kind[4];
    public byte OperandCount;

    /// <summary>Index of the memory operand, 0xFF without one.</summary>
    public byte MemoryIndex;

    /// <summary>Bytes of the memory operand.</summary>
    public byte MemorySize;
    public VectorClass Class;
    public ThunkFlags Flags;

    /// <summary>Operands written, one bit each.</summary>
    public byte Written;

    /// <summary>Bytes of an element of a floating-point result, for <see cref="ThunkFlags.MayUnderflow"/>; scalar: only the lowest counts.</summary>
    public byte ElementSize, ElementCount;

    /// <summary>How the mask bears on the memory operand, bytes of memory for each of its bits, and how many bits count.</summary>
    public MaskedMemory MaskedMemory;
    public byte MaskedSize, MaskedCount;

    public readonly bool Has(ThunkFlags f) => (Flags & f) != 0;
}
