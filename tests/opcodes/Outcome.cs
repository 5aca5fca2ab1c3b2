using VirtPS.X86;

namespace VirtPS.Opcodes;

/// <summary>How a program ended: at its end, or with a fault, and everything of the processor then.</summary>
internal struct Outcome
{
    public const int ReachedEnd = -1;

    /// <summary>A program that went round until the <see cref="Watch"/> ended it: nothing to compare.</summary>
    public const int Endless = -2;

    /// <summary>A program that went into the stubs that only the host has: nothing to compare either.</summary>
    public const int Strayed = -3;

    public int Vector;
    public ulong Error, Cr2, Rip;
    public MachineImage Image;

    public readonly string Name => Vector == ReachedEnd ? "end" : Vector == Endless ? "endless" : Vector == Strayed ? "strayed" : X86.Vector.Mnemonic(Vector) ?? $"vector {Vector}";

    /// <summary>Whether the processor pushes an error code (SDM Vol. 3A §6.13).</summary>
    public static bool HasError(int vector) => vector is X86.Vector.DF or (>= X86.Vector.TS and <= X86.Vector.PF) or X86.Vector.AC;
}
