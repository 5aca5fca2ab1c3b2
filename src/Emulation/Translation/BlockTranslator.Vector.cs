namespace VirtPS.Emulation;

// x87 and vector instructions.
internal sealed unsafe partial class BlockTranslator
{
    /// <summary>
    /// Emits the present instruction (<see cref="_index"/>) if it is an x87 or vector one; false: the interpreter does it, and what was written is taken back.
    /// Until the last check that may miss has passed, no guest register may be changed: a miss does the whole instruction from its beginning.
    /// </summary>
    private bool EmitVector(Op* op) => false;
}
