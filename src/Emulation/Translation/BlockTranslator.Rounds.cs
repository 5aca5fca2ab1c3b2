using VirtPS.Sdk.Cpu;

namespace VirtPS.Emulation;

// Rounds without checks. What a loop of one block accesses mostly moves on by a constant each round: an array is gone through, or nothing moves at all. For such accesses it can be said how many
// rounds stay within the pages that they are in now. So many rounds are made by a third copy of the loop's body, without their checks, counted beforehand, not looking for requests; behind
// them the pages are looked at again. Accesses that move otherwise keep their checks. Whatever is rare there (a miss, a branch out of the loop) takes back what was not executed of the count and leaves,
// a miss for a block that begins with its instruction.
internal sealed unsafe partial class BlockTranslator
{
    /// <summary>
    /// Rounds with checks before it is tried (most loops are short), between two tries where it failed, and at most at a time, and instructions in them: requests wait so long. Fewer than <see cref="FewestRounds"/> are
    /// not worth it.
    /// </summary>
    private const int RoundsBefore = 6, RoundsBetween = 8, RoundsAtOnce = 1024, MostInstructions = 20 * 1024, FewestRounds = 4;
    private const int LongestStride = 2048, WidestStream = 1024;

    /// <summary>
    /// Accesses by the same registers. What they reach in a round lies from <see cref="Low"/> to <see cref="High"/> from the registers' sum at its start, which moves by
    /// <see cref="Stride"/> a round. One that must be aligned lies at <see cref="Phase"/>.
    /// </summary>
    private struct Stream
    {
        public int Base, Index, Scale, Stride, Low, High, Alignment, Phase;
        public bool Writes;

        /// <summary>The base stays what it is: the addend kept includes it.</summary>
        public bool HasBase;

        /// <summary>A table (<see cref="JoinTable"/>): the index is each access's own.</summary>
        public bool IsTable;
    }

    private readonly Stream[] _streams = new Stream[VcpuMemory.StreamCount];
    private int _streamCount;

    /// <summary>The stream of each instruction's access; -1: it has a check of its own.</summary>
    private readonly int[] _streamOf = new int[SoftVcpu.MaxOps];

    /// <summary>What is being written is, or is reached from, rounds without checks, each of so many instructions; those in which tables have none either.</summary>
    private bool _inRounds, _inTableRounds;
    private int _roundLength;

    /// <summary>Of the block's loop: its condition, where a round with checks begins, and what is behind its branch.</summary>
    private int _loopCondition;
    private byte* _roundWithChecks, _behindLoop;

    /// <summary>Finds the streams of the loop whose last instruction is <paramref name="end"/>. False: rounds without checks are not worth it, or not possible.</summary>
    private bool PlanRounds(int end)
    {
        for (int p = 0; p < _pinCount; p++)
        {
            // What is behind the loop would use a check of a round long ago.
            if (_pins[p].Count > 1 && _pins[p].First <= end && _pins[p].Last > end && _pinOf[_pins[p].First] == p)
                return false;
        }

        Span<int> strides = stackalloc int[16], moved = stackalloc int[16];
        strides.Clear();
        moved.Clear();
        uint wild = 0, changes = 0;
        for (int i = 0; i <= end; i++)
        {
            Op* op = _block->Ops + i;
            // Branches within the loop but forward would have to count as its end does.
            bool branch = op->Handler is >= HotForms.Jo and <= HotForms.Jg;
            if (op->Has(OpFlags.LeftToInterpreter) || (branch && i != end && (int)op->Imm <= op->Offset + op->Length))
                return false;
            wild |= _facts[i].Changes & ~Moved(op, strides);
            changes |= _facts[i].Changes;
        }

        _streamCount = 0;
        _roundLength = end + 1;
        for (int i = 0; i <= end; i++)
        {
            Op* op = _block->Ops + i;
            _streamOf[i] = !TryGetAccess(op, out BasedAccess access) || IsInMemory(access.Base) || IsWild(access.Base, wild) ? -1
                : IsWild(access.Index, wild) ? JoinTable(i, access, changes)
                : JoinStream(access, strides, moved, changes);
            Moved(op, moved);
        }

        return _streamCount > 0;
    }

    /// <summary>Adds what an instruction adds by itself to a register; that register's bit.</summary>
    private uint Moved(Op* op, Span<int> moved)
    {
        int move = RegisterMove.ReadWide(op, 8, out int register);
        if (TryGetAccess(op, out BasedAccess access) && access.Moves != 0)
            (move, register) = (access.Moves, access.Base);
        if (move == 0 || Math.Abs((long)moved[register] + move) > LongestStride)
            return 0;
        moved[register] += move;
        return 1u << register;
    }

    private static bool IsInMemory(int register) => register != NoRegister && RegisterMap.InMemory(register);

    private static bool IsWild(int register, uint wild) => register != NoRegister && (wild >> register & 1) != 0;

    private static int Sum(in BasedAccess access, Span<int> of) =>
        (access.Base == NoRegister ? 0 : of[access.Base]) + (access.Index == NoRegister ? 0 : of[access.Index] << access.Scale);

    /// <summary>The stream that an access joins or begins; -1: there is no room, or it moves too far.</summary>
    private int JoinStream(in BasedAccess access, Span<int> strides, Span<int> moved, uint changes)
    {
        int stride = Sum(access, strides);
        long low = (long)access.Distance + Sum(access, moved);
        if (Math.Abs(stride) > LongestStride || low != (int)low || low > int.MaxValue - WidestStream || stride % access.Alignment != 0)
            return -1;
        for (int s = 0; s < _streamCount; s++)
        {
            ref Stream stream = ref _streams[s];
            if (stream.IsTable || (stream.Base, stream.Index, stream.Scale, stream.Alignment) != (access.Base, access.Index, access.Scale, access.Alignment) || (low - stream.Phase) % access.Alignment != 0
                || Math.Max(stream.High, low + access.Size) - Math.Min(stream.Low, low) > WidestStream)
                continue;
            (stream.Low, stream.High) = ((int)Math.Min(stream.Low, low), (int)Math.Max(stream.High, low + access.Size));
            stream.Writes |= access.Writes;
            return s;
        }

        if (_streamCount == VcpuMemory.StreamCount)
            return -1;
        bool fixedBase = access.Base == NoRegister || (access.Index != NoRegister && (changes >> access.Base & 1) == 0);
        _streams[_streamCount] = new Stream
        {
            Base = access.Base, Index = access.Index, Scale = access.Scale, Alignment = access.Alignment, Stride = stride,
            Low = (int)low, High = (int)low + access.Size, Phase = (int)low, Writes = access.Writes, HasBase = fixedBase,
        };
        return _streamCount++;
    }

    /// <summary>In a round with checks, of so many instructions: now and then, on to those without, or to those that need not be made. Flags are free.</summary>
    private void EmitCountdown(int condition, ColdKind then, int length)
    {
        _loopCondition = condition;
        _a.Op(0x83, 0, HostMemory.State(VcpuMemory.CountdownOffset));
        _a.Byte(1);
        // JNS
        _cold.Add(new ColdPiece((nint)_a.JumpIf(9), then, length, 0) { Flags = _recipe, Loaded = _loaded });
        _roundWithChecks = _a.Next;
    }

    /// <summary>The rounds without checks: how many there can be, and a body for them.</summary>
    private void EmitRounds(in ColdPiece piece)
    {
        byte* first = _a.Jump();
        byte* again = _a.Next;
        _a.Op(0x83, 7, HostMemory.State(VcpuMemory.AttentionOffset));
        _a.Byte(0);
        _cold.Add(new ColdPiece((nint)_a.JumpIf(5), ColdKind.Asked, 0, 0) { Flags = piece.Flags });
        _a.Bind(first);
        HostMemory rounds = HostMemory.State(VcpuMemory.RoundsOffset);
        _a.StoreImmediate32(rounds, Math.Min(RoundsAtOnce, MostInstructions / _roundLength) - 1);
        List<nint> fails = [];
        for (int s = 0; s < _streamCount; s++)
        {
            if (!_streams[s].IsTable)
                EmitStreamSetup(s, fails);
        }

        _a.Load32(HostReg.R10, rounds);
        _a.Op(0x83, 7, HostReg.R10);
        _a.Byte(FewestRounds - 1);
        byte* enough = _a.JumpIf(3);
        foreach (nint fail in fails)
            _a.Bind((byte*)fail);
        _a.StoreImmediate32(HostMemory.State(VcpuMemory.CountdownOffset), -RoundsBetween);
        _a.Jump(_roundWithChecks);
        _a.Bind(enough);
        _a.Lea(HostReg.R10, new HostMemory(HostReg.R10, 1));
        // IMUL; ADD; NEG
        _a.Op(0x6B, (int)HostReg.R10, HostReg.R10, w: true);
        _a.Byte(_roundLength);
        _a.Op(0x01, (int)HostReg.R10, HostMemory.State(VcpuMemory.RetiredOffset), w: true);
        _a.Op(0xF7, 3, HostReg.R10, w: true);
        _a.Store(rounds, HostReg.R10);
        if (EmitTableSetup(fails))
        {
            EmitRoundBody(piece, again, tables: true);
            foreach (nint fail in fails)
                _a.Bind((byte*)fail);
        }

        EmitRoundBody(piece, again, tables: false);
    }

    private void EmitRoundBody(in ColdPiece piece, byte* again, bool tables)
    {
        _inRounds = true;
        _inTableRounds = tables;
        _recipe = piece.Flags;
        _addendPin = -1;
        byte* top = _a.Next;
        _a.Op(0x83, 0, HostMemory.State(VcpuMemory.RoundsOffset), w: true);
        _a.Byte(_roundLength);
        // JG: all are done.
        HostAssembler.Bind(_a.JumpIf(15), again);
        for (_index = 0; _index < _roundLength - 1; _index++)
        {
            Op* op = _block->Ops + _index;
            SaveOperands();
            if (!TryEmit(op))
                throw new InvalidOperationException("An instruction of a loop can be emitted only once.");
            FollowFlags(op);
            FollowAddend();
        }

        ForgetHeld();
        HostAssembler.Bind(_a.JumpIf(_loopCondition), top);
        EmitCount(0, HostReg.R10);
        _a.Jump(_behindLoop);
    }

    /// <summary>Looks up a stream's page; keeps the addend, and the rounds that stay within the page if they are fewer than those before. Uses R10 and R11, changes flags.</summary>
    private void EmitStreamSetup(int number, List<nint> fails)
    {
        ref Stream s = ref _streams[number];
        int entries = VcpuMemory.TlbOffset + _view * Tlb.ViewBytes, last = 4096 - (s.High - s.Low);
        HostReg x = s.Index == NoRegister ? HostReg.None : RegisterMap.Host(s.Index);
        if (s.Base == NoRegister)
            EmitCodeAddress(HostReg.R11, s.Low);
        else
            _a.Lea(HostReg.R11, new HostMemory(RegisterMap.Host(s.Base), s.Low, x, s.Scale));
        EmitPageIndex(HostReg.R11, flagsAreFree: true);
        _a.Op(0x03, (int)HostReg.R11, HostMemory.Array(HostReg.R10, entries + (s.Writes ? Tlb.ArrayStride : 0)), w: true);
        // CMP; JA
        _a.Op(0x81, 7, HostReg.R11, w: true);
        _a.Int32(last);
        fails.Add((nint)_a.JumpIf(7));
        _a.Load(HostReg.R10, HostMemory.Array(HostReg.R10, entries + (s.Base == NoRegister ? 4 : 2) * Tlb.ArrayStride));
        if (s.Base == NoRegister)
            _a.Lea(HostReg.R10, new HostMemory(HostReg.R10, -s.Low, HostReg.R11));
        else if (s.HasBase)
            _a.Lea(HostReg.R10, new HostMemory(HostReg.R10, 0, RegisterMap.Host(s.Base)));
        _a.Store(StreamPlace(number), HostReg.R10);
        if (s.Alignment > 1)
        {
            _a.Lea(HostReg.R10, new HostMemory(HostReg.R11, s.Phase - s.Low));
            // TEST; JNE
            _a.Op(0xF7, 0, HostReg.R10);
            _a.Int32(s.Alignment - 1);
            fails.Add((nint)_a.JumpIf(5));
        }

        if (s.Stride != 0)
            EmitRoundLimit(s.Stride, last);
    }

    /// <summary>R11: offset in the page. The page lasts for (room / stride) rounds more than one; divided by multiplication, which never gives more.</summary>
    private void EmitRoundLimit(int stride, int last)
    {
        if (stride > 0)
        {
            _a.MoveImmediate(HostReg.R10, last);
            _a.Op(0x2B, (int)HostReg.R10, HostReg.R11);
        }
        else
        {
            _a.Move(HostReg.R10, HostReg.R11);
        }

        int size = Math.Abs(stride), shift = 16;
        if (System.Numerics.BitOperations.IsPow2(size))
        {
            shift = System.Numerics.BitOperations.Log2((uint)size);
        }
        else
        {
            _a.Op(0x69, (int)HostReg.R10, HostReg.R10);
            _a.Int32(65536 / size);
        }

        // SHR; CMP; JAE
        _a.Op(0xC1, 5, HostReg.R10);
        _a.Byte(shift);
        HostMemory rounds = HostMemory.State(VcpuMemory.RoundsOffset);
        _a.Op(0x3B, (int)HostReg.R10, rounds);
        byte* more = _a.JumpIf(3);
        _a.Store32(rounds, HostReg.R10);
        _a.Bind(more);
    }

    private static HostMemory StreamPlace(int stream) => HostMemory.State(VcpuMemory.StreamOffset + stream * 8);

    /// <summary>Where the bytes of the present instruction's access are, in rounds without checks.</summary>
    private HostMemory EmitStreamed(int distance)
    {
        int number = _streamOf[_index];
        ref Stream s = ref _streams[number];
        if (_addendPin != number)
            _a.Load(HostReg.R10, StreamPlace(number));
        _addendPin = number;
        HostReg x = s.Index == NoRegister ? HostReg.None : RegisterMap.Host(s.Index);
        if (s.IsTable)
            return new HostMemory(HostReg.R10, distance, RegisterMap.Host(_block->Ops[_index].Index), _block->Ops[_index].Scale);
        if (s.HasBase)
            return new HostMemory(HostReg.R10, distance, x, s.Scale);
        if (s.Index == NoRegister)
            return new HostMemory(RegisterMap.Host(s.Base), distance, HostReg.R10);
        _addendPin = -1;
        _a.Lea(HostReg.R10, new HostMemory(HostReg.R10, 0, RegisterMap.Host(s.Base)));
        return new HostMemory(HostReg.R10, distance, x, s.Scale);
    }
}
