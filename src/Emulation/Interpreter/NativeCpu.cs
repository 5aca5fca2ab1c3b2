using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using VirtPS.Sdk.Cpu;
using VirtPS.X86;

namespace VirtPS.Emulation;

/// <summary>
/// The vCPU's state followed by what the interpreter derives from it, in one native block, so that everything is reached from one pointer.
/// <para>
/// Status flags are lazy. With all operands sign-extended to 64 bits, an addition or subtraction leaves its result in <see cref="FlagResult"/>,
/// a ^ b ^ result in <see cref="FlagXor"/> (bit 4 is AF, bit 63 the carry into the sign bit) and its carry in <see cref="FlagCarry"/>. Then
/// CF = bit 0 of FlagCarry, OF = CF ^ bit 63 of FlagXor, ZF = (FlagResult == 0), SF = sign of FlagResult ^ FlagCarry, and PF = parity of the low byte of
/// FlagResult ^ (FlagCarry >> 8). The two xors are there so that any combination of flags can be set.
/// </para>
/// </summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct NativeCpu
{
    public VcpuState State;

    /// <summary>Always zero; the "register" of an absent base or index and the base of a flat segment.</summary>
    public ulong Zero;
    public ulong FlagResult, FlagXor, FlagCarry;

    /// <summary>TLB view of the current privilege.</summary>
    public TlbEntry* Tlb;

    /// <summary>Blocks by linear address, for indirect branches.</summary>
    public Block** JumpCache;

    /// <summary>0xFFFF, 0xFFFFFFFF or all ones by the code size.</summary>
    public ulong RipMask;

    /// <summary>All ones where linear addresses have 64 bits, else 0xFFFFFFFF.</summary>
    public ulong LinearMask;

    /// <summary>Added to RIP to get the linear address of code; 0 in 64-bit mode.</summary>
    public ulong CodeBase;

    /// <summary>Changes with each TLB flush: block successors found under an older value are looked up again.</summary>
    public ulong MapGeneration;

    /// <summary>Which requests matter now: an interrupt does not while IF is clear.</summary>
    public uint RequestMask;

    /// <summary>Code size, flatness and privilege under which blocks are decoded; see <see cref="CodeMode"/>.</summary>
    public uint Mode;

    /// <summary>Leave the block after this instruction.</summary>
    public byte Leave;

    /// <summary>A handler has set RIP itself.</summary>
    public byte RipSet;

    // Shared with generated code (see Translation/Stubs.cs).

    /// <summary>The host's stack while generated code runs, and where it goes on.</summary>
    public ulong HostStack, Resume;

    /// <summary>Constants that generated code takes from memory: status flags, the other flags as PUSHF shows them, the low four bits.</summary>
    public ulong StatusMask, OtherFlagsMask, LowBitsMask;

    /// <summary>The guest's vector registers and MXCSR are in <see cref="VcpuState.Xsave"/>; zero: in the host's registers. Not zero outside generated code.</summary>
    public uint VectorIdle;

    /// <summary>Not zero: SSE and AVX instructions fault neither for control bits nor, since MXCSR masks everything, for their results.</summary>
    public uint VectorReady;

    /// <summary>As <see cref="VectorIdle"/>, of ZMM16–31 and the masks, which are in the host's registers only together with the others.</summary>
    public uint WideIdle;

    /// <summary>Not zero: nor do AVX-512 instructions fault.</summary>
    public uint WideReady;

    /// <summary>Not zero while the vector registers are in the host's: bits 256–511 of ZMM0–15 may not be zero there. Else those in the state are.</summary>
    public uint ZmmHighLive;

    /// <summary>As <see cref="VectorIdle"/>, of the x87 state.</summary>
    public uint X87Idle;

    /// <summary>Not zero: x87 and MMX instructions do not fault; everything is masked and nothing pending.</summary>
    public uint X87Ready;

    /// <summary>What managed code expects in MXCSR.</summary>
    public uint HostMxcsr;

    /// <summary>All bits but those that the distance of an aligned operand of 16, 32 or 64 bytes from its page may have.</summary>
    public ulong AlignedMask16, AlignedMask32, AlignedMask64;

    /// <summary>Where generated code itself has failed, and the signal (<see cref="HostFaults"/>).</summary>
    public ulong HostFaultRip;
    public uint HostFaultSignal;

    /// <summary>Which branch or instruction left; see <see cref="TranslatedExit"/>.</summary>
    public uint ExitSite;

    /// <summary>Byte offset of <see cref="Zero"/> from the state.</summary>
    public static readonly ushort ZeroOffset = OffsetOfZero();

    /// <summary>Byte offset of ES.Base from the state; the other segment registers follow at their size.</summary>
    public static readonly ushort SegmentBaseOffset = OffsetOfSegmentBase();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public readonly bool CF() => (FlagCarry & 1) != 0;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public readonly bool ZF() => FlagResult == 0;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public readonly bool SF() => (long)(FlagResult ^ FlagCarry) < 0;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public readonly bool OF() => (long)(FlagXor ^ (FlagCarry << 63)) < 0;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public readonly bool PF() => (BitOperations.PopCount((byte)(FlagResult ^ (FlagCarry >> 8))) & 1) == 0;

    /// <summary>SF != OF: the signed "less".</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public readonly bool Less() => (long)(FlagResult ^ FlagCarry ^ FlagXor ^ (FlagCarry << 63)) < 0;

    // Without branches: what flags a guest has is not predictable.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public readonly ulong StatusFlags() => FlagCarry & Rflags.CF | FlagXor & Rflags.AF | (~(ulong)BitOperations.PopCount((byte)(FlagResult ^ (FlagCarry >> 8))) & 1) << 2
        | (ZF() ? Rflags.ZF : 0) | (FlagResult ^ FlagCarry) >> 63 << 7 | (FlagXor ^ (FlagCarry << 63)) >> 63 << 11;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void SetStatusFlags(ulong flags)
    {
        ulong cf = flags & 1, zf = flags >> 6 & 1;
        // A result of 0 has even parity, 1 has odd; both have a clear sign.
        FlagResult = zf ^ 1;
        FlagCarry = cf | ((flags >> 2 ^ zf) & 1) << 8 | (flags & Rflags.SF) << 56;
        FlagXor = flags & Rflags.AF | ((flags >> 11 ^ cf) & 1) << 63;
    }

    private static ushort OffsetOfZero()
    {
        NativeCpu n;
        return (ushort)((byte*)&n.Zero - (byte*)&n);
    }

    private static ushort OffsetOfSegmentBase()
    {
        NativeCpu n;
        return (ushort)((byte*)&n.State.ES.Base - (byte*)&n);
    }
}
