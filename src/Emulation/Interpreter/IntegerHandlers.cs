using Iced.Intel;

namespace VirtPS.Emulation;

/// <summary>
/// The integer instruction set, complete: every operand and address size, every segment, LOCK and REP. The main loop has its own short cases for the
/// forms that programs use most and comes here for the rest.
/// </summary>
internal static unsafe partial class IntegerHandlers
{
    public static void Register(HandlerTableBuilder b)
    {
        RegisterArithmetic(b);
        RegisterShifts(b);
        RegisterMultiply(b);
        RegisterMoves(b);
        RegisterBits(b);
        RegisterStack(b);
        RegisterBranches(b);
        RegisterAtomics(b);
        RegisterDecimal(b);
        RegisterMisc(b);
        RegisterStrings(b);
        RegisterPorts(b);
    }

    private static IEnumerable<Code> Codes(Mnemonic mnemonic) => Enum.GetValues<Code>().Where(c => c.Mnemonic() == mnemonic);
}
