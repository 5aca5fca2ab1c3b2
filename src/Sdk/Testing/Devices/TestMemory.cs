using System.Runtime.InteropServices;
using VirtPS.Sdk.Memory;

namespace VirtPS.Sdk.Testing;

/// <summary>Guest memory on the native heap, for tests.</summary>
public sealed unsafe class TestMemory : IHostMemoryRegion
{
    /// <param name="size">Bytes; a multiple of 4096.</param>
    public TestMemory(ulong size)
    {
        Size = size;
        // SAFETY: page-aligned, and freed once, in Dispose.
        Address = (byte*)NativeMemory.AlignedAlloc((nuint)size, 4096);
        NativeMemory.Clear(Address, (nuint)size);
    }

    public byte* Address { get; private set; }

    public ulong Size { get; }

    public int FileDescriptor => -1;

    public ulong ResidentBytes => Size;

    public void Discard(ulong offset, ulong length) => NativeMemory.Clear(Address + offset, (nuint)length);

    public void Dispose()
    {
        NativeMemory.AlignedFree(Address);
        Address = null;
    }
}
