using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace VirtPS.Emulation;

// Superblocks: what is translated goes on at the target of a direct jump or call within its page.
public sealed unsafe partial class SoftVcpu
{
    /// <summary>Instructions of a block with what follows its branches, at most.</summary>
    private const int MaxFollowed = 40;

    /// <summary>
    /// A block with what follows its last instruction, where that is a direct jump or call within the page, and so on: decoded anew, for the translator alone. The block itself where there is
    /// nothing to follow.
    /// </summary>
    private Block* FollowBranches(Block* block, ulong linear)
    {
        if (block->CrossesPage || !CanFollow(block, (int)(linear & 0xFFF)) || _arena!.IsFull || !FetchPage(linear, out CodePage e) || e.Info == null)
            return block;
        var page = (byte*)((linear & ~0xFFFul) + e.Addend);
        MappedSlot slot = FindSlot(block->Gpa)!;
        var whole = (Block*)_arena.Peek;
        byte* bytes = stackalloc byte[MaxFollowed * 15];
        Begin(whole, block, bytes);
        while (CanFollow(whole, (int)(linear & 0xFFF)))
        {
            if (!Follow(whole, page, (int)(linear & 0xFFF), slot, bytes))
                break;
        }

        if (whole->Count == block->Count)
            return block;
        Finish(whole, bytes);
        Commit(whole);
        return whole;
    }

    /// <summary>Whether a block ends with a jump or call within its page to something that is not in it yet. A call may go where the block has been once: a recursion.</summary>
    private static bool CanFollow(Block* block, int start)
    {
        Op* last = block->Ops + block->Count - 1;
        if (last->Handler is not (HotForms.JmpRel or HotForms.CallRel) || block->Count >= MaxFollowed || last->Imm + (ulong)start >= 0x1000)
            return false;
        int target = (int)last->Imm, times = last->Handler == HotForms.CallRel ? 2 : 1;
        for (int i = 0; i < block->Count; i++)
        {
            if (block->Ops[i].Offset == target && --times == 0)
                return false;
        }

        return true;
    }

    private static void Begin(Block* whole, Block* block, byte* bytes)
    {
        *whole = *block;
        whole->Ops = (Op*)(whole + 1);
        whole->Next = null;
        whole->Translation = 0;
        whole->IsStored = false;
        for (int i = 0; i < block->Count; i++)
        {
            whole->Ops[i] = block->Ops[i];
            whole->Ops[i].Flags &= ~OpFlags.LeftToInterpreter;
        }

        Unsafe.CopyBlockUnaligned(bytes, Op.Bytes(block->Ops), block->ByteCount);
    }

    /// <summary>Adds the straight-line code at the target of the last branch. False: it is not good code, or the page has changed, and nothing was added.</summary>
    private bool Follow(Block* whole, byte* page, int start, MappedSlot slot, byte* bytes)
    {
        int offset = (int)whole->Ops[whole->Count - 1].Imm, place = start + offset, room = MaxFollowed - (int)whole->Count;
        int available = Math.Min(0x1000 - place, room * 15), length = 0;
        byte* copy = bytes + whole->ByteCount;
        Unsafe.CopyBlockUnaligned(copy, page + place, (uint)available);
        uint count = 0;
        while (count < room && length < available)
        {
            Op* op = whole->Ops + whole->Count + count;
            int bytesOfOp = _decoder.Decode(copy + length, available - length, offset + length, whole->Mode, op);
            if (bytesOfOp == 0)
                break;
            length += bytesOfOp;
            count++;
            if (op->Has(OpFlags.EndsBlock))
                break;
        }

        if (count == 0)
            return false;
        uint generation = ProtectCode(slot, (whole->Gpa & ~0xFFFul) + (ulong)place - slot.Gpa, length);
        // As in DecodeBlock; and what was decoded before must be good still.
        if (generation != whole->Generation || !new Span<byte>(page + place, length).SequenceEqual(new Span<byte>(copy, length)))
            return false;
        whole->Count += count;
        whole->ByteCount += (uint)length;
        return true;
    }
}
