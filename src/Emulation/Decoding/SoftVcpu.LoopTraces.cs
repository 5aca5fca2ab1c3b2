using Iced.Intel;

namespace VirtPS.Emulation;

// Rounds over several blocks. A compiler lays out a loop for the way that it thinks is taken, and often another one is: then a round goes over several blocks, counts and jumps at the end of each, and is none of the
// loops of one block that are translated best. When a block becomes hot from which branches that were taken, forward and within the page, lead back to its start, the way is put together
// as one block for the translator: instructions in the order in which they are executed. The interpreter never sees it. A short round without memory accesses, for which rounds without
// checks (BlockTranslator.Rounds) do nothing, is there several times, so that one count and one look for requests serve them all; but one that only counts (CountingLoop) need not be made at all, mostly.
public sealed unsafe partial class SoftVcpu
{
    /// <summary>Instructions of a round at most, as of a loop of one block; and blocks that it goes over.</summary>
    private const int LongestTrace = 20, MostPieces = 6;

    /// <summary>A round is repeated so often at most, and in so many instructions.</summary>
    private const int MostRepeats = 4, LongestRepeated = 40;

    /// <summary>A part of a trace: the first instructions of a block.</summary>
    private struct Piece
    {
        public Block* From;
        public int Count;
    }

    /// <summary>What is to be translated for a hot block: the round of the loop that begins with it where that goes over several blocks, else the block itself.</summary>
    private Block* TraceOf(Block* head)
    {
        if (head->CrossesPage || (head->Mode & CodeMode.SizeMask) != CodeMode.Bits64 || _lockStep is not null || _arena!.IsFull)
            return head;
        Span<Piece> pieces = stackalloc Piece[MostPieces];
        int count = FindRound(head, pieces), repeats = RepeatsOf(pieces[..count]);
        if (count <= 1 && repeats == 1)
            return head;
        Block* trace = MakeTrace(head, pieces[..count], 1);
        if (repeats > 1 && _countingLoop.TryRead(trace->Ops, (int)trace->Count))
            repeats = 1;
        if (count == 1 && repeats == 1)
            return head;
        if (repeats > 1)
            trace = MakeTrace(head, pieces[..count], repeats);
        Commit(trace);
        return trace;
    }

    private readonly CountingLoop _countingLoop = new();

    /// <summary>How often a round stands in its trace.</summary>
    private int RepeatsOf(Span<Piece> round)
    {
        int length = 0;
        foreach (Piece piece in round)
        {
            length += piece.Count;
            for (int i = 0; i < piece.Count; i++)
            {
                Op* op = piece.From->Ops + i;
                bool branch = op->Handler is HotForms.JmpRel or (>= HotForms.Jo and <= HotForms.Jg);
                if (!branch && !IsOfRegistersOnly(op))
                    return 1;
            }
        }

        return length == 0 ? 1 : Math.Min(MostRepeats, LongestRepeated / length);
    }

    private bool IsOfRegistersOnly(Op* op) =>
        op->Code is Code.Lea_r64_m or Code.Lea_r32_m || op->Handler == HotForms.Nop || (!op->IsMemory && GuestForm.TryRead(op, Partition.Engine.Host, out _));

    /// <summary>Follows branches that were taken, to a conditional one that leads to the start of <paramref name="head"/>. The number of pieces, or 0.</summary>
    private int FindRound(Block* head, Span<Piece> pieces)
    {
        int length = 0;
        Block* from = head;
        for (int count = 1; count <= pieces.Length; count++)
        {
            Block* next = null;
            int i = 0;
            for (; next == null; i++)
            {
                if (i == from->Count || length == LongestTrace)
                    return 0;
                length++;
                Op* op = from->Ops + i;
                bool conditional = op->Handler is >= HotForms.Jo and <= HotForms.Jg;
                if (!conditional && op->Handler != HotForms.JmpRel)
                {
                    if (op->Has(OpFlags.EndsBlock) || HotForms.IsConditionalBranch(op->Code))
                        return 0;
                    continue;
                }

                ulong target = from->Gpa + op->Imm;
                if (conditional && target == head->Gpa)
                {
                    pieces[count - 1] = new Piece { From = from, Count = i + 1 };
                    return count;
                }

                next = TakenTo(op, from->Gpa, target);
                if (next == null && !conditional)
                    return 0;
            }

            pieces[count - 1] = new Piece { From = from, Count = i };
            from = next;
        }

        return 0;
    }

    /// <summary>The block to which a branch leads most often, as far as the interpreter has seen; null where that is not known, or it leads backwards or to another page.</summary>
    private Block* TakenTo(Op* op, ulong gpa, ulong target)
    {
        if (target <= gpa + (ulong)(op->Offset + op->Length) || ((target ^ gpa) & ~0xFFFul) != 0)
            return null;
        for (Block* to = _hash[HashIndex(target)]; to != null; to = to->Next)
        {
            if (to->Gpa != target || to->Mode != N->Mode || !to->IsFresh || to->CrossesPage)
                continue;
            // The interpreter has not seen a branch to what a former run has left translated.
            bool taken = op->AddrMask != 0 || to->IsStored;
            return taken && (to->Translation != 0 || to->Heat <= Partition.Engine.HotAfter / 4) ? to : null;
        }

        return null;
    }

    /// <summary>The trace, where the next one will be; it is not there to stay until it is committed.</summary>
    private Block* MakeTrace(Block* head, Span<Piece> pieces, int repeats)
    {
        var trace = (Block*)_arena!.Peek;
        *trace = *head;
        trace->Ops = (Op*)(trace + 1);
        trace->Next = null;
        trace->Translation = 0;
        trace->IsStored = false;
        trace->IsTrace = true;
        int count = 0;
        uint bytes = 0;
        for (int n = 0; n < pieces.Length * repeats; n++)
        {
            Piece piece = pieces[n % pieces.Length];
            int shift = (int)(piece.From->Gpa - head->Gpa);
            for (int i = 0; i < piece.Count; i++)
            {
                bytes += piece.From->Ops[i].Length;
                Place(trace->Ops + count++, piece.From->Ops + i, shift);
            }
        }

        (trace->Count, trace->ByteCount) = ((uint)count, bytes);
        return trace;
    }

    /// <summary>An instruction <paramref name="shift"/> bytes farther from the start of its block.</summary>
    private static void Place(Op* op, Op* from, int shift)
    {
        *op = *from;
        Op.SetBytes(op, Op.Bytes(from));
        op->Flags &= ~OpFlags.LeftToInterpreter;
        op->Offset += (short)shift;
        if (op->Has(OpFlags.RipRelative))
            op->Disp += shift;
        if (op->Handler is HotForms.JmpRel or (>= HotForms.Jo and <= HotForms.Jg))
            op->Imm += (ulong)shift;
    }
}
