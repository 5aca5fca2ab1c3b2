using System.Runtime.InteropServices;

namespace VirtPS.Opcodes;

/// <summary>
/// One piece of address space, below 2 GiB so that every address form reaches it. The guest maps its own copies of the same pages at the same
/// linear addresses.
/// </summary>
internal sealed unsafe partial class Layout : IDisposable
{
    public const int Page = 4096, CodePages = 2, StubPages = 6, StackPages = 8, SandboxPages = 2,
        Pages = StubPages + CodePages + 2 + SandboxPages + 1 + 2 + 1 + 1 + StackPages;

    /// <param name="at">Where it is wished to be, so that what is generated for it is the same in every process; 0: anywhere.</param>
    public Layout(nint at = 0)
    {
        const int ReadWriteExecute = 7, PrivateAnonymous32Bit = 0x2 | 0x20 | 0x40;
        nint p = Mmap(at, Pages * Page, ReadWriteExecute, PrivateAnonymous32Bit, -1, 0);
        if (p == -1)
            throw new InvalidOperationException($"No executable memory below 2 GiB (mmap, error {Marshal.GetLastPInvokeError()}).");
        Base = (byte*)p;
        // Nothing behind the code and near the sandbox, then a page that cannot be written: where faults come from.
        const int None = 0, ReadExecute = 5;
        // Present, that is; Linux would tell of a write to a page that is not there.
        *ReadOnly = 0;
        if (Mprotect((nint)CodeHole, Page, None) != 0 || Mprotect((nint)Hole, Page, None) != 0 || Mprotect((nint)ReadOnly, Page, ReadExecute) != 0)
            throw new InvalidOperationException($"mprotect, error {Marshal.GetLastPInvokeError()}.");
    }

    public byte* Base { get; }

    /// <summary>Entry and exit code and the state they load and store; native only.</summary>
    public byte* Stubs => Base;

    /// <summary>The sequence under test.</summary>
    public byte* Code => Base + StubPages * Page;

    /// <summary>What memory operands point into; two pages, so that some cross the boundary. A page before and one behind it are for gathers.</summary>
    public byte* Sandbox => CodeHole + 2 * Page;

    /// <summary>Not mapped: code that runs on over its last page's end.</summary>
    public byte* CodeHole => Code + CodePages * Page;

    /// <summary>Behind the sandbox, before nothing.</summary>
    public byte* Behind => Sandbox + SandboxPages * Page;

    /// <summary>Not mapped.</summary>
    public byte* Hole => Sandbox + (SandboxPages + 1) * Page;

    /// <summary>Mapped without the right to write.</summary>
    public byte* ReadOnly => Hole + Page;

    /// <summary>Constants that set-up code reads: small indices for gathers.</summary>
    public byte* Table => ReadOnly + Page;

    /// <summary>Where set-up code puts a mask that it loads; behind all indices.</summary>
    public ulong MaskSlot => (ulong)Table + Page - 8;

    /// <summary>What programs keep for themselves: loop counters, jump targets.</summary>
    public byte* Control => Table + Page;

    /// <summary>The upper page is compared; those below stay free for what the operating system may push.</summary>
    public byte* Stack => Control + Page;

    public byte* StackTop => Stack + (StackPages - 1) * Page;

    /// <summary>Indices for gathers: dwords, then qwords, so small that every scale stays in the sandbox.</summary>
    public void FillTable(XorShift random)
    {
        for (int i = 0; i < 512; i++)
            ((int*)Table)[i] = random.Below(400) - 200;
        for (int i = 0; i < 256; i++)
            ((long*)(Table + 2048))[i] = random.Below(400) - 200;
    }

    public void Dispose() => _ = Munmap((nint)Base, Pages * Page);

    [LibraryImport("libc", EntryPoint = "mmap", SetLastError = true)]
    private static partial nint Mmap(nint address, nuint length, int protection, int flags, int fd, long offset);

    [LibraryImport("libc", EntryPoint = "mprotect", SetLastError = true)]
    private static partial int Mprotect(nint address, nuint length, int protection);

    [LibraryImport("libc", EntryPoint = "munmap", SetLastError = true)]
    private static partial int Munmap(nint address, nuint length);
}
