using System.Runtime.InteropServices;

namespace VirtPS.Strategy.Para;

/// <summary>struct vcpu_info (public/xen.h), 64 bytes.</summary>
[StructLayout(LayoutKind.Explicit, Size = 64)]
internal struct VcpuInfo
{
    [FieldOffset(0)] public byte UpcallPending;
    [FieldOffset(1)] public byte UpcallMask;
    [FieldOffset(8)] public ulong PendingSelector;
    [FieldOffset(16)] public ulong Cr2;
    [FieldOffset(32)] public VcpuTime Time;
}

/// <summary>struct vcpu_time_info (public/xen.h), 32 bytes.</summary>
[StructLayout(LayoutKind.Explicit, Size = 32)]
internal struct VcpuTime
{
    /// <summary>Odd while the record changes.</summary>
    [FieldOffset(0)] public uint Version;
    [FieldOffset(8)] public ulong TscTimestamp;

    /// <summary>Nanoseconds since power-on at <see cref="TscTimestamp"/>.</summary>
    [FieldOffset(16)] public ulong SystemTime;
    [FieldOffset(24)] public uint TscToSystemMul;
    [FieldOffset(28)] public sbyte TscShift;

    /// <summary>Bit 0: the TSC is stable, the record need not be read again.</summary>
    [FieldOffset(29)] public byte Flags;
}
