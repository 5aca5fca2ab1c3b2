using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using VirtPS.Sdk;
using VirtPS.Sdk.Cpu;
using VirtPS.X86;

namespace VirtPS.Emulation;

/// <summary>Why the interpreter ended a piece before generated code executed it.</summary>
internal enum LockStepStop
{
    /// <summary>The block is over.</summary>
    End,

    /// <summary>As many steps as are kept.</summary>
    Limit,

    /// <summary>An instruction that must not be executed twice.</summary>
    Once,

    /// <summary>An instruction reads flags that the one before left undefined.</summary>
    UndefinedFlags,

    /// <summary>More pages written than are kept.</summary>
    Pages,

    /// <summary>A repeated instruction went no further than to its middle.</summary>
    Halfway,

    /// <summary>From here on generated code must have called the interpreter: a guest fault, a device, decoded code that would change, accessed or dirty bits to be set.</summary>
    Fault,
}

/// <summary>
/// Runs the interpreter beside generated code and compares. A piece is what generated code executes between two calls of the interpreter, or up to the end of a block.
/// Before it the interpreter executes the same instructions; registers and pages that it wrote are kept and put back; generated code runs; then both must agree on
/// registers, flags, vector registers and every byte of memory. What speaks to the machine or reads time is executed once, by generated code's call of the interpreter, between two
/// pieces. Blocks are neither linked nor found through the jump caches meanwhile; a block's second translation belongs to the same piece. The vCPU's thread only.
/// </summary>
internal sealed unsafe partial class LockStep : IDisposable
{
    private const int MaxSteps = 256, MaxPages = 24, PageSize = 4096;

    private readonly SoftVcpu _cpu;
    private readonly LockStepRules _rules = new();
    private readonly byte* _memory;

    /// <summary>State at the start of the piece, as the interpreter left it, as generated code left it.</summary>
    private readonly NativeCpu* _before, _expected, _real;

    /// <summary>
    /// TLB entries whose write tag is for a page that is kept, and those that have got one between pieces: without a tag, generated code can't write a page unseen. Some pages are kept for
    /// later pieces, so that a write to a wrong page is not only ever a miss, which the interpreter sets right.
    /// </summary>
    private readonly List<nint> _writable = [], _fresh = [];
    private const int KeptPages = 6;
    private ulong _mapGeneration;

    /// <summary>Pages that the interpreter wrote.</summary>
    private readonly byte*[] _pages = new byte*[MaxPages];
    private int _pageCount;

    private bool _open;
    private Block* _block;
    private int _index;
    private ulong _position;
    private int _steps;
    private uint _undefined;
    private LockStepStop _stop;
    private bool _stopped;

    /// <summary>How loops of a block behave, by its address: 1 leaves generated code each round, 2 is long.</summary>
    private readonly byte[] _loops = new byte[4096];

    public LockStep(SoftVcpu cpu)
    {
        _cpu = cpu;
        nuint state = (nuint)(sizeof(NativeCpu) + 63 & ~63);
        // SAFETY: freed in Dispose; three states and three copies of each page that may be kept.
        _memory = (byte*)NativeMemory.AlignedAlloc(3 * state + 3 * MaxPages * PageSize, PageSize);
        _before = (NativeCpu*)(_memory + 3 * MaxPages * PageSize);
        _expected = (NativeCpu*)((byte*)_before + state);
        _real = (NativeCpu*)((byte*)_expected + state);
    }

    /// <summary>The interpreter executes ahead: nothing that it does may reach anything but registers and RAM.</summary>
    public bool IsAhead { get; private set; }

    /// <summary>Pieces and instructions compared; instructions that generated code executed and that could not be compared.</summary>
    public ulong Pieces { get; private set; }

    public ulong Instructions { get; private set; }

    public ulong NotCompared { get; private set; }

    private VcpuState* S => _cpu.S;

    private NativeCpu* N => _cpu.N;

    private byte* Old(int page) => _memory + page * PageSize;

    private byte* New(int page) => _memory + (MaxPages + page) * PageSize;

    private byte* Live(int page) => _memory + (2 * MaxPages + page) * PageSize;

    /// <summary>Generated code goes on at instruction <paramref name="index"/> of a block; registers and lazy flags are in the state.</summary>
    public void Begin(Block* block, int index)
    {
        KeepPages();
        _block = block;
        (_index, _open) = (index, true);
        _position = _cpu.HotRetired + (ulong)index;
        S->Rip = _cpu.StartOf(block) + (ulong)(index < block->Count ? block->Ops[index].Offset : Block.EndOf(block));
        Save(_before);
        RunAhead(MaxSteps);
        Save(_expected);
        for (int i = 0; i < _pageCount; i++)
        {
            Copy(New(i), _pages[i]);
            PutBack(_pages[i], New(i), Old(i));
        }

        Restore(_before);
        ref byte loop = ref _loops[LoopSlot];
        if (_stop == LockStepStop.Limit || (loop == 2 && _stop == LockStepStop.End && _expected->State.Rip == _cpu.StartOf(block)))
        {
            loop = 2;
            _cpu.AskForAttention();
        }
        else if (loop == 2)
        {
            loop = 0;
        }
    }

    private int LoopSlot => (int)((nuint)_block >> 6) & 4095;

    /// <summary>Generated code calls the interpreter for instruction <paramref name="index"/>; RIP and flags are set.</summary>
    public void Arrive(int index) => Check(_cpu.HotRetired + (ulong)index - _position, index);

    /// <summary>Generated code has left its block for S->Rip.</summary>
    public void End()
    {
        ulong steps = _cpu.HotRetired - _position;
        if (_open && steps > 0 && (int)steps < _steps && S->Rip == _cpu.StartOf(_block) && _loops[LoopSlot] == 0)
            _loops[LoopSlot] = 1;
        Check(steps);
    }

    private void Check(ulong steps, int index = -1)
    {
        if (!_open)
            return;
        _open = false;
        if (steps > (ulong)_steps)
        {
            if (_stop == LockStepStop.Fault)
                Differ((int)steps, "generated code went on where the interpreter cannot without a fault, a device, or a change of code or page tables");
            _loops[LoopSlot] = 0;
            NotCompared += steps - (ulong)_steps;
            return;
        }

        // In the middle of a repeated instruction?
        Op* part = index >= 0 && index < _block->Count && _rules.Of(_block->Ops + index).Repeats ? _block->Ops + index : null;
        if (steps < (ulong)_steps || part != null)
            RunAgain((int)steps, part);
        Pieces++;
        Instructions += steps;
        Compare((int)steps);
    }

    /// <summary>Generated code stopped earlier than the interpreter, perhaps with a <paramref name="part"/> of a repeated instruction done: the interpreter's state there.</summary>
    private void RunAgain(int steps, Op* part)
    {
        Save(_real);
        int pages = _pageCount;
        for (int i = 0; i < _pageCount; i++)
        {
            Copy(Live(i), _pages[i]);
            PutBack(_pages[i], Live(i), Old(i));
        }

        Restore(_before);
        RunAhead(steps);
        if (part != null)
            RunPart(part);
        Save(_expected);
        for (int i = 0; i < _pageCount; i++)
        {
            // Generated code cannot have written a page that was not kept.
            if (i >= pages)
                Copy(Live(i), Old(i));
            Copy(New(i), _pages[i]);
            PutBack(_pages[i], New(i), Live(i));
        }

        Restore(_real);
    }

    /// <summary>As many elements of a repeated instruction as generated code has done.</summary>
    private void RunPart(Op* op)
    {
        ulong left = _real->State.Gpr[(int)Gpr.Rcx], done = S->Gpr[(int)Gpr.Rcx] - left;
        if (done == 0)
            return;
        ulong rip = S->Rip;
        S->Gpr[(int)Gpr.Rcx] = done;
        IsAhead = true;
        Repeat(op, rip);
        IsAhead = false;
        S->Gpr[(int)Gpr.Rcx] += left;
        S->Rip = rip;
    }

    /// <summary>All of a repeated instruction, over requests.</summary>
    private bool Repeat(Op* op, ulong rip)
    {
        bool done;
        do
        {
            (N->Leave, N->RipSet, S->Rip) = (0, 0, rip);
            done = op->Slow(_cpu, op);
        }
        while (done && N->RipSet != 0);
        N->Leave = 0;
        return done;
    }

    private void RunAhead(int limit)
    {
        Fault fault = _cpu.PendingFault;
        IsAhead = true;
        _stopped = false;
        (N->Leave, N->RipSet, _steps, _undefined) = (0, 0, 0, 0);
        ulong start = _cpu.StartOf(_block);
        bool round = _loops[LoopSlot] == 0 || limit < MaxSteps;
        for (int index = _index; Step(ref index, start, limit, round);)
        {
        }

        IsAhead = false;
        _cpu.PendingFault = fault;
        if (_stop == LockStepStop.Halfway)
            RunUpTo(_steps);
    }

    /// <summary>A repeated instruction could not be done as a whole: it is undone, with what comes before it done anew.</summary>
    private void RunUpTo(int steps)
    {
        for (int i = 0; i < _pageCount; i++)
        {
            Copy(New(i), _pages[i]);
            PutBack(_pages[i], New(i), Old(i));
        }

        Restore(_before);
        RunAhead(steps);
        _stop = LockStepStop.Once;
    }

    private bool Step(ref int index, ulong start, int limit, bool round)
    {
        if (index == _block->Count)
            return StopAt(LockStepStop.End);
        if (_steps == limit)
            return StopAt(LockStepStop.Limit);
        Op* op = _block->Ops + index;
        LockStepRule rule = _rules.Of(op);
        if (rule.Once)
            return StopAt(LockStepStop.Once);
        if ((rule.Reads & _undefined) != 0)
            return StopAt(LockStepStop.UndefinedFlags);
        ulong rip = S->Rip;
        if (rule.Repeats && !Repeat(op, rip))
            return StopAt(LockStepStop.Halfway);
        if (!rule.Repeats && !op->Slow(_cpu, op))
            return StopAt(_stopped && _pageCount == MaxPages ? LockStepStop.Pages : LockStepStop.Fault);
        _steps++;
        _undefined = _undefined & ~rule.Writes | rule.Undefined;
        if (rule.InterruptFlag)
            (N->Leave, S->InterruptShadow) = (0, InterruptShadow.None);
        bool branched = N->RipSet != 0 || op->Has(OpFlags.EndsBlock);
        if (N->RipSet == 0)
            S->Rip = (rip + op->Length) & N->RipMask;
        N->RipSet = 0;
        // A direct branch whose target follows it in the block does not end the piece.
        if ((!branched || (op->Has(OpFlags.EndsBlock) && index + 1 < _block->Count)) && N->Leave == 0)
        {
            index++;
            return true;
        }

        if (S->Rip != start || !round)
            return StopAt(LockStepStop.End);
        index = 0;
        return true;
    }

    private bool StopAt(LockStepStop stop)
    {
        _stop = stop;
        return false;
    }

    /// <summary>An access of the instruction needs what the interpreter must not do ahead; the access is refused. Always false.</summary>
    public bool Refuse()
    {
        _stopped = true;
        _cpu.PendingFault = default;
        return false;
    }

    /// <summary>Whether a page may be written through a host pointer ahead of generated code; it is kept first.</summary>
    public bool MayWrite(byte* host)
    {
        var page = (byte*)((nuint)host & ~(nuint)(PageSize - 1));
        for (int i = 0; i < _pageCount; i++)
        {
            if (_pages[i] == page)
                return true;
        }

        if (_pageCount == MaxPages)
            return false;
        _pages[_pageCount] = page;
        Copy(Old(_pageCount++), page);
        return true;
    }

    public void NoteWriteTag(TlbEntry* entry) => (IsAhead ? _writable : _fresh).Add((nint)entry);

    private void KeepPages()
    {
        Drop(_fresh);
        if (_pageCount > KeptPages || _mapGeneration != N->MapGeneration)
        {
            _mapGeneration = N->MapGeneration;
            Drop(_writable);
            _pageCount = 0;
        }

        for (int i = 0; i < _pageCount; i++)
            Copy(Old(i), _pages[i]);
    }

    private void Drop(List<nint> tags)
    {
        foreach (nint e in CollectionsMarshal.AsSpan(tags))
            ((TlbEntry*)e)->WriteTag = SoftVcpu.NoWriteTag((TlbEntry*)e, _cpu);
        tags.Clear();
    }

    private static void Copy(byte* to, byte* from) => Unsafe.CopyBlock(to, from, PageSize);

    /// <summary>Puts a page back where the interpreter changed it: a device may have written beside that.</summary>
    private static void PutBack(byte* page, byte* from, byte* to)
    {
        for (int i = 0; i < PageSize; i += 32)
        {
            if (!new ReadOnlySpan<byte>(from + i, 32).SequenceEqual(new ReadOnlySpan<byte>(to + i, 32)))
                Unsafe.CopyBlock(page + i, to + i, 32);
        }
    }

    private void Save(NativeCpu* to) => Unsafe.CopyBlock(to, N, (uint)sizeof(NativeCpu));

    /// <summary>All but the requests, which other threads write.</summary>
    private void Restore(NativeCpu* from)
    {
        uint first = (uint)((byte*)&from->State.Requests - (byte*)from), behind = first + sizeof(uint);
        Unsafe.CopyBlock(N, from, first);
        Unsafe.CopyBlock((byte*)N + behind, (byte*)from + behind, (uint)sizeof(NativeCpu) - behind);
    }

    public void Dispose()
    {
        _cpu.Partition.Options.Log.Write(LogLevel.Information, $"Lock-step, vCPU {_cpu.Index}: {this}");
        NativeMemory.AlignedFree(_memory);
    }

    public override string ToString() =>
        string.Create(System.Globalization.CultureInfo.InvariantCulture, $"{Pieces:N0} pieces of generated code, {Instructions:N0} instructions compared, {NotCompared:N0} not.");
}
