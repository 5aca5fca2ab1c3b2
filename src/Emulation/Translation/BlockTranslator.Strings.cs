namespace VirtPS.Emulation;

// String instructions, upward. A repeated one goes from page end to page end by the host's own REP; RSI, RDI and RCX are the guest's again after each such piece, and requests are looked at.
// An element that lies in two pages, a page without an entry, and going downward are the interpreter's, which begins at what the registers say then.
internal sealed unsafe partial class BlockTranslator
{
    private static readonly HostMemory s_direction = HostMemory.State(Stubs.OffsetOf(n => (byte*)&n->State.Rflags) + 1),
        s_requestMask = HostMemory.State(Stubs.OffsetOf(n => (byte*)&n->RequestMask));

    /// <summary>DF in the second byte of RFLAGS.</summary>
    private const int DirectionBit = 4;

    /// <summary>Branches of the present string instruction to the interpreter.</summary>
    private readonly List<nint> _stringMisses = [];

    private bool EmitString(Op* op)
    {
        if (!StringForm.TryRead(op, out StringForm s))
            return false;
        _stringMisses.Clear();
        _addendPin = -1;
        if (s.Prefix != 0)
            EmitRepeated(s);
        else
            EmitSingle(s);
        return true;
    }

    /// <summary>
    /// Makes room for code that destroys the flags, before an instruction that changes <paramref name="changes"/> step by step: they can be made again by <paramref name="recipe"/> all the
    /// time. True: the program needs them, put them back behind it.
    /// </summary>
    private bool SetFlagsAside(uint changes, out Recipe recipe)
    {
        recipe = _recipe;
        if (FlagsAreFree && (recipe.Registers & changes) == 0)
            return false;
        recipe = SaveFlags();
        if (_needed[_index] != 0 || !StaysPossible(0))
            return true;
        _recipe = recipe;
        return false;
    }

    private Recipe SaveFlags()
    {
        if (CanMakeFlags)
            EmitRecipe(_recipe);
        EmitSaveFlags();
        return new Recipe(RecipeKind.Saved, _index, 0);
    }

    private void EmitSingle(in StringForm s)
    {
        bool putBack = SetFlagsAside(0, out Recipe recipe);
        EmitDirectionTest();
        HostMemory value = HostMemory.State(VcpuMemory.FlagsOffset), source = new(HostReg.Rsi, 0, HostReg.R10), destination = new(HostReg.Rdi, 0, HostReg.R10);
        HostReg register = HostReg.Rax;
        if (s.HasSource)
        {
            EmitElementCheck(HostReg.Rsi, HostReg.R11, s.Size, write: false);
            if (s.Kind == StringKind.Lods)
                EmitElement(0x8A, HostReg.Rax, source, s.Size);
            else
                EmitElement(0x8A, HostReg.R11, source, s.Size);
        }

        if (s.HasSource && s.HasDestination)
        {
            // The check of the other one takes both scratch registers.
            _a.Store(value, HostReg.R11);
            EmitElementCheck(HostReg.Rdi, HostReg.R11, s.Size, s.Writes);
            _a.Load(HostReg.R11, value);
            register = HostReg.R11;
        }
        else if (s.HasDestination)
        {
            EmitElementCheck(HostReg.Rdi, HostReg.R11, s.Size, s.Writes);
        }

        if (s.HasDestination)
            EmitElement(s.Compares ? 0x3A : 0x88, register, destination, s.Size);
        if (s.HasSource)
            _a.Lea(HostReg.Rsi, new HostMemory(HostReg.Rsi, s.Size));
        if (s.HasDestination)
            _a.Lea(HostReg.Rdi, new HostMemory(HostReg.Rdi, s.Size));
        foreach (nint field in _stringMisses)
            AddMiss((byte*)field, ColdKind.MissWithoutFlags, recipe);
        if (putBack)
            EmitRecipe(recipe);
    }

    /// <summary>An instruction between a register and memory, given its form for bytes, in the element's size.</summary>
    private void EmitElement(int bytes, HostReg register, in HostMemory m, int size) =>
        _a.Op(size == 1 ? bytes : bytes | 1 | (size == 2 ? HostOp.P66 : 0), (int)register, m, size == 8);

    private void EmitDirectionTest()
    {
        // TEST byte, imm8; JNE
        _a.Op(0xF6, 0, s_direction);
        _a.Byte(DirectionBit);
        _stringMisses.Add((nint)_a.JumpIf(5));
    }

    /// <summary>
    /// Checks that an element at <paramref name="address"/> may be accessed. Behind it <paramref name="offset"/> is its place in the page and R10 the addend. Destroys the flags.
    /// </summary>
    private void EmitElementCheck(HostReg address, HostReg offset, int size, bool write)
    {
        int entries = VcpuMemory.TlbOffset + _view * Tlb.ViewBytes;
        EmitPageIndex(address, flagsAreFree: true);
        _a.Load(offset, HostMemory.Array(HostReg.R10, entries + (write ? Tlb.ArrayStride : 0)));
        // ADD; CMP; JA
        _a.Op(0x03, (int)offset, address, w: true);
        _a.Op(0x81, 7, offset, w: true);
        _a.Int32(4096 - size);
        _stringMisses.Add((nint)_a.JumpIf(7));
        _a.Load(HostReg.R10, HostMemory.Array(HostReg.R10, entries + 2 * Tlb.ArrayStride));
    }

    private void EmitRepeated(in StringForm s)
    {
        bool two = s.HasSource && s.HasDestination, putBack = false;
        Recipe recipe;
        if (s.Compares)
            recipe = SaveFlags();
        else
            putBack = SetFlagsAside(s.Changes, out recipe);
        if (two)
        {
            _a.Store(RegisterMap.Slot(0), HostReg.Rax);
            _a.Store(RegisterMap.Slot(2), HostReg.Rdx);
        }

        EmitDirectionTest();
        byte* top = _a.Next;
        byte* nothing = EmitJumpIfCountZero();
        byte* stopped = two ? EmitPieceOfTwo(s) : EmitPieceOfOne(s);
        byte* over = s.Compares ? EmitJumpIfCountZero() : null;
        // MOV; TEST; JE
        _a.Load32(HostReg.R11, HostMemory.State(s_requests));
        _a.Op(0x85, (int)HostReg.R11, s_requestMask);
        HostAssembler.Bind(_a.JumpIf(4), top);
        byte* done = EmitJumpIfCountZero();
        foreach (nint field in _stringMisses)
            _a.Bind((byte*)field);
        if (two)
            EmitReloadPair();
        AddMiss(_a.Jump(), ColdKind.MissWithoutFlags, recipe);
        _a.Bind(nothing);
        _a.Bind(done);
        if (over != null)
            _a.Bind(over);
        if (putBack || s.Compares)
            EmitRecipe(recipe);
        // Where a comparison stopped the flags are the host's.
        if (stopped != null)
            _a.Bind(stopped);
        if (two)
            EmitReloadPair();
    }

    private void EmitReloadPair()
    {
        _a.Load(HostReg.Rax, RegisterMap.Slot(0));
        _a.Load(HostReg.Rdx, RegisterMap.Slot(2));
    }

    private byte* EmitJumpIfCountZero()
    {
        _a.Op(0x85, (int)HostReg.Rcx, HostReg.Rcx, w: true);
        return _a.JumpIf(4);
    }

    /// <summary>The elements up to a page end by RSI or RDI. Returns the branch that a comparison takes that stops, flags live; else they are saved.</summary>
    private byte* EmitPieceOfOne(in StringForm s)
    {
        HostReg pointer = s.HasSource ? HostReg.Rsi : HostReg.Rdi;
        EmitElementCheck(pointer, HostReg.R11, s.Size, s.Writes);
        EmitElementsToPageEnd(HostReg.R11, s.Size);
        // SUB; XCHG: what is left to R11.
        _a.Op(0x2B, (int)HostReg.Rcx, HostReg.R11, w: true);
        _a.Op(0x87, (int)HostReg.Rcx, HostReg.R11, w: true);
        EmitToHost(pointer, HostReg.R10);
        EmitHostString(s);
        _a.Lea(pointer, new HostMemory(pointer, 0, HostReg.R10));
        return EmitPieceEnd(s);
    }

    /// <summary>The same by RSI and RDI, with RAX and RDX free.</summary>
    private byte* EmitPieceOfTwo(in StringForm s)
    {
        EmitElementCheck(HostReg.Rdi, HostReg.R11, s.Size, s.Writes);
        _a.Move(HostReg.Rdx, HostReg.R10);
        EmitElementCheck(HostReg.Rsi, HostReg.Rax, s.Size, write: false);
        // The nearer page end. CMP; CMOVB
        _a.Op(0x3B, (int)HostReg.Rax, HostReg.R11, w: true);
        _a.Op(0x42 | HostOp.Map0F, (int)HostReg.Rax, HostReg.R11, w: true);
        EmitElementsToPageEnd(HostReg.Rax, s.Size);
        _a.Move(HostReg.R11, HostReg.Rcx);
        _a.Op(0x2B, (int)HostReg.R11, HostReg.Rax, w: true);
        _a.Move(HostReg.Rcx, HostReg.Rax);
        EmitToHost(HostReg.Rdi, HostReg.Rdx);
        EmitToHost(HostReg.Rsi, HostReg.R10);
        EmitHostString(s);
        _a.Lea(HostReg.Rdi, new HostMemory(HostReg.Rdi, 0, HostReg.Rdx));
        _a.Lea(HostReg.Rsi, new HostMemory(HostReg.Rsi, 0, HostReg.R10));
        return EmitPieceEnd(s);
    }

    /// <summary>From an offset in the page to the number of elements that are wanted and fit before its end.</summary>
    private void EmitElementsToPageEnd(HostReg r, int size)
    {
        // NEG; ADD; SHR; CMP; CMOVA
        _a.Op(0xF7, 3, r, w: true);
        _a.Op(0x81, 0, r, w: true);
        _a.Int32(4096);
        if (size > 1)
        {
            _a.Op(0xC1, 5, r, w: true);
            _a.Byte(System.Numerics.BitOperations.Log2((uint)size));
        }

        _a.Op(0x3B, (int)r, HostReg.Rcx, w: true);
        _a.Op(0x47 | HostOp.Map0F, (int)r, HostReg.Rcx, w: true);
    }

    /// <summary>Makes a guest's address the host's; the addend becomes what leads back, without touching flags.</summary>
    private void EmitToHost(HostReg pointer, HostReg addend)
    {
        _a.Op(0x03, (int)pointer, addend, w: true);
        _a.Op(0xF7, 3, addend, w: true);
    }

    private void EmitHostString(in StringForm s)
    {
        if (s.Size == 2)
            _a.Byte(0x66);
        _a.Byte(s.Prefix);
        if (s.Size == 8)
            _a.Byte(0x48);
        _a.Byte(s.Opcode);
    }

    /// <summary>RCX is what is left of all again; R11 was what is left beside the piece.</summary>
    private byte* EmitPieceEnd(in StringForm s)
    {
        if (!s.Compares)
        {
            _a.Move(HostReg.Rcx, HostReg.R11);
            return null;
        }

        _a.Lea(HostReg.Rcx, new HostMemory(HostReg.Rcx, 0, HostReg.R11));
        // REPE stops where ZF is clear, REPNE where it is set.
        byte* stopped = _a.JumpIf(s.Prefix == 0xF3 ? 5 : 4);
        EmitSaveFlags();
        return stopped;
    }
}
