using VirtPS.Sdk;
using VirtPS.Sdk.Machine;

namespace VirtPS.Engine.Boot;

/// <summary>The error for an initrd (or boot module) for which there is no room.</summary>
internal static class InitrdFault
{
    /// <summary><paramref name="kernelEnd"/>: first address after the kernel; <paramref name="limit"/>: first address that the initrd may not occupy.</summary>
    public static VirtException DoesNotFit(GuestImage initrd, string kernel, ulong kernelEnd, ulong limit)
    {
        ulong needed = ((kernelEnd + 4095) & ~4095ul) + initrd.Length;
        string problem = $"{initrd.Length} bytes do not fit beside the kernel '{kernel}', which takes RAM up to 0x{kernelEnd - 1:X}";
        return needed > Math.Min(limit, PcLayout.PciMmioStart)
            ? ImageFault.Of(initrd.Name, $"{problem} and needs this file to lie below 0x{limit:X}", "Make the file smaller, or put its content on a disk.")
            : ImageFault.NeedsMemory(initrd.Name, problem, needed);
    }
}
