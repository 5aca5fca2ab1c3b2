using System.Runtime.Intrinsics.X86;

namespace VirtPS.Opcodes;

/// <summary>Whose processor the host has: where vendors differ within what their manuals say, the emulator does as AMD's do.</summary>
internal static class HostVendor
{
    /// <summary>CPUID leaf 0 says GenuineIntel.</summary>
    public static bool IsIntel { get; } = X86Base.CpuId(0, 0) is { Ebx: 0x756E6547, Edx: 0x49656E69, Ecx: 0x6C65746E };
}
