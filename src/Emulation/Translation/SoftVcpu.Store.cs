using System.Runtime.InteropServices;
using VirtPS.X86;

namespace VirtPS.Emulation;

// Blocks of former runs (TranslationStore): taken where they would be decoded, added when the vCPU goes.
public sealed unsafe partial class SoftVcpu
{
    private const int MaxRecord = 256 * 1024;

    private StoreCursor _stored;

    /// <summary>32-bit code is quickly made anew, and its addresses in generated code are not noted.</summary>
    private static bool IsStorable(uint mode) => (mode & CodeMode.SizeMask) == CodeMode.Bits64 && BlockTranslator.Handles(mode);

    private uint StoredMode(uint mode) => _decoder.SyscallReturns ? mode | StoredBlock.SyscallReturns : mode;

    /// <summary>A block whose bytes in memory are those of a stored one; null: there is none, it is to be decoded.</summary>
    private Block* TakeStored(TranslationStore store, ulong linear, ulong gpa, in CodePage e)
    {
        uint mode = N->Mode;
        if (!IsStorable(mode))
            return null;
        byte* source = (byte*)(linear + e.Addend);
        int pageOffset = (int)(linear & 0xFFF);
        StoredBlock* stored = store.Find(ref _stored, StoredMode(mode), pageOffset, source, 0x1000 - pageOffset);
        if (stored == null)
            return null;
        Block* b = NewBlock();
        Unpack(b, stored);
        MappedSlot slot = FindSlot(gpa)!;
        uint generation = ProtectCode(slot, gpa - slot.Gpa, (int)b->ByteCount);
        // The bytes may have changed before the page was protected.
        if (!new ReadOnlySpan<byte>(source, (int)b->ByteCount).SequenceEqual(new ReadOnlySpan<byte>(StoredBlock.Bytes(stored), (int)b->ByteCount)))
            return null;
        b->Generation = generation;
        b->GenerationNow = &slot.Pages[(gpa - slot.Gpa) >> 12].Generation;
        b->IsStored = true;
        Publish(b, gpa, linear);
        _engine.StoredBlocks++;
        if (stored->CodeSize != 0 && !_cache!.IsFull && _translator!.Restore(b, b, linear, stored))
        {
            b->Heat = 0;
            _engine.StoredTranslations++;
            Partition.Engine.AfterTranslation?.Invoke(this, (nint)b);
        }

        return b;
    }

    private static void Unpack(Block* b, StoredBlock* stored)
    {
        byte* ops = StoredBlock.Ops(stored);
        int offset = 0;
        for (int i = 0; i < stored->Count; i++)
        {
            Op* op = b->Ops + i;
            ops += PackedOp.Read(ops, offset, op);
            offset += op->Length;
        }

        (b->Count, b->ByteCount) = (stored->Count, stored->ByteCount);
        Finish(b, StoredBlock.Bytes(stored));
    }

    /// <summary>Adds what this run decoded, and what of that was executed more than once with its translation. The vCPU does not run any more.</summary>
    internal void KeepBlocks(TranslationStore store)
    {
        if (_cache is null)
            return;
        // Room to write each translation once more.
        if (_cache.IsFull)
            ForgetTranslations();
        // SAFETY: Record is told how much room there is; the largest block's other parts are some 3 KiB.
        byte* memory = (byte*)NativeMemory.Alloc(MaxRecord);
        Op* scratch = stackalloc Op[MaxOps];
        try
        {
            for (Block* b = _arena!.FirstBlock; b != _arena.EndOfBlocks; b = CodeArena.Next(b))
            {
                if (b->IsStored || b->IsTrace || b->CrossesPage || b->Count == 0 || b->GenerationNow == &b->Generation || !IsStorable(b->Mode))
                    continue;
                if (IsInOnePiece(b) ? Pack(b, (StoredBlock*)memory, scratch) : PackSuperblock(b, (StoredBlock*)memory))
                    store.Add((StoredBlock*)memory);
            }
        }
        finally
        {
            NativeMemory.Free(memory);
        }
    }

    /// <summary>Makes a block's record. False: it is one that cannot be stored.</summary>
    private bool Pack(Block* b, StoredBlock* to, Op* scratch)
    {
        *to = default;
        (to->Mode, to->PageOffset, to->ByteCount, to->Count) = (StoredMode(b->Mode), (ushort)(b->Gpa & 0xFFF), (ushort)b->ByteCount, (ushort)b->Count);
        CopyPadded(Op.Bytes(b->Ops), (int)b->ByteCount, StoredBlock.Bytes(to));
        if (!DecodeAgain(b, scratch) || !PackOps(scratch, to))
            return false;
        to->IsPlaced = NamesItsPlace(b, scratch) ? (byte)1 : (byte)0;
        // What goes on at a branch's target is translated as a superblock, and kept as one; a loop over several blocks is better made anew.
        bool whole = b->Translation == 0 || _cache!.At(b->Translation).Decoded == b;
        bool often = (b->Translation != 0 || b->Heat <= Partition.Engine.HotAfter - 2) && whole && !CanFollow(b, to->PageOffset);
        if (often && _translator!.Record(b, b->Translation != 0 ? b->EntryLinear : b->Linear, to, MaxRecord - (int)(StoredBlock.Code(to) - (byte*)to)))
        {
            // The translator has marked what is left to the interpreter; that changes no op's size.
            for (int i = 0; i < to->Count; i++)
                scratch[i].Flags |= b->Ops[i].Flags & OpFlags.LeftToInterpreter;
            PackOps(scratch, to);
        }

        Seal(to);
        return true;
    }

    private static void Seal(StoredBlock* to)
    {
        to->Length = (uint)((byte*)(StoredBlock.Unpinned(to) + to->UnpinnedCount) - (byte*)to);
        to->Checksum = StoredBlock.ChecksumOf(to);
    }

    private static void CopyPadded(byte* from, int bytes, byte* to)
    {
        new Span<byte>(to, StoredBlock.Align(bytes)).Clear();
        new ReadOnlySpan<byte>(from, bytes).CopyTo(new Span<byte>(to, bytes));
    }

    /// <summary>A block's ops as the decoder makes them: those in the arena have been changed by their execution. False: they do not come out the same again.</summary>
    private bool DecodeAgain(Block* b, Op* ops)
    {
        byte* bytes = Op.Bytes(b->Ops);
        int offset = 0;
        for (int i = 0; i < b->Count; i++)
        {
            int length = _decoder.Decode(bytes + offset, (int)b->ByteCount - offset, offset, b->Mode, ops + i);
            // A superblock's ops are not in one piece.
            if (length == 0 || b->Ops[i].Offset != offset || (ops[i].Has(OpFlags.EndsBlock) && i + 1 < b->Count))
                return false;
            offset += length;
        }

        return offset == b->ByteCount;
    }

    /// <summary>
    /// Whether a supervisor's code has constants that are addresses near its own. A kernel that places itself anew at each boot has others then, so that such code is kept for a few runs only (TranslationStore), and nothing is written for it alone.
    /// </summary>
    private static bool NamesItsPlace(Block* b, Op* ops)
    {
        const ulong Near = 1ul << 30;
        ulong linear = b->Translation != 0 ? b->EntryLinear : b->Linear;
        if ((b->Mode & CodeMode.User) != 0 || linear < 1ul << 63)
            return false;
        for (int i = 0; i < b->Count; i++)
        {
            Op* op = ops + i;
            bool near = op->Has(OpFlags.Immediate) && op->OpSize >= 4 && (ulong)(long)(int)op->Imm - linear + Near < 2 * Near;
            // Per-processor data lie at fixed offsets from a base: seen from RIP their place is the code's.
            near |= op->Has(OpFlags.RipRelative) && op->Seg is SegmentName.FS or SegmentName.GS;
            near |= op->IsMemory && !op->Has(OpFlags.RipRelative) && op->Disp == (int)op->Disp && (ulong)op->Disp - linear + Near < 2 * Near;
            if (near || (op->OpSize == 8 && op->Has(OpFlags.Immediate) && op->Imm - linear + Near < 2 * Near))
                return true;
        }

        return false;
    }

    /// <summary>False: some op does not read as what it was.</summary>
    private static bool PackOps(Op* ops, StoredBlock* to)
    {
        byte* start = StoredBlock.Ops(to), next = start;
        for (int i = 0; i < to->Count; i++)
        {
            int bytes = PackedOp.Write(ops + i, next);
            Op read;
            PackedOp.Read(next, ops[i].Offset, &read);
            if (!new ReadOnlySpan<byte>(&read, sizeof(Op)).SequenceEqual(new ReadOnlySpan<byte>(ops + i, sizeof(Op))))
                return false;
            next += bytes;
        }

        to->OpBytes = (ushort)(next - start);
        new Span<byte>(next, StoredBlock.Align(to->OpBytes) - to->OpBytes).Clear();
        return true;
    }
}
