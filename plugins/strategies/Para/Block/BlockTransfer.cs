using System.Buffers;
using VirtPS.Sdk;
using VirtPS.Sdk.Backends;
using VirtPS.Strategy.Para.Shared;

namespace VirtPS.Strategy.Para.Block;

/// <summary>
/// Carries requests out at the disk. Data goes through a buffer of ours: granted pages are touched under the device lock only, never while the host works. So the guest
/// can take nothing away under a running transfer, and a reset has only to wait.
/// </summary>
internal sealed class BlockTransfer(IBlockBackend disk, IGrantAccess grants, Action<Action> post, ILog log)
{
    private readonly List<Task> _running = [];
    private bool _abandoned;

    /// <summary>Bytes in buffers.</summary>
    public int Bytes { get; private set; }

    /// <summary>Under the device lock. <paramref name="done"/> is called with the status, under the device lock, soon; at once for what cannot be done.</summary>
    public void Start(BlockRequest request, Action<short> done)
    {
        short refused = Refuse(request);
        if (refused != BlockAbi.Okay)
        {
            done(refused);
            return;
        }

        int length = request.Length;
        byte[] buffer = length == 0 ? [] : ArrayPool<byte>.Shared.Rent(length);
        Bytes += length;
        if (request.Operation != BlockAbi.Read && !Gather(request, buffer))
        {
            End(buffer, length);
            done(BlockAbi.Error);
            return;
        }

        _running.RemoveAll(t => t.IsCompleted);
        _running.Add(RunAsync(request, buffer, length, done));
    }

    /// <summary>Waits until the disk has done all that was started; the completions are posted.</summary>
    public void Drain() => Task.WaitAll([.. _running]);

    /// <summary>Waits, too; nobody is told any more, and no page of the guest is touched.</summary>
    public void Abandon()
    {
        _abandoned = true;
        Drain();
    }

    private short Refuse(BlockRequest request)
    {
        if (request.Operation is not (BlockAbi.Read or BlockAbi.Write or BlockAbi.FlushCache or BlockAbi.Discard))
            return BlockAbi.NotSupported;
        if (request.Operation == BlockAbi.Discard && !disk.Geometry.CanDiscard)
            return BlockAbi.NotSupported;
        if (request.IsMalformed || (request.IsIndirect && !FetchSegments(request)))
            return BlockAbi.Error;
        // An empty flush has no place: Linux says sector -1.
        bool hasPlace = request.Operation == BlockAbi.Discard || request.Segments.Count > 0;
        return hasPlace && request.Sector > ulong.MaxValue / BlockAbi.SectorSize ? BlockAbi.Error : BlockAbi.Okay;
    }

    private bool FetchSegments(BlockRequest request)
    {
        var segments = new BlockSegment[request.SegmentCount];
        Span<byte> page = stackalloc byte[BlockAbi.PageSize];
        for (int i = 0; i < segments.Length; i++)
        {
            int within = i % BlockAbi.SegmentsPerPage;
            if (within == 0)
            {
                int count = Math.Min(segments.Length - i, BlockAbi.SegmentsPerPage);
                if (!grants.TryRead(request.IndirectReferences[i / BlockAbi.SegmentsPerPage], 0, page[..(count * BlockAbi.SegmentBytes)]))
                    return false;
            }

            segments[i] = BlockSegment.Parse(page[(within * BlockAbi.SegmentBytes)..]);
            if (!segments[i].IsValid)
                return false;
        }

        request.Segments = segments;
        return true;
    }

    private bool Gather(BlockRequest request, byte[] buffer)
    {
        int at = 0;
        foreach (BlockSegment s in request.Segments)
        {
            if (!grants.TryRead(s.Reference, s.Offset, buffer.AsSpan(at, s.Length)))
                return false;
            at += s.Length;
        }

        return true;
    }

    private bool Scatter(BlockRequest request, byte[] buffer)
    {
        int at = 0;
        foreach (BlockSegment s in request.Segments)
        {
            if (!grants.TryWrite(s.Reference, s.Offset, buffer.AsSpan(at, s.Length)))
                return false;
            at += s.Length;
        }

        return true;
    }

    private async Task RunAsync(BlockRequest request, byte[] buffer, int length, Action<short> done)
    {
        short status = BlockAbi.Okay;
        try
        {
            await AccessAsync(request, buffer.AsMemory(0, length)).ConfigureAwait(false);
        }
        catch (BlockException e)
        {
            status = e.Fault == BlockFault.NotSupported ? BlockAbi.NotSupported : BlockAbi.Error;
        }
        catch (Exception e)
        {
            // A backend of a third party may throw anything; the guest must still get its answer.
            log.Write(LogLevel.Error, $"The disk failed: {e}");
            status = BlockAbi.Error;
        }

        post(() =>
        {
            if (!_abandoned && status == BlockAbi.Okay && request.Operation == BlockAbi.Read && !Scatter(request, buffer))
                status = BlockAbi.Error;
            End(buffer, length);
            if (!_abandoned)
                done(status);
        });
    }

    private async ValueTask AccessAsync(BlockRequest request, Memory<byte> data)
    {
        ulong offset = request.Sector * BlockAbi.SectorSize;
        switch (request.Operation)
        {
            case BlockAbi.Read:
                await disk.ReadAsync(offset, data, default).ConfigureAwait(false);
                break;
            case BlockAbi.Write:
                await disk.WriteAsync(offset, data, durable: false, default).ConfigureAwait(false);
                break;
            case BlockAbi.FlushCache:
                await disk.FlushAsync(default).ConfigureAwait(false);
                if (!data.IsEmpty)
                    await disk.WriteAsync(offset, data, durable: false, default).ConfigureAwait(false);
                break;
            default:
                if (request.SectorCount > disk.Geometry.Length / BlockAbi.SectorSize)
                    throw new BlockException(BlockFault.OutOfRange, "A discard is longer than the disk.");
                await disk.DiscardAsync(offset, request.SectorCount * BlockAbi.SectorSize, zero: false, default).ConfigureAwait(false);
                break;
        }
    }

    private void End(byte[] buffer, int length)
    {
        Bytes -= length;
        if (buffer.Length > 0)
            ArrayPool<byte>.Shared.Return(buffer);
    }
}
