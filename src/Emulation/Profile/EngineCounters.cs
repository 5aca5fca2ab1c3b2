using System.Runtime.CompilerServices;
using Iced.Intel;

namespace VirtPS.Emulation;

/// <summary>What one vCPU's engine counts, beside generated code and never in it. Written by the vCPU's thread, read by any: a reader may see counters some instructions apart.</summary>
internal sealed class EngineCounters
{
    private readonly ulong[] _left = new ulong[(int)Enum.GetValues<Code>().Max() + 1];

    /// <summary>Ways out of generated code, by <see cref="TranslatedExit"/>.</summary>
    public readonly ulong[] Exits = new ulong[(int)TranslatedExit.HostFault + 1];

    /// <summary>Blocks, and translations among them, that came from the <see cref="TranslationStore"/>.</summary>
    public ulong StoredBlocks, StoredTranslations;

    public ulong Entries, Blocks, GuestBytes, Evictions, AccessMisses, OtherMisses, PageWalks;

    /// <summary>Generated code calls the interpreter for an instruction.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public unsafe void CountCall(Op* op)
    {
        if (op->Has(OpFlags.LeftToInterpreter))
            _left[(int)op->Code]++;
        else
            CountMiss(op);
    }

    private unsafe void CountMiss(Op* op)
    {
        if (op->IsMemory || op->Code is Code.Push_r64 or Code.Pop_r64 or Code.Retnq or Code.Call_rel32_64 or Code.Leaveq or Code.Pushfq or Code.Pushq_imm8 or Code.Pushq_imm32)
            AccessMisses++;
        else
            OtherMisses++;
    }

    /// <summary>Instructions that no host code is made for, by mnemonic in lower case, all of them.</summary>
    public Dictionary<string, ulong> LeftToInterpreter()
    {
        var counts = new Dictionary<string, ulong>();
        for (int i = 0; i < _left.Length; i++)
        {
            if (_left[i] == 0)
                continue;
            string name = ((Code)i).Mnemonic().ToString().ToLowerInvariant();
            counts[name] = counts.GetValueOrDefault(name) + _left[i];
        }

        return counts;
    }
}
