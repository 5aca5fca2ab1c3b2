namespace VirtPS.Emulation;

/// <summary>General registers of the host by encoding.</summary>
internal enum HostReg : byte
{
    Rax, Rcx, Rdx, Rbx, Rsp, Rbp, Rsi, Rdi, R8, R9, R10, R11, R12, R13, R14, R15,
    None = 0xFF,
}

/// <summary>A memory operand of host code: base + index &lt;&lt; scale + displacement. The index is never RSP.</summary>
internal readonly record struct HostMemory(HostReg Base, int Displacement, HostReg Index = HostReg.None, int Scale = 0)
{
    /// <summary>A field at a fixed distance from the vCPU's memory (see <see cref="VcpuMemory"/>).</summary>
    public static HostMemory State(int offsetFromStackPointer) => new(HostReg.Rsp, offsetFromStackPointer);

    /// <summary>An element of an array of eight-byte fields in the vCPU's memory.</summary>
    public static HostMemory Array(HostReg index, int offsetFromStackPointer) => new(HostReg.Rsp, offsetFromStackPointer, index, 3);
}

/// <summary>Opcode maps and mandatory prefixes; added to an opcode byte they name an instruction (SDM Vol. 2A §2.3.6).</summary>
internal static class HostOp
{
    public const int Map0F = 0x100, Map0F38 = 0x200, Map0F3A = 0x300, MapMask = 0x300;
    public const int P66 = 0x1000, PF3 = 0x2000, PF2 = 0x3000, PrefixMask = 0x3000;
}

/// <summary>
/// Writes x64 machine code into memory. Knows encodings, not meanings; branches go to addresses in the same memory. The caller leaves room: <see cref="Room"/>.
/// </summary>
internal unsafe partial struct HostAssembler
{
    private readonly byte* _start;
    private readonly byte* _end;
    private readonly RelocationList? _relocations;
    private int _relocationCount;

    /// <summary>Where the next byte goes.</summary>
    public byte* Next;

    /// <param name="start">Where the first byte goes.</param>
    /// <param name="size">Bytes that there is room for.</param>
    /// <param name="relocations">Takes down what depends on the place of the code or on the run. A copy of the assembler that is put back takes back what was noted since, too.</param>
    public HostAssembler(byte* start, int size, RelocationList? relocations = null)
    {
        Next = _start = start;
        _end = start + size;
        _relocations = relocations;
    }

    public readonly long Room => _end - Next;

    public void Byte(int value) => *Next++ = (byte)value;

    public void Int32(int value)
    {
        *(int*)Next = value;
        Next += 4;
    }

    public void Int64(long value)
    {
        *(long*)Next = value;
        Next += 8;
    }

    /// <summary>An instruction with register operands. <paramref name="rex"/> asks for a REX prefix even when no bit of it is set (SPL, BPL, SIL, DIL).</summary>
    public void Op(int op, int reg, HostReg rm, bool w = false, bool rex = false)
    {
        Head(op, (w ? 8 : 0) | (reg & 8) >> 1 | ((int)rm & 8) >> 3, rex);
        Byte(0xC0 | (reg & 7) << 3 | (int)rm & 7);
    }

    /// <summary>An instruction with a memory operand.</summary>
    public void Op(int op, int reg, in HostMemory m, bool w = false, bool rex = false)
    {
        Head(op, (w ? 8 : 0) | (reg & 8) >> 1 | MemoryBits(m), rex);
        Memory(reg, m);
    }

    /// <summary>A VEX-encoded instruction of 128 bits or none; <paramref name="vvvv"/> 0 where it has no such operand.</summary>
    public void Vex(int op, int reg, int vvvv, HostReg rm, bool w = false, bool l = false)
    {
        VexHead(op, reg, vvvv, ((int)rm & 8) >> 3, w, l);
        Byte(0xC0 | (reg & 7) << 3 | (int)rm & 7);
    }

    public void Vex(int op, int reg, int vvvv, in HostMemory m, bool w = false, bool l = false)
    {
        VexHead(op, reg, vvvv, MemoryBits(m), w, l);
        Memory(reg, m);
    }

    private void Head(int op, int rexBits, bool rex)
    {
        switch (op & HostOp.PrefixMask)
        {
            case HostOp.P66: Byte(0x66); break;
            case HostOp.PF3: Byte(0xF3); break;
            case HostOp.PF2: Byte(0xF2); break;
        }

        if (rexBits != 0 || rex)
            Byte(0x40 | rexBits);
        switch (op & HostOp.MapMask)
        {
            case HostOp.Map0F: Byte(0x0F); break;
            case HostOp.Map0F38: Byte(0x0F); Byte(0x38); break;
            case HostOp.Map0F3A: Byte(0x0F); Byte(0x3A); break;
        }

        Byte(op);
    }

    // Always the three-byte form: W or a map other than 0F is nearly always needed here.
    private void VexHead(int op, int reg, int vvvv, int xb, bool w, bool l)
    {
        Byte(0xC4);
        Byte(((reg & 8) << 4 | xb << 5 & 0x60) ^ 0xE0 | (op & HostOp.MapMask) >> 8);
        int prefix = (op & HostOp.PrefixMask) switch { HostOp.P66 => 1, HostOp.PF3 => 2, HostOp.PF2 => 3, _ => 0 };
        Byte((w ? 0x80 : 0) | (~vvvv & 15) << 3 | (l ? 4 : 0) | prefix);
        Byte(op);
    }

    private static int MemoryBits(in HostMemory m) =>
        (m.Index == HostReg.None ? 0 : ((int)m.Index & 8) >> 2) | (m.Base == HostReg.None ? 0 : ((int)m.Base & 8) >> 3);

    private void Memory(int reg, in HostMemory m, bool shortDisplacement = true)
    {
        int r = (reg & 7) << 3;
        if (m.Base == HostReg.None)
        {
            // SIB without a base: 32-bit displacement.
            Byte(r | 4);
            Byte(m.Scale << 6 | (m.Index == HostReg.None ? 4 : (int)m.Index & 7) << 3 | 5);
            Int32(m.Displacement);
            return;
        }

        int b = (int)m.Base & 7;
        bool sib = m.Index != HostReg.None || b == 4;
        // A base of RBP or R13 always has a displacement.
        int mod = m.Displacement == 0 && b != 5 ? 0 : shortDisplacement && m.Displacement == (sbyte)m.Displacement ? 0x40 : 0x80;
        Byte(mod | r | (sib ? 4 : b));
        if (sib)
            Byte(m.Scale << 6 | (m.Index == HostReg.None ? 4 : (int)m.Index & 7) << 3 | b);
        if (mod == 0x40)
            Byte(m.Displacement);
        else if (mod == 0x80)
            Int32(m.Displacement);
    }

    // What the translator's own sequences are made of. None of these changes flags unless said.

    public void Move(HostReg to, HostReg from) => Op(0x8B, (int)to, from, w: true);

    public void Load(HostReg to, in HostMemory m) => Op(0x8B, (int)to, m, w: true);

    /// <summary>Loads 32 bits, zero-extended.</summary>
    public void Load32(HostReg to, in HostMemory m) => Op(0x8B, (int)to, m);

    public void Store(in HostMemory m, HostReg from) => Op(0x89, (int)from, m, w: true);

    public void Store32(in HostMemory m, HostReg from) => Op(0x89, (int)from, m);

    public void StoreImmediate(in HostMemory m, int value)
    {
        Op(0xC7, 0, m, w: true);
        Int32(value);
    }

    public void StoreImmediate32(in HostMemory m, int value)
    {
        Op(0xC7, 0, m);
        Int32(value);
    }

    public void Lea(HostReg to, in HostMemory m) => Op(0x8D, (int)to, m, w: true);

    public void Lea32(HostReg to, in HostMemory m) => Op(0x8D, (int)to, m);

    /// <summary>The shortest encoding of a constant.</summary>
    public void MoveImmediate(HostReg to, long value)
    {
        if (value == (uint)value)
        {
            if ((int)to >= 8)
                Byte(0x41);
            Byte(0xB8 | (int)to & 7);
            Int32((int)value);
        }
        else if (value == (int)value)
        {
            Op(0xC7, 0, to, w: true);
            Int32((int)value);
        }
        else
        {
            Byte(0x48 | (int)to >> 3);
            Byte(0xB8 | (int)to & 7);
            Int64(value);
        }
    }

    public void Pext(HostReg to, HostReg value, in HostMemory mask) => Vex(0xF5 | HostOp.Map0F38 | HostOp.PF3, (int)to, (int)value, mask, w: true);

    public void Pext32(HostReg to, HostReg value, in HostMemory mask) => Vex(0xF5 | HostOp.Map0F38 | HostOp.PF3, (int)to, (int)value, mask);

    public void Shrx(HostReg to, HostReg value, HostReg count) => Vex(0xF7 | HostOp.Map0F38 | HostOp.PF2, (int)to, (int)count, value, w: true);

    public void Shlx(HostReg to, HostReg value, HostReg count) => Vex(0xF7 | HostOp.Map0F38 | HostOp.P66, (int)to, (int)count, value, w: true);

    public void Sarx(HostReg to, HostReg value, HostReg count, bool w) => Vex(0xF7 | HostOp.Map0F38 | HostOp.PF3, (int)to, (int)count, value, w);

    public void Rorx(HostReg to, HostReg value, int count)
    {
        Vex(0xF0 | HostOp.Map0F3A | HostOp.PF2, (int)to, 0, value, w: true);
        Byte(count);
    }

    public void Rorx32(HostReg to, HostReg value, int count)
    {
        Vex(0xF0 | HostOp.Map0F3A | HostOp.PF2, (int)to, 0, value);
        Byte(count);
    }

    public void Pdep(HostReg to, HostReg value, in HostMemory mask) => Vex(0xF5 | HostOp.Map0F38 | HostOp.PF2, (int)to, (int)value, mask, w: true);

    public void Push(HostReg r)
    {
        if ((int)r >= 8)
            Byte(0x41);
        Byte(0x50 | (int)r & 7);
    }

    public void Pop(HostReg r)
    {
        if ((int)r >= 8)
            Byte(0x41);
        Byte(0x58 | (int)r & 7);
    }

    public void Return() => Byte(0xC3);

    // What depends on where the code is or on the run: each kind has one way to write it, which notes it.

    private void Relocate(RelocationKind kind, int value)
    {
        if (_relocations is not null)
            _relocations.Set(_relocationCount++, new Relocation((int)(Next - _start), kind, value));
    }

    /// <summary>How many relocations there are.</summary>
    public readonly int RelocationCount => _relocationCount;

    public void Jump(StubCode stub)
    {
        Byte(0xE9);
        Relocate(RelocationKind.Stub, (int)stub.Name);
        Int32((int)(stub.Address - Next - 4));
    }

    public void Call(StubCode stub)
    {
        Byte(0xE8);
        Relocate(RelocationKind.Stub, (int)stub.Name);
        Int32((int)(stub.Address - Next - 4));
    }

    private void MoveImmediate32(HostReg to)
    {
        if ((int)to >= 8)
            Byte(0x41);
        Byte(0xB8 | (int)to & 7);
    }

    /// <summary>The site (<see cref="Relocation.Site"/>) of an instruction of the block whose first op is <paramref name="firstOp"/> in the arena.</summary>
    public void MoveSite(HostReg to, int firstOp, int index, uint flags = 0)
    {
        MoveImmediate32(to);
        Relocate(RelocationKind.Site, (int)(flags | (uint)index));
        Int32((int)Relocation.Site(firstOp, (int)(flags | (uint)index)));
    }

    /// <summary>A link's number; <paramref name="first"/> is that of the block's first one.</summary>
    public void MoveLink(HostReg to, int first, int link)
    {
        MoveImmediate32(to);
        Relocate(RelocationKind.Link, link - first);
        Int32(link);
    }

    /// <summary>What a slot holds; <paramref name="first"/> is the block's first one.</summary>
    public void LoadSlot(HostReg to, int first, int slot)
    {
        Load(to, HostMemory.State(Relocation.SlotPlace(slot)));
        Next -= 4;
        Relocate(RelocationKind.Slot, slot - first);
        Int32(Relocation.SlotPlace(slot));
    }

    /// <summary>A linear address <paramref name="distance"/> bytes from the start of the block, which is at <paramref name="linear"/>.</summary>
    public void MoveCode(HostReg to, ulong linear, int distance)
    {
        long value = (long)linear + distance;
        MoveImmediate(to, value);
        bool wide = value != (uint)value && value != (int)value;
        int field = wide ? 8 : 4;
        Next -= field;
        Relocate(wide ? RelocationKind.Code64 : value == (uint)value ? RelocationKind.CodeUnsigned32 : RelocationKind.CodeSigned32, distance);
        Next += field;
    }

    /// <summary>Stores the same; the address is one that a sign-extended 32-bit immediate can hold.</summary>
    public void StoreCode(in HostMemory m, ulong linear, int distance)
    {
        StoreImmediate(m, (int)((long)linear + distance));
        Next -= 4;
        Relocate(RelocationKind.CodeSigned32, distance);
        Next += 4;
    }

    // Branches. Those that return an address leave a 32-bit field there for Bind.

    /// <summary>To a place of the same code: whatever else there is has a typed way above.</summary>
    public void Jump(byte* target)
    {
        if (target < _start || target > Next)
            throw new InvalidOperationException("A jump leaves the code that is being written.");
        Byte(0xE9);
        Int32((int)(target - Next - 4));
    }

    public byte* Jump()
    {
        Byte(0xE9);
        Int32(0);
        return Next - 4;
    }

    public void Call(byte* target)
    {
        if (target < _start || target > Next)
            throw new InvalidOperationException("A call leaves the code that is being written.");
        Byte(0xE8);
        Int32((int)(target - Next - 4));
    }

    public byte* JumpIf(int condition)
    {
        Byte(0x0F);
        Byte(0x80 | condition);
        Int32(0);
        return Next - 4;
    }

    public void JumpMemory(in HostMemory m) => Op(0xFF, 4, m);

    public void CallMemory(in HostMemory m) => Op(0xFF, 2, m);

    /// <summary>JRCXZ with an 8-bit displacement for <see cref="BindShort"/>.</summary>
    public byte* JumpIfRcxZero()
    {
        Byte(0xE3);
        Byte(0);
        return Next - 1;
    }

    public byte* JumpShort()
    {
        Byte(0xEB);
        Byte(0);
        return Next - 1;
    }

    public readonly void BindShort(byte* field)
    {
        long distance = Next - field - 1;
        if (distance != (sbyte)distance)
            throw new InvalidOperationException($"A short branch spans {distance} bytes.");
        *field = (byte)distance;
    }

    public readonly void Bind(byte* field) => Bind(field, Next);

    public static void Bind(byte* field, byte* target) => *(int*)field = (int)(target - field - 4);
}
