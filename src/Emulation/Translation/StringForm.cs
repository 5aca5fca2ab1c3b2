using Iced.Intel;

namespace VirtPS.Emulation;

internal enum StringKind : byte
{
    Movs,
    Stos,
    Lods,
    Cmps,
    Scas,
}

/// <summary>A string instruction that generated code executes itself: with 64-bit addresses, and in the flat segments.</summary>
internal unsafe struct StringForm
{
    private const uint Rax = 1, Rcx = 1 << 1, Rsi = 1 << 6, Rdi = 1 << 7;

    public StringKind Kind;

    /// <summary>Bytes of an element.</summary>
    public int Size;

    /// <summary>The repeat prefix; 0: none.</summary>
    public byte Prefix;

    public readonly bool Compares => Kind is StringKind.Cmps or StringKind.Scas;

    public readonly bool HasSource => Kind is StringKind.Movs or StringKind.Lods or StringKind.Cmps;

    public readonly bool HasDestination => Kind != StringKind.Lods;

    public readonly bool Writes => Kind is StringKind.Movs or StringKind.Stos;

    /// <summary>The one-byte opcode (SDM Vol. 2, MOVS, CMPS, STOS, LODS, SCAS).</summary>
    public readonly int Opcode => Kind switch
    {
        StringKind.Movs => 0xA4,
        StringKind.Cmps => 0xA6,
        StringKind.Stos => 0xAA,
        StringKind.Lods => 0xAC,
        _ => 0xAE,
    } | (Size == 1 ? 0 : 1);

    /// <summary>Guest registers that it changes, a bit each.</summary>
    public readonly uint Changes => (HasSource ? Rsi : 0) | (HasDestination ? Rdi : 0) | (Prefix != 0 ? Rcx : 0) | (Kind == StringKind.Lods ? Rax : 0);

    /// <summary>A repeated comparison of nothing leaves the flags alone: they are not surely written.</summary>
    public readonly FlagFacts Facts => new()
    {
        IsPlain = true,
        MayFault = true,
        Changes = Changes,
        Touches = Compares,
        Writes = Compares && Prefix == 0 ? FlagFacts.All : 0,
    };

    public static bool TryRead(Op* op, out StringForm form)
    {
        form = default;
        StringKind? kind = op->Code switch
        {
            Code.Movsb_m8_m8 or Code.Movsw_m16_m16 or Code.Movsd_m32_m32 or Code.Movsq_m64_m64 => StringKind.Movs,
            Code.Stosb_m8_AL or Code.Stosw_m16_AX or Code.Stosd_m32_EAX or Code.Stosq_m64_RAX => StringKind.Stos,
            Code.Lodsb_AL_m8 or Code.Lodsw_AX_m16 or Code.Lodsd_EAX_m32 or Code.Lodsq_RAX_m64 => StringKind.Lods,
            Code.Cmpsb_m8_m8 or Code.Cmpsw_m16_m16 or Code.Cmpsd_m32_m32 or Code.Cmpsq_m64_m64 => StringKind.Cmps,
            Code.Scasb_AL_m8 or Code.Scasw_AX_m16 or Code.Scasd_EAX_m32 or Code.Scasq_RAX_m64 => StringKind.Scas,
            _ => null,
        };
        if (kind is not { } k || op->AddrSize != 8)
            return false;
        form = new StringForm { Kind = k, Size = Math.Max((int)op->OpSize, 1) };
        // What only moves repeats with either prefix (the interpreter, and every processor).
        if (op->Has(OpFlags.Rep | OpFlags.Repne))
            form.Prefix = form.Compares && op->Has(OpFlags.Repne) ? (byte)0xF2 : (byte)0xF3;
        return !form.HasSource || op->Seg < VirtPS.X86.SegmentName.FS;
    }
}
