namespace VirtPS.Emulation;

/// <summary>The integer instruction set.</summary>
internal static unsafe partial class IntegerHandlers
{
    public static void Register(HandlerTableBuilder b)
    {
    }
}
