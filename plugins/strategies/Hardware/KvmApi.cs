using System.Runtime.InteropServices;

namespace VirtPS.Strategy.Hardware;

/// <summary>ioctl numbers and constants of Linux KVM on x86 (Documentation/virt/kvm/api.rst; include/uapi/linux/kvm.h, arch/x86/include/uapi/asm/kvm.h).</summary>
internal static class Kvm
{
    public const int ApiVersion = 12;

    // System.
    public const uint GetApiVersion = 0xAE00, CreateVm = 0xAE01, CheckExtension = 0xAE03, GetVcpuMmapSize = 0xAE04, GetSupportedCpuid = 0xC008AE05,
        GetMsrIndexList = 0xC004AE02;

    // VM.
    public const uint CreateVcpu = 0xAE41, GetDirtyLog = 0x4010AE42, SetUserMemoryRegion = 0x4020AE46, SetTssAddress = 0xAE47,
        SetIdentityMapAddress = 0x4008AE48, EnableCap = 0x4068AEA3, SetMsrFilter = 0x4188AEC6,
        CreateIrqchip = 0xAE60, IrqLine = 0x4008AE61, GetIrqchip = 0xC208AE62, SetIrqchip = 0x8208AE63, SetGsiRouting = 0x4008AE6A, Irqfd = 0x4020AE76, CreatePit2 = 0x4040AE77,
        Ioeventfd = 0x4040AE79, SetClock = 0x4030AE7B, GetClock = 0x8030AE7C, GetPit2 = 0x8070AE9F, SetPit2 = 0x4070AEA0, SignalMsi = 0x4020AEA5;

    // vCPU.
    public const uint Run = 0xAE80, GetRegs = 0x8090AE81, SetRegs = 0x4090AE82, GetSregs = 0x8138AE83, SetSregs = 0x4138AE84, Translate = 0xC018AE85,
        Interrupt = 0x4004AE86, GetMsrs = 0xC008AE88, SetMsrs = 0x4008AE89, SetSignalMask = 0x4004AE8B, SetCpuid2 = 0x4008AE90, Nmi = 0xAE9A,
        SetGuestDebug = 0x4048AE9B, GetVcpuEvents = 0x8040AE9F, SetVcpuEvents = 0x4040AEA0, GetDebugRegs = 0x8080AEA1, SetDebugRegs = 0x4080AEA2,
        GetXsave = 0x9000AEA4, SetXsave = 0x5000AEA5, GetXcrs = 0x8188AEA6, SetXcrs = 0x4188AEA7,
        SetTscKhz = 0xAEA2, GetTscKhz = 0xAEA3, GetStatsFd = 0xAECE, SetDeviceAttr = 0x4018AEE1, GetDeviceAttr = 0x4018AEE2, HasDeviceAttr = 0x4018AEE3, GetLapic = 0x8400AE8E, SetLapic = 0x4400AE8F,
        GetMpState = 0x8004AE98, SetMpState = 0x4004AE99, ClockControl = 0xAEAD;

    // Capabilities.
    public const int CapUserMemory = 3, CapNrVcpus = 9, CapVcpuEvents = 41, CapMaxVcpus = 66, CapImmediateExit = 136, CapTscControl = 60,
        CapUserSpaceMsr = 188, CapMsrFilter = 189, CapVmTscControl = 214,
        CapIrqchip = 0, CapMpState = 14, CapIrqRouting = 25, CapIrqfd = 32, CapPit2 = 33, CapPitState2 = 35, CapIoeventfd = 36, CapAdjustClock = 39, CapTscDeadline = 72,
        CapSignalMsi = 77;

    // Exit reasons.
    public const uint ExitUnknown = 0, ExitException = 1, ExitIo = 2, ExitHypercall = 3, ExitDebug = 4, ExitHlt = 5, ExitMmio = 6, ExitIrqWindowOpen = 7,
        ExitShutdown = 8, ExitFailEntry = 9, ExitIntr = 10, ExitSetTpr = 11, ExitInternalError = 17, ExitSystemEvent = 24,
        ExitRdmsr = 29, ExitWrmsr = 30;

    /// <summary>Why an MSR access comes to us: refused by KVM, unknown to it, or filtered.</summary>
    public const uint MsrReasonInvalid = 1, MsrReasonUnknown = 2, MsrReasonFilter = 4;

    public const uint MsrFilterRead = 1, MsrFilterWrite = 2;

    /// <summary>vCPU attribute group and attribute of the offset of the guest's TSC to the host's.</summary>
    public const uint VcpuTscControl = 0, VcpuTscOffset = 0;

    public const uint MpRunnable = 0, MpUninitialized = 1, MpInitReceived = 2, MpHalted = 3, MpSipiReceived = 4;
    public const uint ChipPicMaster = 0, ChipPicSlave = 1, ChipIoApic = 2;
    public const uint RouteIrqchip = 1, RouteMsi = 2;
    public const uint IrqfdDeassign = 1;
    public const uint IoeventfdDatamatch = 1, IoeventfdDeassign = 4;

    /// <summary>KVM answers port 61h too, as far as it belongs to the timer's counter 2.</summary>
    public const uint PitSpeakerDummy = 1;

    public const uint MemLogDirtyPages = 1, MemReadOnly = 2;
    public const uint GuestDebugEnable = 1, GuestDebugSingleStep = 2;
    public const byte IoOut = 1;
    public const uint VcpuEventValidNmiPending = 1, VcpuEventValidShadow = 4;
    public const byte ShadowMovSs = 1, ShadowSti = 2;
}

[StructLayout(LayoutKind.Sequential)]
internal unsafe struct KvmRegs
{
    public ulong Rax, Rbx, Rcx, Rdx, Rsi, Rdi, Rsp, Rbp;
    public fixed ulong R8To15[8];
    public ulong Rip, Rflags;
}

[StructLayout(LayoutKind.Sequential)]
internal struct KvmSegment
{
    public ulong Base;
    public uint Limit;
    public ushort Selector;
    public byte Type, Present, Dpl, Db, S, L, G, Avl, Unusable, Padding;
}

[StructLayout(LayoutKind.Sequential)]
internal unsafe struct KvmDtable
{
    public ulong Base;
    public ushort Limit;
    public fixed ushort Padding[3];
}

[StructLayout(LayoutKind.Sequential)]
internal unsafe struct KvmSregs
{
    public KvmSegment Cs, Ds, Es, Fs, Gs, Ss, Tr, Ldt;
    public KvmDtable Gdt, Idt;
    public ulong Cr0, Cr2, Cr3, Cr4, Cr8, Efer, ApicBase;
    public fixed ulong InterruptBitmap[4];
}

[StructLayout(LayoutKind.Sequential)]
internal struct KvmUserspaceMemoryRegion
{
    public uint Slot, Flags;
    public ulong GuestPhysicalAddress, MemorySize, UserspaceAddress;
}

[StructLayout(LayoutKind.Sequential)]
internal unsafe struct KvmDirtyLog
{
    public uint Slot, Padding;
    public void* Bitmap;
}

[StructLayout(LayoutKind.Sequential)]
internal struct KvmTranslation
{
    public ulong LinearAddress, PhysicalAddress;
    public byte Valid, Writeable, Usermode, Pad0, Pad1, Pad2, Pad3, Pad4;
}

[StructLayout(LayoutKind.Sequential)]
internal unsafe struct KvmDebugRegs
{
    public fixed ulong Db[4];
    public ulong Dr6, Dr7, Flags;
    public fixed ulong Reserved[9];
}

[StructLayout(LayoutKind.Sequential)]
internal unsafe struct KvmGuestDebug
{
    public uint Control, Pad;
    public fixed ulong DebugReg[8];
}

[StructLayout(LayoutKind.Sequential)]
internal struct KvmMsrEntry
{
    public uint Index, Reserved;
    public ulong Data;
}

[StructLayout(LayoutKind.Sequential)]
internal unsafe struct KvmEnableCap
{
    public uint Cap, Flags;
    public fixed ulong Args[4];
    public fixed byte Padding[64];
}

[StructLayout(LayoutKind.Sequential)]
internal unsafe struct KvmMsrFilterRange
{
    public uint Flags, Count, Base;
    public byte* Bitmap;
}

/// <summary>Flags 0: what no range covers is allowed.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct KvmMsrFilter
{
    public uint Flags;
    public KvmMsrFilterRanges Ranges;
}

[System.Runtime.CompilerServices.InlineArray(16)]
internal struct KvmMsrFilterRanges
{
    private KvmMsrFilterRange _first;
}

[StructLayout(LayoutKind.Sequential)]
internal struct KvmDeviceAttr
{
    public uint Flags, Group;
    public ulong Attr, Addr;
}

[StructLayout(LayoutKind.Sequential)]
internal struct KvmCpuidEntry2
{
    public uint Function, Index, Flags, Eax, Ebx, Ecx, Edx, Pad0, Pad1, Pad2;

    public const uint SignificantIndex = 1;
}

[StructLayout(LayoutKind.Sequential)]
internal unsafe struct KvmVcpuEvents
{
    public byte ExceptionInjected, ExceptionNumber, ExceptionHasErrorCode, ExceptionPending;
    public uint ExceptionErrorCode;
    public byte InterruptInjected, InterruptNumber, InterruptSoft, InterruptShadow;
    public byte NmiInjected, NmiPending, NmiMasked, NmiPad;
    public uint SipiVector, Flags;
    public byte SmiSmm, SmiPending, SmiInsideNmi, SmiLatchedInit;
    public byte TripleFaultPending;
    public fixed byte Reserved[26];
    public byte ExceptionHasPayload;
    public ulong ExceptionPayload;
}

[StructLayout(LayoutKind.Sequential)]
internal unsafe struct KvmXcrs
{
    public uint Count, Flags;
    public uint Xcr0Number, Xcr0Reserved;
    public ulong Xcr0;
    public fixed ulong Rest[30];
    public fixed ulong Padding[16];
}

[StructLayout(LayoutKind.Sequential)]
internal struct KvmIrqLevel
{
    public uint Irq, Level;
}

[StructLayout(LayoutKind.Sequential)]
internal unsafe struct KvmMsi
{
    public uint AddressLow, AddressHigh, Data, Flags, DeviceId;
    public fixed byte Padding[12];
}

/// <summary>State of one 8259 or of the IOAPIC (struct kvm_irqchip); its inside is KVM's.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct KvmIrqchip
{
    public uint Chip, Padding;
    public fixed byte State[512];
}

[StructLayout(LayoutKind.Sequential)]
internal unsafe struct KvmPitConfig
{
    public uint Flags;
    public fixed uint Padding[15];
}

/// <summary>struct kvm_pit_state2: three channels of 24 bytes, flags.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct KvmPitState2
{
    /// <summary>Place of channel 0's mode, which decides whether its timer runs.</summary>
    public const int ModeOffset = 13;

    public fixed byte Channels[72];
    public uint Flags;
    public fixed uint Reserved[9];
}

/// <summary>The local APIC's register page, first KiB.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct KvmLapicState
{
    public const int TaskPriority = 0x80, TimerCurrentCount = 0x390;

    public fixed byte Registers[1024];
}

[StructLayout(LayoutKind.Sequential)]
internal unsafe struct KvmClockData
{
    public ulong Clock;
    public uint Flags, Pad0;
    public ulong Realtime, HostTsc;
    public fixed uint Padding[4];
}

[StructLayout(LayoutKind.Sequential)]
internal unsafe struct KvmIrqfd
{
    public uint Fd, Gsi, Flags, ResampleFd;
    public fixed byte Padding[16];
}

[StructLayout(LayoutKind.Sequential)]
internal unsafe struct KvmIoeventfd
{
    public ulong DataMatch, Address;
    public uint Length;
    public int Fd;
    public uint Flags;
    public fixed byte Padding[36];
}

/// <summary>struct kvm_irq_routing_entry: for chips chip and pin, for MSIs address and data.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct KvmIrqRoute
{
    public uint Gsi, Type, Flags, Pad;
    public uint ChipOrAddressLow, PinOrAddressHigh, Data;
    public fixed uint Rest[5];
}

/// <summary>The shared page of a vCPU, as far as it is used (struct kvm_run).</summary>
[StructLayout(LayoutKind.Explicit, Size = 2352)]
internal unsafe struct KvmRun
{
    [FieldOffset(0)] public byte RequestInterruptWindow;
    [FieldOffset(1)] public byte ImmediateExit;
    [FieldOffset(8)] public uint ExitReason;
    [FieldOffset(12)] public byte ReadyForInterruptInjection;
    [FieldOffset(13)] public byte IfFlag;
    [FieldOffset(16)] public ulong Cr8;
    [FieldOffset(24)] public ulong ApicBase;

    [FieldOffset(32)] public ulong HardwareReason;

    [FieldOffset(32)] public byte IoDirection;
    [FieldOffset(33)] public byte IoSize;
    [FieldOffset(34)] public ushort IoPort;
    [FieldOffset(36)] public uint IoCount;
    [FieldOffset(40)] public ulong IoDataOffset;

    [FieldOffset(32)] public ulong MmioAddress;
    [FieldOffset(40)] public fixed byte MmioData[8];
    [FieldOffset(48)] public uint MmioLength;
    [FieldOffset(52)] public byte MmioIsWrite;

    [FieldOffset(32)] public uint InternalSubError;

    [FieldOffset(32)] public byte MsrError;
    [FieldOffset(40)] public uint MsrReason;
    [FieldOffset(44)] public uint MsrIndex;
    [FieldOffset(48)] public ulong MsrData;

    [FieldOffset(32)] public uint DebugException;
    [FieldOffset(40)] public ulong DebugPc;
    [FieldOffset(48)] public ulong DebugDr6;
}
