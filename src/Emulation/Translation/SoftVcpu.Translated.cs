using System.Runtime.CompilerServices;
using VirtPS.Emulation.Thunks;
using VirtPS.Sdk.Cpu;
using VirtPS.X86;

namespace VirtPS.Emulation;

// The vCPU's side of generated code: getting in and out of it, and what it asks for.
public sealed unsafe partial class SoftVcpu
{
    /// <summary>Heat of a block that the interpreter keeps.</summary>
    private const int NeverHot = int.MaxValue;
    private const int MaxStalePages = 64;

    private TranslationCache? _cache;
    private BlockTranslator? _translator;
    private int _faultRange = -1;

    /// <summary>Counts up when anything that the TLB said may not hold any more.</summary>
    private uint _tlbChanges;

    /// <summary>Pages whose code changed; under the partition's CodeLock. More than there is room for: all are looked at.</summary>
    private readonly ulong[] _stalePages = new ulong[MaxStalePages];
    private int _stalePageCount;
    private JumpCache? _userJumps, _supervisorJumps;

    /// <summary>Something of ring 3's that holds only as long as its pages stay mapped has been filled since the last flush; so have supervisor jumps to pages that are not global.</summary>
    private bool _userJumpsUsed, _localJumps;

    /// <summary>Bits of CR4 and XCR0 without which vector instructions fault. A host without AVX lends SSE instructions only, which XCR0 does not govern.</summary>
    private ulong _vectorControls, _vectorComponents;

    private int HeatOf(uint mode) => _cache is not null && BlockTranslator.Handles(mode) ? Partition.Engine.HotAfter : NeverHot;

    private void InitializeTranslation()
    {
        _memory.SetJumpsOpen(true);
        if (!Partition.Engine.Translate || !EngineOptions.CanTranslate)
            return;
        _cache = new TranslationCache(Partition.Engine.CodeCacheSize, (ulong*)(_memory.StackPointer + VcpuMemory.SlotOffset), Partition.Engine.Host);
        _translator = new BlockTranslator(_cache, _arena!, Partition.Engine);
        if (Partition.Engine.LockStep)
            _lockStep = new LockStep(this);
        _faultRange = HostFaults.Instance?.Add(_cache.Start, _cache.Size, _cache.Stubs.ExitFault + _cache.Shift, _memory.StackPointer) ?? -1;
        N->StatusMask = Rflags.Status;
        N->OtherFlagsMask = ~(Rflags.Status | Rflags.RF | Rflags.VM);
        N->LowBitsMask = 15;
        bool avx = Partition.Engine.Host.Avx;
        _vectorControls = avx ? Cr4.OSFXSR | Cr4.OSXSAVE : Cr4.OSFXSR;
        _vectorComponents = avx ? Xcr0.Sse | Xcr0.Avx : 0;
        N->VectorIdle = N->WideIdle = N->X87Idle = 1;
        N->HostMxcsr = ThunkFrame.MxcsrDefault;
        N->AlignedMask16 = ~0xFF0ul;
        N->AlignedMask32 = ~0xFE0ul;
        N->AlignedMask64 = ~0xFC0ul;
        JumpCache.FillEmpty((ulong*)(_memory.StackPointer + VcpuMemory.NoJumpsOffset), VcpuMemory.JumpEntries);
        _userJumps = new JumpCache(_memory.StackPointer + VcpuMemory.JumpOffset + VcpuMemory.JumpCacheBytes, _cache.Executable(_cache.Stubs.ExitNowhere));
        _supervisorJumps = new JumpCache(_memory.StackPointer + VcpuMemory.JumpOffset, _cache.Executable(_cache.Stubs.ExitNowhere));
    }

    private void FreeTranslation()
    {
        if (_faultRange >= 0)
            HostFaults.Instance!.Remove(_faultRange);
        _cache?.Dispose();
        _lockStep?.Dispose();
    }

    /// <summary>Generated code; null under the interpreter.</summary>
    internal TranslationCache? Translations => _cache;

    /// <summary>Translations made since the cache was last emptied.</summary>
    internal int TranslatedBlocks => _cache?.TranslationCount ?? 0;

    /// <summary>Translates the block at an address of the present mode without executing it (tests); its index.</summary>
    internal int TranslateOnly(ulong linear)
    {
        Block* block = FindBlock(linear);
        return block != null && MakeCode(block, linear) ? block->Translation : 0;
    }

    private bool TranslationsAreFull => _cache is not null && _cache.IsFull;

    /// <summary>All blocks are gone.</summary>
    private void ForgetTranslations()
    {
        if (_cache is null)
            return;
        _engine.Evictions++;
        _cache.Clear();
        ClearJumps(user: true);
        ClearJumps(user: false);
    }

    /// <summary>
    /// Executes from S->Rip on: blocks that have been executed often in generated code, others in the interpreter.
    /// </summary>
    private Executed ExecuteTranslated()
    {
        NativeCpu* n = N;
        int pendingLink = 0;
        for (;;)
        {
            if (Volatile.Read(ref *(uint*)_memory.Hot(VcpuMemory.AttentionOffset)) != 0)
            {
                *(uint*)_memory.Hot(VcpuMemory.AttentionOffset) = 0;
                _memory.SetJumpsOpen(true);
                Interlocked.MemoryBarrier();
            }

            if ((Volatile.Read(ref S->Requests) & n->RequestMask) != 0)
                return Executed.Left;
            Block* block = FindBlock((S->Rip + n->CodeBase) & n->LinearMask);
            if (block == null)
                return n->Leave != 0 ? Executed.Left : Executed.Fault;
            if (!HasCode(block, S->Rip))
            {
                pendingLink = 0;
                Executed e = Execute();
                if (e != Executed.Hot)
                    return e;
                block = FindBlock((S->Rip + n->CodeBase) & n->LinearMask);
                if (block == null)
                    return n->Leave != 0 ? Executed.Left : Executed.Fault;
                if (!MakeCode(block, S->Rip))
                {
                    if (_cache!.IsFull)
                        return Executed.Left;
                    continue;
                }
            }

            if (pendingLink != 0)
                ConnectLink(pendingLink, block);
            pendingLink = 0;
            if (_wantsJump)
                FillJump(S->Rip, block);
            _wantsJump = false;
            switch (EnterCode(block))
            {
                case TranslatedExit.Link:
                    pendingLink = (int)n->ExitSite;
                    S->Rip = TargetOf(pendingLink);
                    break;
                case TranslatedExit.Indirect:
                    if ((ulong)((long)S->Rip << 16 >> 16) != S->Rip && n->ExitSite != Stubs.NoSite)
                        return BranchAgain(n->ExitSite);
                    if (_lockStep is null)
                        FillJump(S->Rip);
                    break;
                case TranslatedExit.Unpinned:
                    Unpin(n->ExitSite);
                    // Without a second translation a check at the start of a block would miss for ever.
                    if (_cache!.IsFull)
                        return Executed.Left;
                    break;
                case TranslatedExit.Continue:
                    break;
                case TranslatedExit.Leave:
                    return Executed.Left;
                case TranslatedExit.Fault:
                    return Executed.Fault;
                default:
                    string report = FaultReport.Write(_cache!, S, n->HostFaultRip, (int)n->HostFaultSignal);
                    Partition.Options.Log.Write(Sdk.LogLevel.Error, report);
                    throw new InvalidOperationException(report[..report.IndexOf('\n')].TrimEnd());
            }
        }
    }

    /// <summary>Whether a block may be entered here: a supervisor's only at the address that it was translated for.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static bool HasCode(Block* block, ulong linear) =>
        block->Translation != 0 && ((block->Mode & CodeMode.User) != 0 || block->EntryLinear == linear);

    /// <summary>Translates a hot block. False: it is to be interpreted, or the cache is full.</summary>
    private bool MakeCode(Block* block, ulong linear)
    {
        if (HasCode(block, linear))
            return true;
        if ((block->Linear == NoLinear && !block->CrossesPage) || !BlockTranslator.Handles(block->Mode))
        {
            block->Heat = NeverHot;
            return false;
        }

        if (_cache!.IsFull)
        {
            block->Heat = 0;
            return false;
        }

        if (block->Translation != 0)
        {
            // The same code at another address: there may be thousands, so the next one has to wait longer.
            _cache.Abandon(block);
            ClearJumps(user: false);
        }

        block->Heat = 0;
        Block* code = TraceOf(block);
        if (code == block)
            code = FollowBranches(block, linear);
        if (code != block && TakeStoredCode(block, code, linear))
            return true;
        if (!_translator!.Translate(block, code, linear))
        {
            block->Heat = NeverHot;
            return false;
        }

        NoteTranslation(code);
        return true;
    }

    /// <summary>Executes generated code until it leaves, and interprets what it asks for meanwhile.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)] // calls of native code are not compiled in advance, and this one should be fast at once
    private TranslatedExit EnterCode(Block* block)
    {
        NativeCpu* n = N;
        KeepJumpsOf(block->Mode);
        *_memory.Hot(VcpuMemory.RetiredOffset) = 0;
        SetReady();
        *_memory.Hot(VcpuMemory.PageBaseOffset) = S->Rip & ~0xFFFul;
        _lockStep?.Begin(_cache!.At(block->Translation).Decoded, 0);
        *_memory.Hot(VcpuMemory.FlagsOffset) = Stubs.PackFlags(n->StatusFlags());
        var enter = (delegate* unmanaged<byte*, byte*, int>)(_cache!.Stubs.Enter + _cache.Shift);
        var resume = (delegate* unmanaged<byte*, int>)(_cache.Stubs.Resume + _cache.Shift);
        var exit = (TranslatedExit)enter(_memory.StackPointer, _cache.Executable(block->Translation));
        while (exit is TranslatedExit.Interpret or TranslatedExit.InterpretRest)
        {
            exit = exit == TranslatedExit.Interpret ? InterpretSite(n->ExitSite) : InterpretRest(n->ExitSite);
            if (exit != TranslatedExit.None && !(exit is TranslatedExit.Leave or TranslatedExit.Continue && GoesOn()))
                break;
            exit = (TranslatedExit)resume(_memory.StackPointer);
        }

        S->InstructionsRetired += *_memory.Hot(VcpuMemory.RetiredOffset);
        _engine.Entries++;
        _engine.Exits[(int)exit]++;
        if (exit is TranslatedExit.Link or TranslatedExit.Indirect or TranslatedExit.Unpinned)
            n->SetStatusFlags(Stubs.UnpackFlags(*_memory.Hot(VcpuMemory.FlagsOffset)));
        if (_lockStep is not null)
            EndLockStep(exit);
        return exit;
    }

    /// <summary>
    /// After <see cref="TranslatedExit.Unpinned"/>: makes the block's second translation, to which its checks lead from now on. This time execution goes on behind what is done, in a
    /// block of its own.
    /// </summary>
    private void Unpin(uint site)
    {
        uint index = site & Relocation.SiteIndexMask;
        Op* op = _arena!.OpAt((int)(site >> Relocation.SiteIndexBits));
        var block = (Block*)(op - index) - 1;
        S->Rip = StartOf(block) + (ulong)op->Offset;
        S->InstructionsRetired += index;
        if (block->Translation == 0 || !block->IsFresh || _cache!.IsFull)
            return;
        _translator!.TranslateUnpinned(block);
        Partition.Engine.AfterTranslation?.Invoke(this, (nint)block);
    }

    /// <summary>Linear address of the start of the block that generated code is in.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal ulong StartOf(Block* block) =>
        (block->Mode & CodeMode.User) != 0 ? *_memory.Hot(VcpuMemory.PageBaseOffset) | block->Gpa & 0xFFF : block->EntryLinear;

    private ulong TargetOf(int link)
    {
        ref Link l = ref _cache!.LinkAt(link);
        return (StartOf(l.From) + (ulong)(long)l.Distance) & N->RipMask;
    }

    private void ConnectLink(int link, Block* target)
    {
        ref Link l = ref _cache!.LinkAt(link);
        // What left may have been dropped or moved on meanwhile.
        if (!l.From->IsFresh || l.From->Mode != target->Mode)
            return;
        if (l.Kind == LinkKind.Guard)
        {
            // FindBlock has just found both pages to be mapped as they were.
            if (l.From == target)
                FillGuard(link, target);
            return;
        }

        if (_lockStep is not null)
            return;

        if (l.Kind == LinkKind.SecondPage && (target->Gpa & ~0xFFFul) != l.From->Gpa2)
            return;
        if (l.Slot >= 0)
        {
            _cache.FillSlot(link, target->Translation, S->Rip & ~0xFFFul);
            _userJumpsUsed = true;
            return;
        }

        if (l.CrossesPage && (target->Linear != l.From->EntryLinear + (ulong)(long)l.Distance || !IsGlobalCode(target->Linear) || !IsGlobalCode(l.From->EntryLinear)))
            return;
        _cache.Connect(link, target->Translation);
    }

    /// <summary>A block that crosses into another page may be entered until mappings change.</summary>
    private void FillGuard(int link, Block* block)
    {
        ulong second = (S->Rip & ~0xFFFul) + 0x1000;
        if ((block->Mode & CodeMode.User) != 0)
        {
            _cache!.FillGuard(link, 0 - second, global: false);
            _userJumpsUsed = true;
            return;
        }

        bool global = IsGlobalCode(S->Rip) && IsGlobalCode(second);
        _cache!.FillGuard(link, 0, global);
        _userJumpsUsed |= !global;
    }

    private bool IsGlobalCode(ulong linear)
    {
        TlbEntry* e = Tlb.Entry(_views[ViewCodeSupervisor].Entries, linear);
        return e->ReadTag == Tlb.TagOf(linear) && (e->Gpa & TlbEntry.Global) != 0;
    }

    /// <summary>
    /// An indirect branch to an address that is not canonical faults before it changes anything: taken back and done again by the interpreter.
    /// </summary>
    private Executed BranchAgain(uint site)
    {
        uint index = site & Relocation.SiteIndexMask;
        Op* op = _arena!.OpAt((int)(site >> Relocation.SiteIndexBits));
        var block = (Block*)(op - index) - 1;
        S->Rip = StartOf(block) + (ulong)op->Offset;
        S->InstructionsRetired--;
        S->Gpr[(int)Gpr.Rsp] += op->Code switch
        {
            Iced.Intel.Code.Retnq => unchecked((ulong)-8),
            Iced.Intel.Code.Retnq_imm16 => unchecked((ulong)-8) - (ushort)op->Imm,
            Iced.Intel.Code.Call_rm64 => 8,
            _ => 0,
        };
        if (!op->Slow(this, op))
            return Executed.Fault;
        S->InstructionsRetired++;
        N->RipSet = 0;
        return Executed.Left;
    }
}
