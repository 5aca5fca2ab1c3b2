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

    /// <summary>The handle of the <see cref="SoftVcpu"/>, and what generated code calls to interpret one instruction.</summary>
    public nint Self, InterpretHelper;

    /// <summary>The host's stack while generated code runs, and where to go on after a helper or an entry.</summary>
    public ulong HostStack, Resume;

    /// <summary>Constants that generated code takes from memory: status flags, the other flags as PUSHF shows them, the low four bits.</summary>
    public ulong StatusMask, OtherFlagsMask, LowBitsMask;

    /// <summary>As <see cref="InterpretHelper"/>, to the end of the block.</summary>
    public nint InterpretRestHelper;

    /// <summary>The guest's vector registers and MXCSR are in <see cref="VcpuState.Xsave"/>; zero: in the host's registers. Not zero outside generated code.</summary>
    public uint VectorIdle;

    /// <summary>Not zero: SSE and AVX instructions fault neither for control bits nor, since MXCSR masks everything, for their results.</summary>
    public uint VectorReady;

    /// <summary>As <see cref="VectorIdle"/>, of the x87 state.</summary>
    public uint X87Idle;

    /// <summary>Not zero: x87 and MMX instructions do not fault; everything is masked and nothing pending.</summary>
    public uint X87Ready;

    /// <summary>What managed code expects in MXCSR.</summary>
    public uint HostMxcsr;

    /// <summary>All bits but those that the distance of an aligned operand of 16 or 32 bytes from its page may have.</summary>
    public ulong AlignedMask16, AlignedMask32;

    /// <summary>Where generated code itself has failed, and the signal (<see cref="HostFaults"/>).</summary>
    public ulong HostFaultRip;
    public uint HostFaultSignal;

    /// <summary>Which branch left; see <see cref="TranslatedExit.Link"/>.</summary>
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

    public readonly ulong StatusFlags()
    {
        ulong f = FlagCarry & Rflags.CF | FlagXor & Rflags.AF;
        if (PF())
            f |= Rflags.PF;
        if (ZF())
            f |= Rflags.ZF;
        if (SF())
            f |= Rflags.SF;
        if (OF())
            f |= Rflags.OF;
        return f;
    }

    public void SetStatusFlags(ulong flags)
    {
        ulong cf = flags & 1;
        // A result of 0 has even parity, 1 has odd; both have a clear sign.
        ulong result = (flags & Rflags.ZF) != 0 ? 0ul : 1ul;
        bool pf = (flags & Rflags.PF) != 0;
        ulong flip = pf == (result == 0) ? 0ul : 0x100ul;
        FlagResult = result;
        FlagCarry = cf | flip | ((flags & Rflags.SF) << 56);
        FlagXor = flags & Rflags.AF | ((((flags >> 11) ^ cf) & 1) << 63);
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
