namespace VirtPS.Emulation;

// Superblocks of former runs. What a superblock follows is decoded anew each time, which says what it is made of; mode, place in the page and the bytes of all of it, one piece after the other, say which one it is, since
// each piece's place is in the branch before it. Loops over several blocks are not kept: which way they go is not in their bytes.
public sealed unsafe partial class SoftVcpu
{
    private uint SuperblockMode(uint mode) => StoredMode(mode) | StoredBlock.Superblock;

    /// <summary>Each instruction lies behind the one before.</summary>
    private static bool IsInOnePiece(Block* b)
    {
        for (int i = 1; i < b->Count; i++)
        {
            if (b->Ops[i].Offset != b->Ops[i - 1].Offset + b->Ops[i - 1].Length)
                return false;
        }

        return true;
    }

    /// <summary>Makes the record of a superblock whose translation is in use. False: its translation is gone.</summary>
    private bool PackSuperblock(Block* b, StoredBlock* to)
    {
        if (b->Translation == 0 || _cache!.At(b->Translation).Decoded != b)
            return false;
        *to = default;
        (to->Mode, to->PageOffset, to->ByteCount, to->Count, to->OpBytes) =
            (SuperblockMode(b->Mode), (ushort)(b->Gpa & 0xFFF), (ushort)b->ByteCount, (ushort)b->Count, sizeof(ulong));
        to->IsPlaced = NamesItsPlace(b, b->Ops) ? (byte)1 : (byte)0;
        CopyPadded(Op.Bytes(b->Ops), (int)b->ByteCount, StoredBlock.Bytes(to));
        if (!_translator!.Record(b, b->EntryLinear, to, MaxRecord - (int)(StoredBlock.Code(to) - (byte*)to)))
            return false;
        // MaxFollowed is less than 64.
        ulong left = 0;
        for (int i = 0; i < b->Count; i++)
            left |= b->Ops[i].Has(OpFlags.LeftToInterpreter) ? 1ul << i : 0;
        *(ulong*)StoredBlock.Ops(to) = left;
        Seal(to);
        return true;
    }

    /// <summary>Gives a block the translation of a stored superblock, should there be the one that was just put together. False: it is to be translated.</summary>
    private bool TakeStoredCode(Block* block, Block* whole, ulong linear)
    {
        if (Partition.Store is not { } store || !IsStorable(whole->Mode) || whole->IsTrace)
            return false;
        StoredBlock* stored = store.Find(ref _stored, SuperblockMode(whole->Mode), (int)(whole->Gpa & 0xFFF), Op.Bytes(whole->Ops), (int)whole->ByteCount);
        // A shorter one was cut off: its page changed while it was put together.
        if (stored == null || (stored->ByteCount, stored->Count, stored->OpBytes) != (whole->ByteCount, whole->Count, sizeof(ulong)) || !_translator!.Restore(block, whole, linear, stored))
            return false;
        ulong left = *(ulong*)StoredBlock.Ops(stored);
        for (int i = 0; i < whole->Count; i++)
        {
            if ((left >> i & 1) != 0)
                whole->Ops[i].Flags |= OpFlags.LeftToInterpreter;
        }

        whole->IsStored = true;
        _engine.StoredTranslations++;
        Partition.Engine.AfterTranslation?.Invoke(this, (nint)block);
        return true;
    }
}
