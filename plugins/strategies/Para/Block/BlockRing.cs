using System.Buffers.Binary;
using VirtPS.Strategy.Para.Shared;

namespace VirtPS.Strategy.Para.Block;

/// <summary>
/// The ring of requests and responses (xen/include/public/io/ring.h): one or more granted pages. What is the guest's is read once and checked; the indices that are ours are kept
/// here.
/// </summary>
internal sealed class BlockRing(IReadOnlyList<SharedPage> pages, uint consumed = 0, uint produced = 0)
{
    private const int RequestProducer = 0, RequestEvent = 4, ResponseProducer = 8, ResponseEvent = 12;

    private readonly uint _entries = (uint)BlockAbi.EntriesIn(pages.Count);

    /// <summary>Requests taken so far.</summary>
    public uint Consumed { get; private set; } = consumed;

    /// <summary>Responses given so far.</summary>
    public uint Produced { get; private set; } = produced;

    public int Entries => (int)_entries;

    /// <summary>Takes the next request; false when there is none. <paramref name="broken"/>: the guest's index cannot be.</summary>
    public bool TryTake(Span<byte> entry, out bool broken)
    {
        uint producer = pages[0].Read32(RequestProducer);
        // More requests than entries without an answer: some would lie upon each other.
        broken = producer - Produced > _entries;
        if (broken || producer == Consumed)
            return false;
        Copy(Consumed, entry, (page, offset, part) => page.Read(offset, part));
        Consumed++;
        return true;
    }

    /// <summary>Asks for an event with the next request; true when one has come meanwhile.</summary>
    public bool Rearm()
    {
        pages[0].Write32(RequestEvent, Consumed + 1);
        Interlocked.MemoryBarrier();
        return pages[0].Read32(RequestProducer) != Consumed;
    }

    /// <summary>Gives a response; true when the guest wants to be told.</summary>
    public bool Respond(ulong id, byte operation, short status)
    {
        Span<byte> entry = stackalloc byte[16];
        entry.Clear();
        BinaryPrimitives.WriteUInt64LittleEndian(entry, id);
        entry[8] = operation;
        BinaryPrimitives.WriteInt16LittleEndian(entry[10..], status);
        Copy(Produced, entry, (page, offset, part) => page.Write(offset, part));
        uint old = Produced++;
        pages[0].Write32(ResponseProducer, Produced);
        Interlocked.MemoryBarrier();
        uint wanted = pages[0].Read32(ResponseEvent);
        return Produced - wanted < Produced - old;
    }

    private delegate void CopyPart(SharedPage page, int offset, Span<byte> part);

    // With several pages an entry may lie across a page end.
    private void Copy(uint index, Span<byte> entry, CopyPart copy)
    {
        int at = BlockAbi.HeaderBytes + ((int)(index & (_entries - 1)) * BlockAbi.EntryBytes);
        while (!entry.IsEmpty)
        {
            int offset = at % BlockAbi.PageSize, n = Math.Min(entry.Length, BlockAbi.PageSize - offset);
            copy(pages[at / BlockAbi.PageSize], offset, entry[..n]);
            entry = entry[n..];
            at += n;
        }
    }
}
