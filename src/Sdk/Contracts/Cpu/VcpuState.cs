using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using VirtPS.X86;

namespace VirtPS.Sdk.Cpu;

/// <summary>
/// One virtual processor's architectural state in native, 64-byte aligned memory that outlives any single entry into guest code.
/// Software backends execute on it directly; a hardware backend copies it in and out. Between <see cref="IVcpu.Run"/> calls it is
/// fresh after <see cref="IVcpu.SynchronizeState"/>. Only the owning vCPU thread writes it, except <see cref="Requests"/>, which any thread may
/// change with atomic operations.
/// </summary>
[StructLayout(LayoutKind.Sequential)]
public unsafe struct VcpuState
{
    /// <summary>General registers, indexed by <see cref="X86.Gpr"/>.</summary>
    public fixed ulong Gpr[16];

    /// <summary>Instruction pointer: an offset in CS, not a linear address.</summary>
    public ulong Rip;

    /// <summary>RFLAGS. A software backend may keep the status flags elsewhere while it runs, never between instructions that are observed.</summary>
    public ulong Rflags;

    /// <summary><see cref="VcpuRequests"/> bits; atomic OR by any thread, then <see cref="IVcpu.Kick"/>.</summary>
    public uint Requests;

    /// <summary>Current privilege level, 0–3; equals SS.DPL, 0 in real mode, 3 in virtual-8086 mode.</summary>
    public byte Cpl;

    /// <summary>Interrupts are held off for one instruction (after STI, MOV SS, POP SS): <see cref="Cpu.InterruptShadow"/>.</summary>
    public InterruptShadow InterruptShadow;

    /// <summary>An NMI handler is running; further NMIs are held until IRET.</summary>
    [MarshalAs(UnmanagedType.U1)] public bool NmiBlocked;

    public MpState MpState;

    /// <summary>An event accepted for delivery but not yet delivered; vector in bits 0–7, see <see cref="PendingEvent"/>.</summary>
    public PendingEvent Pending;

    public SegmentRegister ES, CS, SS, DS, FS, GS, TR, LDTR;
    public DescriptorTable Gdtr, Idtr;

    public ulong Cr0, Cr2, Cr3, Cr4, Efer, Xcr0;
    public ulong Dr0, Dr1, Dr2, Dr3, Dr6, Dr7;

    public ulong Star, Lstar, Cstar, Sfmask, KernelGsBase, SysenterCs, SysenterEsp, SysenterEip, TscAux, Pat, MiscEnable, SpecCtrl, Xss;

    /// <summary>Guest TSC minus the machine clock's TSC, in ticks (IA32_TSC writes change it).</summary>
    public ulong TscOffset;

    /// <summary>IA32_TSC_ADJUST.</summary>
    public ulong TscAdjust;

    /// <summary>Instructions retired since power-on (software backends; 0 where the backend cannot know).</summary>
    public ulong InstructionsRetired;

    /// <summary>Number of bytes of <see cref="Xsave"/>.</summary>
    public const int XsaveSize = 2432;

    /// <summary>Number of those that x87, SSE and AVX with the header take: what a backend without AVX-512 keeps, and where the layout is the same for every processor.</summary>
    public const int AvxXsaveSize = 832;

    /// <summary>Offset of the upper halves of YMM0–15 in the standard XSAVE format (SDM Vol. 1 §13.4).</summary>
    public const int YmmHighOffset = 576;

    /// <summary>Offset of K0–7, eight bytes each; this and the two below as on AMD's processors, which let no gap for MPX (AMD APM Vol. 2 §11.5.2, CPUID Fn0000_000D).</summary>
    public const int OpmaskOffset = 832;

    /// <summary>Offset of bits 256–511 of ZMM0–15, 32 bytes each.</summary>
    public const int ZmmHighOffset = 896;

    /// <summary>Offset of ZMM16–31, 64 bytes each.</summary>
    public const int HighZmmOffset = 1408;

    /// <summary>
    /// The VMM's own flag for a guest whose kernel runs in ring 3 (<see cref="IDeprivilegedVcpu"/>): 1 while the guest's kernel runs. Translations made with and without it are kept apart, so
    /// that a change of it together with CR3 drops none. 0 for every other guest.
    /// </summary>
    public byte GuestKernel;

    // Puts Xsave at a multiple of 64, which the XSAVE instructions want.
    private fixed byte _alignment[95];

    /// <summary>x87, SSE, AVX and AVX-512 state in standard (non-compacted) XSAVE format: legacy area, header, YMM_Hi128, opmasks, ZMM_Hi256, Hi16_ZMM. XMM0 is at 160, FCW at 0, MXCSR at 24.</summary>
    public fixed byte Xsave[XsaveSize];

    /// <summary>The four page-directory-pointer entries that PAE paging loads with CR3 (SDM Vol. 3A §4.4.1).</summary>
    public fixed ulong Pdpte[4];

    /// <summary>Number of entries of <see cref="OtherMsrs"/>.</summary>
    public const int OtherMsrCount = 64;

    /// <summary>Remaining MSRs that hold a value (MTRRs, machine check, AMD configuration …), in the backend's own encoding, in which zero is the value after power-on; part of the saved state.</summary>
    public fixed ulong OtherMsrs[OtherMsrCount];

    /// <summary>The segment register at <paramref name="name"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static SegmentRegister* Segment(VcpuState* state, SegmentName name) => &state->ES + (int)name;

    public readonly bool IsLongMode => (Efer & X86.Efer.LMA) != 0;
    public readonly bool IsProtected => (Cr0 & X86.Cr0.PE) != 0;
    public readonly bool IsVirtual8086 => (Rflags & X86.Rflags.VM) != 0 && IsProtected;

    /// <summary>The operating mode that the control registers and CS now give.</summary>
    public readonly CpuMode Mode =>
        !IsProtected ? CpuMode.Real
        : IsLongMode ? (CS.IsLong ? CpuMode.Long : CpuMode.Compatibility)
        : IsVirtual8086 ? CpuMode.Virtual8086
        : CS.IsDefault32 ? CpuMode.Protected32 : CpuMode.Protected16;

    /// <summary>Puts the processor into its state after RESET# or INIT (SDM Vol. 3A table 9-1). INIT keeps x87/SSE state, CR0.CD/NW, MSRs and the TSC.</summary>
    public static void Reset(VcpuState* state, bool init, bool bootstrap)
    {
        ulong keptCr0 = init ? state->Cr0 & (X86.Cr0.CD | X86.Cr0.NW) : X86.Cr0.CD | X86.Cr0.NW;
        for (int i = 0; i < 16; i++)
            state->Gpr[i] = 0;
        state->Gpr[(int)X86.Gpr.Rdx] = 0x600;
        state->Rip = 0xFFF0;
        state->Rflags = X86.Rflags.Fixed1;
        state->Cpl = 0;
        state->InterruptShadow = InterruptShadow.None;
        state->NmiBlocked = false;
        state->Pending = default;
        state->MpState = bootstrap ? MpState.Runnable : MpState.WaitForSipi;
        state->CS = new SegmentRegister(0xF000, 0xFFFF0000, 0xFFFF, 0x9B);
        for (SegmentName s = SegmentName.ES; s <= SegmentName.GS; s++)
        {
            if (s != SegmentName.CS)
                *Segment(state, s) = SegmentRegister.Real(0);
        }

        state->TR = new SegmentRegister(0, 0, 0xFFFF, SegmentRegister.P | SystemType.TssBusy);
        state->LDTR = new SegmentRegister(0, 0, 0xFFFF, SegmentRegister.P | SystemType.Ldt);
        state->Gdtr = state->Idtr = new DescriptorTable(0, 0xFFFF);
        state->Cr0 = keptCr0 | X86.Cr0.ET;
        state->Cr2 = state->Cr3 = state->Cr4 = state->Efer = 0;
        state->Dr0 = state->Dr1 = state->Dr2 = state->Dr3 = 0;
        state->Dr6 = 0xFFFF0FF0;
        state->Dr7 = 0x400;
        if (init)
            return;
        state->Xcr0 = X86.Xcr0.X87;
        state->Star = state->Lstar = state->Cstar = state->Sfmask = state->KernelGsBase = 0;
        state->SysenterCs = state->SysenterEsp = state->SysenterEip = state->TscAux = state->SpecCtrl = state->Xss = 0;
        state->Pat = 0x0007_0406_0007_0406;
        state->MiscEnable = 1;
        state->TscOffset = state->TscAdjust = 0;
        new Span<byte>(state->Xsave, XsaveSize).Clear();
        new Span<byte>(state->OtherMsrs, OtherMsrCount * sizeof(ulong)).Clear();
        *(ushort*)state->Xsave = 0x37F;
        *(uint*)(state->Xsave + 24) = 0x1F80;
    }
}

/// <summary>What holds off events for one instruction (SDM Vol. 3A §6.8.3).</summary>
public enum InterruptShadow : byte
{
    None,
    Sti,
    MovSs,
}

/// <summary>Multiprocessor state of a vCPU (SDM Vol. 3A §8.4).</summary>
public enum MpState : byte
{
    Runnable,
    Halted,
    WaitForSipi,
    /// <summary>Triple fault or unrecoverable error; only a reset leaves it.</summary>
    Shutdown,
}

/// <summary>Operating mode as the guest sees it.</summary>
public enum CpuMode : byte
{
    Real,
    Protected16,
    Protected32,
    Virtual8086,
    Compatibility,
    Long,
}

/// <summary>Kinds of events that can be injected (SDM Vol. 3C table 25-17 numbering).</summary>
public enum EventKind : byte
{
    None = 0xFF,
    ExternalInterrupt = 0,
    Nmi = 2,
    HardwareException = 3,
    SoftwareInterrupt = 4,
    SoftwareException = 6,
}

/// <summary>An event waiting for delivery at the next instruction boundary. All zero means none.</summary>
public record struct PendingEvent
{
    public byte Vector;
    private byte _kindPlusOne;
    private byte _hasErrorCode;
    private byte _instructionLength;
    public uint ErrorCode;

    public readonly bool IsPending => _kindPlusOne != 0;

    public EventKind Kind
    {
        readonly get => _kindPlusOne == 0 ? EventKind.None : (EventKind)(_kindPlusOne - 1);
        set => _kindPlusOne = value == EventKind.None ? (byte)0 : (byte)(value + 1);
    }

    public bool HasErrorCode
    {
        readonly get => _hasErrorCode != 0;
        set => _hasErrorCode = value ? (byte)1 : (byte)0;
    }

    /// <summary>Length in bytes of the instruction for software events; RIP is advanced by it before delivery.</summary>
    public byte InstructionLength
    {
        readonly get => _instructionLength;
        set => _instructionLength = value;
    }
}

/// <summary>Bits of <see cref="VcpuState.Requests"/>.</summary>
[Flags]
public enum VcpuRequests : uint
{
    None = 0,

    /// <summary>The interrupt controller has an interrupt for this vCPU: <see cref="IVcpu.Run"/> returns <see cref="VcpuExit.InterruptWindow"/> as soon as it can be taken. Level: cleared by who set it.</summary>
    Interrupt = 1,

    /// <summary>An NMI is waiting; the backend delivers it when not blocked, and clears the bit.</summary>
    Nmi = 2,

    /// <summary>Return <see cref="VcpuExit.Kicked"/> at the next instruction boundary; cleared on return.</summary>
    Exit = 4,

    /// <summary>The runner has work for the local APIC (messages, timer): return <see cref="VcpuExit.Kicked"/>; the runner clears it.</summary>
    LocalApic = 8,

    /// <summary>Drop all cached address translations before the next guest memory access (memory map or dirty tracking changed).</summary>
    FlushTlb = 16,

    /// <summary>The bits above this are the backend's own.</summary>
    FirstBackendBit = 1 << 16,
}
