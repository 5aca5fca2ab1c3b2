using System.Runtime.InteropServices;

namespace VirtPS.Nested.Runner;

/// <summary>
/// Writes one byte to an I/O port of the machine this process runs on; QEMU's isa-debug-exit ends QEMU by it. The cloud kernel has no /dev/port, so the instruction itself is
/// needed.
/// </summary>
internal static unsafe partial class DebugExit
{
    private const int ProtReadWriteExecute = 7, MapPrivateAnonymous = 0x22;

    public static void Write(ushort port, byte value)
    {
        if (IoPermissionLevel(3) != 0)
            throw new InvalidOperationException($"iopl: {Marshal.GetLastPInvokeErrorMessage()}");
        byte* page = (byte*)Map(null, 4096, ProtReadWriteExecute, MapPrivateAnonymous, -1, 0);
        if ((nint)page == -1)
            throw new InvalidOperationException($"mmap: {Marshal.GetLastPInvokeErrorMessage()}");
        // mov edx, edi; mov eax, esi; out dx, al; ret
        ReadOnlySpan<byte> code = [0x89, 0xFA, 0x89, 0xF0, 0xEE, 0xC3];
        code.CopyTo(new Span<byte>(page, 4096));
        // SAFETY: the page holds exactly the function that the signature says, in the System V calling convention.
        ((delegate* unmanaged<uint, uint, void>)page)(port, value);
    }

    [LibraryImport("libc", EntryPoint = "iopl", SetLastError = true)]
    private static partial int IoPermissionLevel(int level);

    [LibraryImport("libc", EntryPoint = "mmap", SetLastError = true)]
    private static partial void* Map(void* address, nuint length, int protection, int flags, int fd, nint offset);
}
