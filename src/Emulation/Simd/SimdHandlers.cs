namespace VirtPS.Emulation;

/// <summary>x87, MMX, SSE, AVX and the XSAVE family.</summary>
internal static unsafe partial class SimdHandlers
{
    public static void Register(HandlerTableBuilder b)
    {
    }
}
