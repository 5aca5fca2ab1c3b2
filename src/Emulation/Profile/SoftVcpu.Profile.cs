using System.Collections.Immutable;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Rings;

namespace VirtPS.Emulation;

// What the engine tells of itself.
public sealed unsafe partial class SoftVcpu
{
    private readonly EngineCounters _engine = new();

    /// <summary>A block has been translated.</summary>
    private void NoteTranslation(Block* block)
    {
        _engine.Blocks++;
        _engine.GuestBytes += block->ByteCount;
        Partition.Engine.AfterTranslation?.Invoke(this, (nint)block);
    }

    /// <inheritdoc/>
    public VcpuStatistics ReadStatistics() => new() { Exits = null, Counters = ImmutableDictionary<string, ulong>.Empty, Engine = MeasureEngine() };

    private EngineMeasurement MeasureEngine()
    {
        RingCounters* c = Counters;
        Dictionary<string, ulong> left = _engine.LeftToInterpreter();
        bool translates = _cache is not null;
        return new EngineMeasurement
        {
            TranslatedBlocks = translates ? _engine.Blocks : null,
            TranslatedBytes = translates ? _engine.GuestBytes : null,
            StoredBlocks = translates ? _engine.StoredBlocks : null,
            StoredTranslations = translates ? _engine.StoredTranslations : null,
            CodeCacheSize = _cache?.Size,
            CodeCacheUsed = _cache?.Used,
            CodeCacheEvictions = translates ? _engine.Evictions : null,
            CodeEntries = translates ? _engine.Entries : null,
            InterpretedInstructions = translates ? left : null,
            SlowPaths = new Dictionary<string, ulong>
            {
                ["LeftToInterpreter"] = left.Values.Aggregate(0ul, (a, b) => a + b),
                ["AccessMiss"] = _engine.AccessMisses,
                ["OtherMiss"] = _engine.OtherMisses,
                ["LinkExit"] = _engine.Exits[(int)TranslatedExit.Link],
                ["IndirectMiss"] = _engine.Exits[(int)TranslatedExit.Indirect],
                ["UnpinnedExit"] = _engine.Exits[(int)TranslatedExit.Unpinned],
                ["Fault"] = _engine.Exits[(int)TranslatedExit.Fault],
                ["PageWalk"] = _engine.PageWalks,
                ["CodeInvalidation"] = c->CodeInvalidations,
                ["Mmio"] = c->MmioReads + c->MmioWrites,
                ["Port"] = c->PortReads + c->PortWrites,
                ["Exception"] = c->Transitions[(int)RingCause.Exception] + c->SameRing[(int)RingCause.Exception],
                ["Interrupt"] = c->Transitions[(int)RingCause.Interrupt] + c->SameRing[(int)RingCause.Interrupt],
            },
            JumpCacheHits = null,
        };
    }
}
