using Iced.Intel;

namespace VirtPS.Opcodes;

/// <summary>
/// Makes programs: random instructions within branches, loops, calls, indirect jumps, code that changes itself, and faults. Every program ends on its own: loops count in memory that
/// nothing else writes, and what is rewritten never is what controls a loop.
/// </summary>
internal sealed unsafe partial class ProgramGenerator
{
    private const int MaxLength = 2600, MaxDepth = 2, SlotSize = 16;
    private readonly Layout _layout;
    private readonly XorShift _random;
    private readonly Generator _generator;
    private readonly ProgramForms _forms;
    private readonly int _bits;
    private readonly List<Subroutine> _subroutines = [];
    private int _slots;
    private bool _full;

    public ProgramGenerator(Layout layout, XorShift random, int bits, ProgramForms forms)
    {
        (_layout, _random, _bits, _forms) = (layout, random, bits, forms);
        _generator = new Generator(layout, random, bits);
        Program = new Sequence(bits);
    }

    private readonly record struct Subroutine(int Patch, int Depth, bool Absolute);

    public Sequence Program { get; }

    /// <summary>Status flags that are undefined when a fault is taken at this address; at all others they are all defined.</summary>
    public Dictionary<ulong, ulong> UndefinedAt { get; } = [];

    /// <summary>What the programs made so far consist of.</summary>
    public SortedDictionary<string, long> Kinds { get; } = new(StringComparer.Ordinal);

    /// <summary>Makes another program in <see cref="Program"/>. Some are near the end of a page, so that they go over it.</summary>
    public void Next(int items)
    {
        int offset = _random.OneIn(3) ? Layout.Page - _random.Below(400) : _random.Below(Layout.Page);
        Program.Clear((ulong)_layout.Code + (ulong)offset);
        UndefinedAt.Clear();
        _subroutines.Clear();
        _slots = 0;
        _full = false;
        Body(0, items);
        _generator.Dangerous = false;
        int end = Jump();
        // Subroutines may call further ones.
        for (int i = 0; i < _subroutines.Count; i++)
            EmitSubroutine(_subroutines[i]);
        Land(end);
    }

    private ulong Here => Program.Address;

    private void Body(int depth, int items)
    {
        for (int i = 0; i < items && !_full; i++)
        {
            _full = Program.Length > MaxLength;
            int kind = _random.Below(100);
            if (kind < 54)
                Plain();
            else if (kind < 60)
                String();
            else if (kind < 70)
                Skip(depth);
            else if (kind < 78)
                Loop(depth);
            else if (kind < 86)
                Call(depth);
            else if (kind < 90)
                IndirectJump(depth);
            else if (kind < 95)
                SelfModify();
            else if (kind == 95)
                ChangedPrefix();
            else
                Fault();
        }
    }

    private void Count(string kind)
    {
        Kinds.TryGetValue(kind, out long n);
        Kinds[kind] = n + 1;
    }

    /// <summary>An instruction of the catalog. In one of sixteen its memory operand may fault; more often where a mask may keep it from that.</summary>
    private void Plain() => Plain(_forms.Integer.Length > 0 && _random.OneIn(2) ? _forms.Integer : _forms.All);

    private void Plain(Code[] forms)
    {
        Code code = _random.Pick<Code>(forms);
        _generator.Dangerous = _random.OneIn(Generator.IsMasked(code) ? 5 : 16) && MayFault(code);
        for (int tries = 0; tries < 8; tries++)
        {
            int start = Program.Length;
            if (!_generator.TryAppend(code, Program))
                continue;
            if (Program.Closed)
            {
                // Parts of its result are the host's own; nothing may follow those.
                Program.Truncate(start);
                Program.Ignored.Clear();
                Program.Closed = false;
                Program.DefineFlags();
                continue;
            }

            Count(!_generator.Dangerous ? "instruction" : Generator.IsMasked(code) ? "masked instruction that may fault" : "instruction that may fault");
            DefineFlags();
            return;
        }
    }

    // What it leaves behind when it faults half-way is not architectural: partial stores, partial gathers.
    private static bool MayFault(Code code)
    {
        OpCodeInfo info = code.ToOpCode();
        if (code.Mnemonic() is Mnemonic.Fxsave or Mnemonic.Fxsave64 or Mnemonic.Fxrstor or Mnemonic.Fxrstor64 or Mnemonic.Fnsave or Mnemonic.Frstor or Mnemonic.Fnstenv or Mnemonic.Fldenv
            or Mnemonic.Pusha or Mnemonic.Pushad or Mnemonic.Popa or Mnemonic.Popad or Mnemonic.Enter or Mnemonic.Maskmovdqu or Mnemonic.Maskmovq or Mnemonic.Vmaskmovdqu
            or Mnemonic.Clflush or Mnemonic.Clflushopt or Mnemonic.Clwb)
            return false;
        for (int k = 0; k < info.OpCount; k++)
        {
            if (info.GetOpKind(k) is OpCodeOperandKind.mem_vsib32x or OpCodeOperandKind.mem_vsib32y or OpCodeOperandKind.mem_vsib32z or OpCodeOperandKind.mem_vsib64x or OpCodeOperandKind.mem_vsib64y
                or OpCodeOperandKind.mem_vsib64z)
                return false;
        }

        return true;
    }

    /// <summary>Where the last instruction left flags undefined, one that defines them all.</summary>
    private void DefineFlags()
    {
        ulong undefined = Program.UndefinedFlags;
        if (undefined == 0)
            return;
        UndefinedAt[Here] = undefined;
        Emit(_bits == 64 ? Instruction.Create(Code.Cmp_r64_rm64, Any64(), Any64()) : Instruction.Create(Code.Cmp_r32_rm32, Any32(), Any32()));
        Program.DefineFlags();
    }

    private void Skip(int depth)
    {
        Count("branch");
        int over = Branch();
        Body(depth + 1, 1 + _random.Below(3));
        Land(over);
    }

    private void Loop(int depth)
    {
        if (depth >= MaxDepth)
            return;
        Count("loop");
        ulong counter = NewSlot();
        int rounds = depth == 0 ? 2 + _random.Below(_random.OneIn(4) ? 60 : 6) : 2 + _random.Below(4);
        Emit(Instruction.Create(Code.Mov_rm32_imm32, At(counter), rounds));
        ulong top = Here;
        Body(depth + 1, 1 + _random.Below(6));
        Emit(Instruction.Create(Code.Sub_rm32_imm8, At(counter), 1));
        Emit(Instruction.CreateBranch(_bits == 64 ? Code.Jne_rel32_64 : Code.Jne_rel32_32, top));
    }

    /// <summary>A call of a subroutine that stands behind the program, direct or through memory.</summary>
    private void Call(int depth)
    {
        if (depth >= MaxDepth)
            return;
        bool absolute = _random.OneIn(3);
        Count(absolute ? "indirect call" : "call");
        if (absolute)
        {
            ulong slot = NewSlot();
            int patch = StorePointer(slot);
            Emit(LoadStack(Frame(depth)));
            Emit(Instruction.Create(_bits == 64 ? Code.Call_rm64 : Code.Call_rm32, At(slot)));
            _subroutines.Add(new Subroutine(patch, depth + 1, true));
        }
        else
        {
            Emit(LoadStack(Frame(depth)));
            Emit(Instruction.CreateBranch(_bits == 64 ? Code.Call_rel32_64 : Code.Call_rel32_32, Here));
            _subroutines.Add(new Subroutine(Program.Length - 4, depth + 1, false));
        }
    }

    private void EmitSubroutine(Subroutine s)
    {
        if (s.Absolute)
            Program.Patch(s.Patch, (int)Here);
        else
            Land(s.Patch);
        Body(s.Depth, 1 + _random.Below(5));
        // Instructions under test may have moved the stack pointer, and written where the return address is not.
        Emit(LoadStack(Frame(s.Depth - 1) - (ulong)_bits / 8));
        Emit(Instruction.Create(_bits == 64 ? Code.Retnq : Code.Retnd));
    }

    /// <summary>A jump through a table of two, which takes the other one the next time.</summary>
    private void IndirectJump(int depth)
    {
        if (depth > MaxDepth)
            return;
        Count("indirect jump");
        ulong table = NewSlot(), index = NewSlot();
        int first = StorePointer(table), second = StorePointer(table + (ulong)_bits / 8);
        Emit(Instruction.Create(Code.Xor_rm32_imm8, At(index), 1));
        Emit(Instruction.Create(Code.Mov_r32_rm32, Register.EDX, At(index)));
        Emit(Instruction.Create(Code.And_rm32_imm8, Register.EDX, 1));
        if (_random.OneIn(2))
        {
            var operand = new MemoryOperand(Register.None, _bits == 64 ? Register.RDX : Register.EDX, _bits / 8, (long)table, 4);
            Emit(Instruction.Create(_bits == 64 ? Code.Jmp_rm64 : Code.Jmp_rm32, operand));
        }
        else
        {
            var operand = new MemoryOperand(Register.None, _bits == 64 ? Register.RDX : Register.EDX, _bits / 8, (long)table, 4);
            Emit(Instruction.Create(_bits == 64 ? Code.Mov_r64_rm64 : Code.Mov_r32_rm32, _bits == 64 ? Register.RDX : Register.EDX, operand));
            Emit(Instruction.Create(_bits == 64 ? Code.Jmp_rm64 : Code.Jmp_rm32, _bits == 64 ? Register.RDX : Register.EDX));
        }

        Program.Patch(first, (int)Here);
        Body(depth + 1, 1);
        int over = Jump();
        Program.Patch(second, (int)Here);
        Body(depth + 1, 1);
        Land(over);
    }

    /// <summary>MOV of an address, known later, to a slot; the place of the immediate.</summary>
    private int StorePointer(ulong slot)
    {
        if (_bits == 64)
            Emit(Instruction.Create(Code.Mov_rm32_imm32, At(slot + 4), 0));
        Emit(Instruction.Create(Code.Mov_rm32_imm32, At(slot), int.MaxValue));
        return Program.Length - 4;
    }

    private ulong NewSlot() => (ulong)_layout.Control + (ulong)(_slots++ % (Layout.Page / SlotSize) * SlotSize);

    private ulong Frame(int depth) => (ulong)_layout.StackTop + 1024 - 128 * (ulong)depth;

    /// <summary>A conditional branch forward; the place of its displacement.</summary>
    private int Branch()
    {
        Code code = (_bits == 64 ? Code.Jo_rel32_64 : Code.Jo_rel32_32) + 3 * _random.Below(16);
        Emit(Instruction.CreateBranch(code, Here));
        return Program.Length - 4;
    }

    private int Jump()
    {
        Emit(Instruction.CreateBranch(_bits == 64 ? Code.Jmp_rel32_64 : Code.Jmp_rel32_32, Here));
        return Program.Length - 4;
    }

    private void Land(int patch) => Program.Patch(patch, Program.Length - (patch + 4));

    private Instruction LoadStack(ulong value) => _bits == 64 ? Instruction.Create(Code.Mov_r64_imm64, Register.RSP, value)
        : Instruction.Create(Code.Mov_r32_imm32, Register.ESP, (uint)value);

    private MemoryOperand At(ulong address) => new(Register.None, Register.None, 1, (long)address, _bits == 64 ? 4 : 4, false, Register.None);

    private Register Any64() => Register.RAX + _random.Below(16);

    // Not the stack pointer.
    private Register Any32() => _random.Pick<Register>([Register.EAX, Register.ECX, Register.EDX, Register.EBX, Register.EBP, Register.ESI, Register.EDI]);

    private void Emit(in Instruction instruction)
    {
        if (!Program.TryEmit(instruction))
            throw new InvalidOperationException($"{instruction} cannot be encoded.");
    }
}
