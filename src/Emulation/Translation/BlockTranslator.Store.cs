namespace VirtPS.Emulation;

// Translations that outlive the run: written once more as they are before anything is linked, and put back elsewhere.
internal sealed unsafe partial class BlockTranslator
{
    private readonly RelocationList _relocations = new();

    /// <summary>
    /// Translates a block for the store: code, relocations, links and jumps to the second translation go behind <paramref name="to"/>'s bytes and ops, for which it says how many there are. False: it
    /// needs more than <paramref name="room"/> bytes, or a slot that there is not. Nothing in the cache is changed.
    /// </summary>
    public bool Record(Block* block, ulong linear, StoredBlock* to, int room)
    {
        try
        {
            if (!TryWrite(block, linear, pins: true, _relocations))
                return false;
            byte* code = _cache.NextCode;
            int size = (int)(_a.Next - code), links = _cache.NextLink - _cache.FirstLink;
            ReadOnlySpan<(int Field, int Index)> unpinned = _cache.NewUnpinned;
            if (size + _a.RelocationCount * sizeof(StoredBlock.PackedRelocation) + links * sizeof(StoredBlock.PackedLink) + unpinned.Length * sizeof(StoredBlock.PackedUnpinned) + 64 > room)
                return false;
            to->CodeSize = size;
            (to->RelocationCount, to->LinkCount, to->UnpinnedCount) = ((ushort)_a.RelocationCount, (ushort)links, (ushort)unpinned.Length);
            to->SlotCount = (ushort)(_cache.SlotCount - _cache.FirstSlot);
            new Span<byte>(StoredBlock.Code(to), StoredBlock.Align(size)).Clear();
            new ReadOnlySpan<byte>(code, size).CopyTo(new Span<byte>(StoredBlock.Code(to), size));
            StoredBlock.PackedRelocation* r = StoredBlock.Relocations(to);
            foreach (Relocation relocation in _relocations.First(_a.RelocationCount))
                *r++ = new StoredBlock.PackedRelocation { OffsetAndKind = (uint)relocation.Offset | (uint)relocation.Kind << 24, Value = relocation.Value };
            RecordLinks(to, _cache.OffsetOf(code));
            StoredBlock.PackedUnpinned* u = StoredBlock.Unpinned(to);
            foreach ((int field, int index) in unpinned)
                *u++ = new StoredBlock.PackedUnpinned { Field = field - _cache.OffsetOf(code), Index = index };
            return true;
        }
        finally
        {
            _cache.Withdraw();
        }
    }

    private void RecordLinks(StoredBlock* to, int start)
    {
        for (int i = 0; i < to->LinkCount; i++)
        {
            ref Link l = ref _cache.LinkAt(_cache.FirstLink + i);
            StoredBlock.Links(to)[i] = new StoredBlock.PackedLink
            {
                Field = l.Field == 0 ? 0 : l.Field - start, Unlinked = l.Unlinked - start, Distance = l.Distance, Slot = (short)(l.Slot < 0 ? -1 : l.Slot - _cache.FirstSlot), Kind = l.Kind,
                CrossesPage = l.CrossesPage ? (byte)1 : (byte)0,
            };
        }
    }

    /// <summary>Puts a stored translation of what was <paramref name="decoded"/> into the cache; it becomes the block's. False: it does not fit at this address, or there are not enough slots.</summary>
    public bool Restore(Block* block, Block* decoded, ulong linear, StoredBlock* from)
    {
        StoredBlock.PackedRelocation* r = StoredBlock.Relocations(from);
        for (int i = 0; i < from->RelocationCount; i++)
        {
            if (!Fits(r[i].Relocation, linear, from->CodeSize))
                return false;
        }

        HostAssembler a = _cache.Begin();
        for (int i = 0; i < from->SlotCount; i++)
        {
            if (_cache.AddSlot() < 0)
            {
                _cache.Withdraw();
                return false;
            }
        }

        byte* start = a.Next;
        new ReadOnlySpan<byte>(StoredBlock.Code(from), from->CodeSize).CopyTo(new Span<byte>(start, from->CodeSize));
        a.Next += from->CodeSize;
        int firstOp = _arena.IndexOf(decoded->Ops);
        for (int i = 0; i < from->RelocationCount; i++)
            Apply(r[i].Relocation, start, linear, firstOp);
        for (int i = 0; i < from->LinkCount; i++)
        {
            ref StoredBlock.PackedLink l = ref StoredBlock.Links(from)[i];
            _cache.AddLink(decoded, l.Distance, l.CrossesPage != 0, l.Field == 0 ? null : start + l.Field, start + l.Unlinked, l.Slot < 0 ? -1 : _cache.FirstSlot + l.Slot, l.Kind);
        }

        for (int i = 0; i < from->UnpinnedCount; i++)
            _cache.AddUnpinned(start + StoredBlock.Unpinned(from)[i].Field, StoredBlock.Unpinned(from)[i].Index);
        block->EntryLinear = decoded->EntryLinear = linear;
        _cache.Commit(block, decoded, a);
        return true;
    }

    private static bool Fits(in Relocation r, ulong linear, int codeSize)
    {
        long value = (long)linear + r.Value;
        return r.Offset + r.Size <= codeSize && r.Kind switch
        {
            RelocationKind.CodeSigned32 => value == (int)value,
            RelocationKind.CodeUnsigned32 => value == (uint)value,
            _ => true,
        };
    }

    private void Apply(in Relocation r, byte* start, ulong linear, int firstOp)
    {
        byte* field = start + r.Offset;
        long code = (long)linear + r.Value;
        if (r.Kind == RelocationKind.Code64)
        {
            *(long*)field = code;
            return;
        }

        *(int*)field = r.Kind switch
        {
            RelocationKind.Stub => (int)(_cache.Stubs.Get((StubName)r.Value).Address - field - 4),
            RelocationKind.Site => (int)Relocation.Site(firstOp, r.Value),
            RelocationKind.Link => _cache.FirstLink + r.Value,
            RelocationKind.Slot => Relocation.SlotPlace(_cache.FirstSlot + r.Value),
            RelocationKind.CodeSigned32 or RelocationKind.CodeUnsigned32 => (int)code,
            _ => throw new InvalidOperationException($"There is no relocation {r.Kind}."),
        };
    }
}
