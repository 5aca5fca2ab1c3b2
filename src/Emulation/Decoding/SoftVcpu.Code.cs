using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using VirtPS.X86;

namespace VirtPS.Emulation;

// Finding and making blocks of decoded code.
public sealed unsafe partial class SoftVcpu
{
    internal const int MaxOps = 112;
    private const int MaxOpsAfterBranch = 24;
    private const int JumpCacheSize = 1 << 14, HashSize = 1 << 16;

    /// <summary>Memory for decoded code per vCPU; touched as it fills. A Linux boot with one processor decodes some 40 MiB.</summary>
    private const nuint ArenaSize = 64u << 20, ArenaSizeOfMany = 32u << 20;
    private const ulong NoLinear = ulong.MaxValue;

    private readonly OpDecoder _decoder = new();
    private CodeArena? _arena;
    private Block** _jumpCache;
    private Block** _hash;

    private void InitializeCode()
    {
        _arena = new CodeArena(Partition.Options.VcpuCount <= 2 ? ArenaSize : ArenaSizeOfMany, Partition.Ahead);
        // SAFETY: freed in FreeCode; indices are masked by the sizes.
        _jumpCache = (Block**)NativeMemory.AllocZeroed(JumpCacheSize, (nuint)sizeof(Block*));
        N->JumpCache = _jumpCache;
        _hash = (Block**)NativeMemory.AllocZeroed(HashSize, (nuint)sizeof(Block*));
        InitializeTranslation();
    }

    private void FreeCode()
    {
        FreeTranslation();
        _arena?.Dispose();
        NativeMemory.Free(_jumpCache);
        NativeMemory.Free(_hash);
    }

    /// <summary>Forgets all blocks. Not while one runs.</summary>
    private void FlushCode()
    {
        NativeMemory.Clear(_jumpCache, JumpCacheSize * (nuint)sizeof(Block*));
        NativeMemory.Clear(_hash, HashSize * (nuint)sizeof(Block*));
        _arena!.Clear();
        ForgetTranslations();
    }

    private uint CodeModeNow()
    {
        uint mode = (S->Cpl == 3 && S->GuestKernel == 0 ? CodeMode.User : _view == ViewSupervisorAc ? CodeMode.SmapOff : 0)
            | (AlignmentCheck || DebugActive ? CodeMode.Checked : 0) | (S->Cpl == 0 && S->GuestKernel == 0 ? CodeMode.Ring0 : 0);
        if (S->IsLongMode && S->CS.IsLong)
            return mode | CodeMode.Bits64;
        if (S->CS.IsDefault32 && !S->IsVirtual8086)
            mode |= CodeMode.Bits32;
        if (S->IsProtected && IsFlatCode(in S->CS) && IsFlatData(in S->DS) && IsFlatData(in S->ES) && IsFlatData(in S->SS) && S->SS.IsDefault32)
            mode |= CodeMode.Flat;
        const uint UserFlat = CodeMode.Bits32 | CodeMode.Flat | CodeMode.User;
        if ((mode & UserFlat) == UserFlat)
            mode |= (IsWideData(in S->FS) ? CodeMode.WideFs : 0) | (IsWideData(in S->GS) ? CodeMode.WideGs : 0);
        return mode;
    }

    private static bool IsFlatCode(in SegmentRegister s) => s.Base == 0 && s.Limit == 0xFFFF_FFFF;

    private static bool IsFlatData(in SegmentRegister s) => s.Base == 0 && IsWideData(in s);

    private static bool IsWideData(in SegmentRegister s) =>
        s.Limit == 0xFFFF_FFFF
        && (s.Attributes & (SegmentRegister.Unusable | SegmentRegister.P | SegmentRegister.Code | SegmentRegister.ExpandDown | SegmentRegister.Writable))
            == (SegmentRegister.P | SegmentRegister.Writable);

    private static uint JumpIndex(ulong linear) => (uint)(linear ^ linear >> 10) & (JumpCacheSize - 1);

    /// <summary>
    /// The block at a linear address in the present mode. Null: fault recorded, or (with <see cref="NativeCpu.Leave"/> set) the code memory
    /// must be emptied first, which the outer loop does.
    /// </summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    private Block* FindBlock(ulong linear)
    {
        NativeCpu* n = N;
        ulong mapGeneration = n->MapGeneration;
        Block** cached = _jumpCache + JumpIndex(linear);
        Block* b = *cached;
        if (b != null && b->Linear == linear && b->MapGeneration == n->MapGeneration && b->Mode == n->Mode && b->Generation == *b->GenerationNow)
            return b;
        if (!FetchPage(linear, out CodePage e))
            return null;
        if (e.Info == null)
            return DecodeFromBus(linear, e.Gpa & ~0xFFFul);
        ulong gpa = e.Gpa & ~0xFFFul | linear & 0xFFF;
        // Most often the mapping is what it was before the flush.
        bool same = b != null && b->Gpa == gpa && b->Mode == n->Mode && b->Linear == linear && b->Generation == Volatile.Read(ref *b->GenerationNow) && !b->CrossesPage;
        if (!same)
            b = FindDecoded(gpa, linear);
        if (b == null)
        {
            if (_arena!.IsFull)
            {
                LeaveBlock();
                return null;
            }

            if (Partition.Store is { } store)
                b = TakeStored(store, linear, gpa, in e);
            if (b == null)
                b = DecodeBlock(linear, gpa, in e);
            if (b == null)
                return null;
        }

        if (n->RipMask != ulong.MaxValue && !FitsCodeSegment(ref b, linear, in e))
            return null;
        if (!b->CrossesPage && b->Linear != NoLinear)
        {
            b->Linear = linear;
            b->MapGeneration = mapGeneration;
            *cached = b;
        }

        return b;
    }

    private uint HashIndex(ulong gpa) => (uint)((gpa ^ gpa >> 13) * 0x9E3779B1 >> 7) & (HashSize - 1);

    private Block* FindDecoded(ulong gpa, ulong linear)
    {
        Block** link = _hash + HashIndex(gpa);
        uint mode = N->Mode;
        for (Block* b = *link; b != null; b = *link)
        {
            // Whether its page has changed is asked of the address that is wanted alone: that is what costs.
            if (b->Gpa == gpa && b->Generation != Volatile.Read(ref *b->GenerationNow))
            {
                *link = b->Next;
                continue;
            }

            if (b->Gpa == gpa && b->Mode == mode && (!b->CrossesPage || SecondPageHolds(b, linear)))
                return b;
            link = &b->Next;
        }

        return null;
    }

    private bool SecondPageHolds(Block* b, ulong linear)
    {
        // A fault here is met again, and reported, when the block is decoded anew.
        return FetchPage(((linear | 0xFFF) + 1) & N->LinearMask, out CodePage e) && e.Info != null
            && (e.Gpa & ~0xFFFul) == b->Gpa2 && b->Generation2 == Volatile.Read(ref *b->GenerationNow2);
    }

    /// <summary>A page of code: what a code view's entry says.</summary>
    private struct CodePage
    {
        /// <summary>Host address minus linear address.</summary>
        public ulong Addend;

        /// <summary>As in <see cref="TlbEntry.Gpa"/>.</summary>
        public ulong Gpa;

        /// <summary>Null where there is no memory.</summary>
        public PageInfo* Info;
    }

    /// <summary>Translates a page for execution.</summary>
    private bool FetchPage(ulong linear, out CodePage page)
    {
        int view = (N->Mode & CodeMode.User) != 0 ? ViewCodeUser : ViewCodeSupervisor;
        TlbEntry* e = Tlb.Entry(_views[view].Entries, linear);
        if (e->ReadTag == Tlb.TagOf(linear))
        {
            page = new CodePage { Addend = e->Addend, Gpa = e->Gpa, Info = (PageInfo*)e->WriteTag };
            return true;
        }

        page = default;
        if (S->IsLongMode && (ulong)((long)linear << 16 >> 16) != linear)
            return Raise(Vector.GP, 0);
        if (!TranslatePage(linear, Access.Fetch, view, out Translation t))
            return false;
        page.Gpa = t.Gpa & ~0xFFFul;
        MappedSlot? slot = FindSlot(t.Gpa);
        if (slot is null)
            return true;
        Fill(linear, view, in t, slot);
        e->WriteTag = (ulong)(slot.Pages + ((t.Gpa - slot.Gpa) >> 12));
        page = new CodePage { Addend = e->Addend, Gpa = e->Gpa, Info = (PageInfo*)e->WriteTag };
        return true;
    }

    private Block* DecodeBlock(ulong linear, ulong gpa, in CodePage e)
    {
        byte* source = (byte*)(linear + e.Addend);
        int inPage = 0x1000 - (int)(linear & 0xFFF);
        MappedSlot slot = FindSlot(gpa)!;
        byte* copy = stackalloc byte[MaxOps * 15];
        int available = Math.Min(inPage, MaxOps * 15);
        for (;;)
        {
            Buffer.MemoryCopy(source, copy, available, available);
            Block* b = NewBlock();
            Assemble(b, copy, available, endOfPage: available == inPage);
            if (b->Count == 0)
                return DecodeCrossing(linear, gpa, slot, source, inPage);
            uint generation = ProtectCode(slot, gpa - slot.Gpa, (int)b->ByteCount);
            // The bytes may have changed before the page was protected.
            if (!new Span<byte>(source, (int)b->ByteCount).SequenceEqual(new Span<byte>(copy, (int)b->ByteCount)))
                continue;
            b->Generation = generation;
            b->GenerationNow = &slot.Pages[(gpa - slot.Gpa) >> 12].Generation;
            return Publish(b, gpa, linear);
        }
    }

    private Block* NewBlock()
    {
        Block* b = (Block*)_arena!.Peek;
        *b = default;
        b->Ops = (Op*)(b + 1);
        b->Mode = N->Mode;
        b->Heat = HeatOf(b->Mode);
        return b;
    }

    private Block* Publish(Block* b, ulong gpa, ulong linear)
    {
        b->Gpa = gpa;
        b->Linear = linear;
        Block** bucket = _hash + HashIndex(gpa);
        b->Next = *bucket;
        *bucket = b;
        Commit(b);
        return b;
    }

    private void Commit(Block* b) => _arena!.Allocate(b->Bytes);

    /// <summary>Decodes straight-line code until something ends it; a conditional branch does not.</summary>
    private void Assemble(Block* b, byte* bytes, int available, bool endOfPage)
    {
        uint count = 0;
        int offset = 0;
        uint limit = MaxOps;
        while (count < limit && offset < available)
        {
            Op* op = b->Ops + count;
            int length = _decoder.Decode(bytes + offset, available - offset, offset, b->Mode, op);
            if (length == 0 && !endOfPage && count == 0)
                throw new InvalidOperationException("The decode window is shorter than an instruction.");
            if (length == 0)
                break;
            offset += length;
            count++;
            if (op->Has(OpFlags.EndsBlock))
                break;
            if (HotForms.IsConditionalBranch(op->Code))
                limit = MaxOpsAfterBranch;
        }

        b->Count = count;
        b->ByteCount = (uint)offset;
        Finish(b, bytes);
    }

    private static void Finish(Block* b, byte* bytes)
    {
        Op* end = b->Ops + b->Count;
        *end = default;
        end->Handler = HotForms.End;
        end->Offset = (short)b->ByteCount;
        byte* copy = (byte*)(end + 1);
        Unsafe.CopyBlockUnaligned(copy, bytes, b->ByteCount);
        for (uint i = 0; i < b->Count; i++)
        {
            Op* op = b->Ops + i;
            Op.SetBytes(op, copy);
            copy += op->Length;
            HotForms.Link(op, b->Count - i - 1);
        }
    }

    /// <summary>An instruction whose bytes go on in the next page: a block of its own, under the eye of both pages.</summary>
    private Block* DecodeCrossing(ulong linear, ulong gpa, MappedSlot slot, byte* source, int inPage)
    {
        ulong next = (linear + (ulong)inPage) & N->LinearMask;
        if (!FetchPage(next, out CodePage e2))
            return null;
        byte* copy = stackalloc byte[32];
        if (e2.Info == null)
        {
            Unsafe.CopyBlockUnaligned(copy, source, (uint)inPage);
            return DecodeTransient(copy, inPage, e2.Gpa & ~0xFFFul);
        }

        ulong gpa2 = e2.Gpa & ~0xFFFul;
        MappedSlot slot2 = FindSlot(gpa2)!;
        byte* source2 = (byte*)(next + e2.Addend);
        for (;;)
        {
            Unsafe.CopyBlockUnaligned(copy, source, (uint)inPage);
            Unsafe.CopyBlockUnaligned(copy + inPage, source2, 15);
            Block* b = NewBlock();
            b->Count = 1;
            b->ByteCount = (uint)_decoder.Decode(copy, inPage + 15, 0, b->Mode, b->Ops);
            Finish(b, copy);
            int second = Math.Max((int)b->ByteCount - inPage, 1);
            b->Generation = ProtectCode(slot, gpa - slot.Gpa, inPage);
            b->Generation2 = ProtectCode(slot2, gpa2 - slot2.Gpa, second);
            if (!new Span<byte>(source, inPage).SequenceEqual(new Span<byte>(copy, inPage))
                || !new Span<byte>(source2, second).SequenceEqual(new Span<byte>(copy + inPage, second)))
                continue;
            b->GenerationNow = &slot.Pages[(gpa - slot.Gpa) >> 12].Generation;
            b->GenerationNow2 = &slot2.Pages[(gpa2 - slot2.Gpa) >> 12].Generation;
            b->CrossesPage = true;
            b->Gpa2 = gpa2;
            return Publish(b, gpa, NoLinear);
        }
    }

    /// <summary>Code where there is no memory: read from the bus, decoded, executed once.</summary>
    private Block* DecodeFromBus(ulong linear, ulong gpaPage)
    {
        if (_arena!.IsFull)
        {
            LeaveBlock();
            return null;
        }

        byte* copy = stackalloc byte[32];
        ulong gpa = gpaPage | linear & 0xFFF;
        int inPage = (int)Math.Min(15, 0x1000 - (linear & 0xFFF));
        for (int i = 0; i < inPage; i++)
            copy[i] = (byte)Host.ReadMmio(gpa + (ulong)i, 1);
        return DecodeTransient(copy, inPage, gpaPage + 0x1000);
    }

    private Block* DecodeTransient(byte* copy, int have, ulong nextPage)
    {
        for (int i = have; i < 15; i++)
            copy[i] = (byte)Host.ReadMmio(nextPage + (ulong)(i - have), 1);
        Block* b = NewBlock();
        b->Count = 1;
        b->ByteCount = (uint)_decoder.Decode(copy, 15, 0, b->Mode, b->Ops);
        Finish(b, copy);
        b->Linear = NoLinear;
        b->GenerationNow = &b->Generation;
        Commit(b);
        return b;
    }

    /// <summary>
    /// Outside 64-bit mode code must lie within CS. A block over the limit is replaced by one that holds what fits. False: #GP(0) recorded.
    /// </summary>
    private bool FitsCodeSegment(ref Block* b, ulong linear, in CodePage e)
    {
        ulong limit = S->CS.Limit;
        ulong rip = S->Rip;
        if (rip + b->ByteCount - 1 <= limit)
            return true;
        if (rip > limit || b->CrossesPage)
            return Raise(Vector.GP, 0);
        int room = (int)(limit - rip + 1);
        byte* copy = stackalloc byte[16 + MaxOps * 15];
        byte* source = (byte*)(linear + e.Addend);
        room = Math.Min(room, (int)b->ByteCount);
        Unsafe.CopyBlockUnaligned(copy, source, (uint)room);
        Block* cut = NewBlock();
        Assemble(cut, copy, room, endOfPage: true);
        if (cut->Count == 0)
            return Raise(Vector.GP, 0);
        cut->Linear = NoLinear;
        cut->Generation = b->Generation;
        cut->GenerationNow = b->GenerationNow;
        Commit(cut);
        b = cut;
        return true;
    }
}
