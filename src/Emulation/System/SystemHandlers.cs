namespace VirtPS.Emulation;

/// <summary>System instructions: control registers, descriptor tables, far transfers, interrupts.</summary>
internal static unsafe partial class SystemHandlers
{
    public static void Register(HandlerTableBuilder b)
    {
    }
}
