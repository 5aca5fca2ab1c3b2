using System.Runtime.CompilerServices;

namespace VirtPS.Emulation;

/// <summary>
/// The tables that say what an instruction is, derived from Iced's when they are first used: some 40 ms, which the first instruction of a guest would wait for. <see cref="BeginMaking"/>
/// makes them while the rest of the machine is made.
/// </summary>
internal static class DecodingTables
{
    /// <summary>Begins, on another thread. Whoever needs a table before it is there waits for it.</summary>
    public static void BeginMaking() => Task.Run(() =>
    {
        RuntimeHelpers.RunClassConstructor(typeof(HandlerTable).TypeHandle);
        RuntimeHelpers.RunClassConstructor(typeof(OperandLayout).TypeHandle);
        RuntimeHelpers.RunClassConstructor(typeof(MsrTable).TypeHandle);
    });
}
