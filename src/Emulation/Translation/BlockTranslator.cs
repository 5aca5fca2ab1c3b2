using VirtPS.Emulation.Thunks;

namespace VirtPS.Emulation;

/// <summary>
/// Turns a decoded <see cref="Block"/> into host code. One per vCPU. This file is the frame; integer instructions, memory checks, branches and vector
/// instructions are in files of their own. An instruction for which an emitter says no is left to the interpreter (<see cref="EmitInterpreted"/>).
/// </summary>
internal sealed unsafe partial class BlockTranslator
{
    private readonly TranslationCache _cache;
    private readonly CodeArena _arena;
    private readonly HostFeatures _host;
    private readonly bool _avoidPext;
    private HostAssembler _a;
    private Block* _block;

    /// <summary>Linear address of the block; for ring 3 only its place in the page is used, since its code may be mapped at many addresses.</summary>
    private ulong _rip;
    private bool _isUser;
    private int _view;
    private int _index;

    /// <summary>
    /// Where the code of each instruction begins, one more for what follows the last; then the same for the copy of a loop (<see cref="EmitLoop"/>), whose labels
    /// begin at <see cref="_copyLabels"/> while it is written.
    /// </summary>
    private readonly List<nint> _labels = [];
    private int _copyLabels;
    private readonly List<ColdPiece> _cold = [];

    /// <summary>Something rarely executed, written behind the block: how it is reached and what it does.</summary>
    private readonly record struct ColdPiece(nint Field, ColdKind Kind, int Index, int Distance)
    {
        /// <summary>How the flags are made again first.</summary>
        public Recipe Flags { get; init; }

        /// <summary>Label at which it goes on after the instruction.</summary>
        public int Resume { get; init; }

        /// <summary>It was a check for several accesses that missed.</summary>
        public bool Pinned { get; init; }

        /// <summary>What the code that it goes on at takes to be in the host's registers.</summary>
        public Loaded Loaded { get; init; }

        /// <summary>It is reached from rounds without checks, which have been counted in advance.</summary>
        public bool Rounds { get; init; }

        /// <summary>Where <see cref="ColdKind.Vectors"/> and its like go on.</summary>
        public nint Back { get; init; }
    }

    private enum ColdKind
    {
        /// <summary>A TLB miss: RCX back from where it was saved, the interpreter for instruction Index, then the next.</summary>
        Miss,

        /// <summary>The same; RCX is in R11.</summary>
        MissWithRcxInR11,

        /// <summary>A miss of the check that destroys flags: they are made again first.</summary>
        MissWithoutFlags,

        /// <summary>The interpreter for instruction Index; flags are on the stack.</summary>
        MissWithFlagsPushed,

        /// <summary>The flags are in AX, RAX in memory (<see cref="Stubs.EmitFlagsAside"/>).</summary>
        MissWithFlagsAside,

        /// <summary>The vector registers are not loaded: loads them.</summary>
        Vectors,

        /// <summary>The AVX-512 state is not loaded: loads it, and with it the vector registers.</summary>
        Wide,

        /// <summary>The x87 state is not loaded: loads it.</summary>
        X87,

        /// <summary>A taken branch: count Index instructions, go to Distance.</summary>
        Branch,

        /// <summary>The loop's rounds without checks.</summary>
        Rounds,

        /// <summary>The loop, of so many instructions (Index), only counts: rounds that need not be made.</summary>
        Counted,

        /// <summary>Somebody wants attention: leave for the start of the block. The second form has RCX in R10.</summary>
        Asked,
        AskedWithRcxSaved,
    }

    public BlockTranslator(TranslationCache cache, CodeArena arena, EngineOptions engine)
    {
        _host = engine.Host;
        _avoidPext = engine.AvoidPext;
        _cache = cache;
        _arena = arena;
    }

    /// <summary>Whether blocks of a mode are translated at all.</summary>
    public static bool Handles(uint mode) => (mode & CodeMode.Checked) == 0
        && ((mode & CodeMode.SizeMask) == CodeMode.Bits64 || (mode & (CodeMode.SizeMask | CodeMode.Flat)) == (CodeMode.Bits32 | CodeMode.Flat));

    /// <summary>
    /// Translates a block that is at <paramref name="linear"/> now, as <paramref name="decoded"/>: itself, or with what follows its last branch. False: there is no slot left for its guard.
    /// </summary>
    public bool Translate(Block* block, Block* decoded, ulong linear)
    {
        if (!TryWrite(decoded, linear, pins: true))
            return false;
        block->EntryLinear = decoded->EntryLinear = linear;
        _cache.Commit(block, decoded, _a);
        return true;
    }

    /// <summary>The same, for a block that is translated, with a check for each access; the first translation's checks that miss lead here from now on.</summary>
    public void TranslateUnpinned(Block* block)
    {
        TryWrite(block, block->EntryLinear, pins: false);
        _cache.CommitUnpinned(block, _a, System.Runtime.InteropServices.CollectionsMarshal.AsSpan(_labels));
    }

    private bool TryWrite(Block* block, ulong linear, bool pins, RelocationList? relocations = null)
    {
        _a = _cache.Begin(relocations);
        _block = block;
        _rip = linear;
        _isUser = (block->Mode & CodeMode.User) != 0;
        _code64 = (block->Mode & CodeMode.SizeMask) == CodeMode.Bits64;
        _view = _isUser ? SoftVcpu.ViewUser : (block->Mode & CodeMode.SmapOff) != 0 ? SoftVcpu.ViewSupervisorAc : SoftVcpu.ViewSupervisor;
        _cold.Clear();
        // The block's own labels come first: copies begin in the middle of the block.
        _labels.Clear();
        for (int i = 0; i <= block->Count; i++)
            _labels.Add(0);
        _copyLabels = 0;
        _loaded = default;
        _hasLoop = _inRounds = _inTableRounds = _dirty10 = _dirty11 = false;
        ForgetHeld();
        _followsBackwards = FollowsBackwards(block);
        FindFacts();
        PlanPins(pins);
        _savesOperands = pins;
        if (block->CrossesPage && !EmitGuard())
            return false;
        for (_index = 0; _index < block->Count; _index++)
        {
            // The second translation is entered in its middle.
            if (!pins)
                ForgetHeld();
            _labels[_index] = (nint)_a.Next;
            EmitInstruction(block->Ops + _index);
        }

        ForgetHeld();

        _labels[_index] = (nint)_a.Next;
        if (!block->Ops[_index - 1].Has(OpFlags.EndsBlock))
            EmitEdge(Block.EndOf(block), _index);
        EmitCold();
        return true;
    }

    private void EmitInstruction(Op* op)
    {
        SaveOperands();
        if (TryEmit(op))
        {
            FollowFlags(op);
            FollowAddend();
            return;
        }

        DropPins();
        ForgetHeld();
        // It was thought to become host code that needs no flags; the interpreter shows them should it fault.
        if (CanMakeFlags)
            EmitRecipe(_recipe);
        EmitInterpreted();
        _recipe = default;
    }

    /// <summary>A rarely executed piece for the present instruction, reached through the branch at <paramref name="field"/>.</summary>
    private void AddMiss(byte* field, ColdKind kind, Recipe flags = default) => _cold.Add(new ColdPiece((nint)field, kind, _index, 0)
    {
        Flags = flags,
        Resume = _copyLabels + _index + 1,
        Pinned = _checkingPin,
        Loaded = _loaded,
        Rounds = _inRounds,
    });

    /// <summary>The branch at <paramref name="field"/>, when taken, leaves the block for <paramref name="distance"/> from its start.</summary>
    private void AddBranch(byte* field, int distance) => _cold.Add(new ColdPiece((nint)field, ColdKind.Branch, _index + 1, distance) { Rounds = _inRounds });

    private bool TryEmit(Op* op)
    {
        if ((op->Has(OpFlags.RipRelative) && op->AddrSize != 8) || !IsReachable(op))
            return false;
        HostAssembler before = _a;
        int cold = _cold.Count;
        int links = _cache.NextLink;
        Loaded loaded = _loaded;
        int addend = _addendPin;
        (int held10, int held11, bool dirty10, bool dirty11) = (_held10, _held11, _dirty10, _dirty11);
        if (EmitInteger(op) || EmitStack(op) || EmitStack32(op) || EmitBranch(op) || EmitSystem(op) || EmitString(op) || EmitVector(op) || EmitX87(op))
            return true;
        if (links != _cache.NextLink)
            throw new InvalidOperationException("An emitter gave up after it had made a link.");
        _a = before;
        _loaded = loaded;
        _addendPin = addend;
        (_held10, _held11, _dirty10, _dirty11) = (held10, held11, dirty10, dirty11);
        _cold.RemoveRange(cold, _cold.Count - cold);
        return false;
    }

    /// <summary>The present instruction by the interpreter; execution goes on behind it.</summary>
    private void EmitInterpreted()
    {
        bool ends = _block->Ops[_index].Has(OpFlags.EndsBlock);
        _block->Ops[_index].Flags |= OpFlags.LeftToInterpreter;
        EmitSite(_index, ends ? 0 : Kept(_loaded));
        _a.Call(_cache.Stubs.Interpret);
        // The interpreter never comes back to the code behind an instruction that ends its block.
        if (ends)
        {
            _a.Byte(0x0F);
            _a.Byte(0x0B);
        }
    }

    /// <summary>In a site: what the code behind takes to be loaded.</summary>
    private static uint Kept(Loaded loaded) => (loaded.Vectors ? Stubs.KeepVectors : 0) | (loaded.X87 ? Stubs.KeepX87 : 0) | (loaded.Wide ? Stubs.KeepWide : 0);

    /// <summary>Names an instruction to the interpreter, in R11.</summary>
    private void EmitSite(int index, uint flags = 0) => _a.MoveSite(HostReg.R11, _arena.IndexOf(_block->Ops), index, flags);

    /// <summary>The number of the next link, in R11.</summary>
    private void EmitLinkNumber() => _a.MoveLink(HostReg.R11, _cache.FirstLink, _cache.NextLink);

    private void EmitCold()
    {
        // Rounds without checks have rare pieces of their own.
        for (int i = 0; i < _cold.Count; i++)
        {
            ColdPiece piece = _cold[i];
            _recipe = default;
            ForgetHeld();
            _inRounds = piece.Rounds;
            _a.Bind((byte*)piece.Field);
            if (piece.Kind == ColdKind.Branch)
            {
                EmitEdge(piece.Distance, piece.Index);
                continue;
            }

            _loaded = piece.Loaded;
            if (piece.Kind == ColdKind.Rounds)
            {
                EmitRounds(piece);
                continue;
            }

            if (piece.Kind == ColdKind.Counted)
            {
                EmitCounted(piece);
                continue;
            }

            if (piece.Kind is ColdKind.Asked or ColdKind.AskedWithRcxSaved)
            {
                EmitAsked(piece);
                continue;
            }

            if (piece.Kind is ColdKind.Vectors or ColdKind.Wide or ColdKind.X87)
            {
                // The flags may be gone: an instruction that faults must show them.
                _a.Move(HostReg.Rcx, HostReg.R10);
                if (piece.Flags.Kind != RecipeKind.None)
                    EmitRecipe(piece.Flags);
                EmitSite(piece.Index);
                _a.Call(piece.Kind == ColdKind.X87 ? _cache.Stubs.X87Gate : piece.Kind == ColdKind.Wide ? _cache.Stubs.WideGate : _cache.Stubs.VectorGate);
                _a.Jump((byte*)piece.Back);
                continue;
            }

            if (piece.Kind == ColdKind.MissWithRcxInR11)
                _a.Move(HostReg.Rcx, HostReg.R11);
            if (piece.Kind == ColdKind.Miss)
                _a.Load(HostReg.Rcx, HostMemory.State(VcpuMemory.SaveOffset));
            if (piece.Kind == ColdKind.MissWithFlagsPushed)
                _a.Byte(0x9D);
            if (piece.Kind == ColdKind.MissWithFlagsAside)
                Stubs.EmitFlagsBack(ref _a);
            if (piece.Flags.Kind != RecipeKind.None)
                EmitRecipe(piece.Flags);
            if (piece.Rounds)
            {
                // A block that begins with this instruction does the rest of the round.
                EmitEdge(_block->Ops[piece.Index].Offset, piece.Index);
                continue;
            }

            if (piece.Pinned)
            {
                // What the second translation checks before this instruction, and this one does not, may have had it save the flags.
                if (piece.Flags.Kind != RecipeKind.Saved)
                    EmitSaveFlags();
                EmitUnpinned(piece.Index);
                continue;
            }

            EmitSite(piece.Index, Kept(piece.Loaded));
            _a.Call(_cache.Stubs.Interpret);
            _a.Jump((byte*)_labels[piece.Resume]);
        }
    }
}
