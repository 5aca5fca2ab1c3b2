using System.Runtime.InteropServices;

namespace VirtPS.Emulation;

/// <summary>Native memory of many megabytes, in huge pages where the host gives them: it fills with few page faults, and the processor finds it with few TLB entries.</summary>
internal static unsafe partial class LargeMemory
{
    private const nuint HugePage = 2 << 20;
    private const int AdviseHugePage = 14;

    /// <summary>Memory with any contents. Throws <see cref="OutOfMemoryException"/>. To be freed by <see cref="Free"/>.</summary>
    public static byte* Allocate(nuint size)
    {
        // SAFETY: the caller owns it.
        var p = (byte*)NativeMemory.AlignedAlloc(size, HugePage);
        // A host that refuses is slower, no more.
        if (OperatingSystem.IsLinux())
            _ = Advise(p, size, AdviseHugePage);
        return p;
    }

    public static void Free(void* memory) => NativeMemory.AlignedFree(memory);

    [LibraryImport("libc", EntryPoint = "madvise")]
    private static partial int Advise(void* address, nuint length, int advice);
}
