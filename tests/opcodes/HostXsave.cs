using System.Runtime.Intrinsics.X86;
using VirtPS.Sdk.Cpu;
using VirtPS.X86;

namespace VirtPS.Opcodes;

/// <summary>
/// The host's own XSAVE area in the standard format (SDM Vol. 1 §13.4). AVX-512 stands at other places there than in <see cref="VcpuState.Xsave"/> where the processor has, or had, components between AVX's and it.
/// </summary>
internal static unsafe class HostXsave
{
    private static readonly (int Host, int Ours, int Length)[] s_components = Find();

    /// <summary>Bytes, with the components that take part.</summary>
    public static int Size { get; } = s_components.Max(c => c.Host + c.Length);

    public static void FromImage(MachineImage* image, byte* host)
    {
        foreach ((int at, int ours, int length) in s_components)
            Buffer.MemoryCopy(image->Xsave + ours, host + at, length, length);
    }

    public static void ToImage(byte* host, MachineImage* image)
    {
        foreach ((int at, int ours, int length) in s_components)
            Buffer.MemoryCopy(host + at, image->Xsave + ours, length, length);
    }

    private static (int Host, int Ours, int Length)[] Find()
    {
        // Legacy region, header and AVX have the same places everywhere that offers AVX.
        (int, int, int) first = (0, 0, VcpuState.OpmaskOffset);
        return HostVectors.WhyNarrow != null
            ? [first]
            : [first, (OffsetOf(5), VcpuState.OpmaskOffset, 64), (OffsetOf(6), VcpuState.ZmmHighOffset, 512), (OffsetOf(7), VcpuState.HighZmmOffset, 1024)];
    }

    private static int OffsetOf(int component) => X86Base.CpuId(0xD, component).Ebx;
}
