using VirtPS.Engine.Host;
using VirtPS.Sdk;
using VirtPS.Sdk.Backends;

namespace VirtPS.Engine.Storage;

/// <summary>A raw disk image: byte n of the disk is byte n of the file.</summary>
public sealed class RawDisk : IBlockBackend
{
    // Zeros are written in pieces of this size where the host cannot punch holes.
    private const int ZeroPiece = 1 << 20;

    private readonly HostDiskFile _file;
    private readonly DiskThreads _threads;
    private readonly ILog _log;
    private readonly bool _discard;
    private volatile BlockException? _flushFailure;
    private long _reads, _bytesRead, _writes, _bytesWritten, _flushes, _discards, _bytesDiscarded, _readErrors, _writeErrors, _flushErrors;

    /// <summary>Takes ownership of <paramref name="file"/>, whose length is a multiple of <paramref name="sectorSize"/>.</summary>
    /// <param name="discard">Whether discards give room back; else they are accepted and do nothing.</param>
    public RawDisk(string name, HostDiskFile file, bool readOnly, int sectorSize, bool discard, ILog log)
    {
        (_file, _log) = (file, log);
        _threads = new DiskThreads(name);
        _discard = discard && file.CanPunchHoles && !readOnly;
        Geometry = new BlockGeometry(file.Length, sectorSize, Math.Max(sectorSize, file.BlockSize), readOnly, _discard);
    }

    public BlockGeometry Geometry { get; }

    public BlockCounters Counters => new()
    {
        Reads = Interlocked.Read(ref _reads),
        BytesRead = Interlocked.Read(ref _bytesRead),
        Writes = Interlocked.Read(ref _writes),
        BytesWritten = Interlocked.Read(ref _bytesWritten),
        Flushes = Interlocked.Read(ref _flushes),
        Discards = Interlocked.Read(ref _discards),
        BytesDiscarded = Interlocked.Read(ref _bytesDiscarded),
        ReadErrors = Interlocked.Read(ref _readErrors),
        WriteErrors = Interlocked.Read(ref _writeErrors),
        FlushErrors = Interlocked.Read(ref _flushErrors),
    };

    public async ValueTask ReadAsync(ulong offset, Memory<byte> buffer, CancellationToken cancellation)
    {
        try
        {
            Check(offset, (ulong)buffer.Length, write: false);
            await _threads.RunAsync(() => _file.Read(buffer.Span, offset), cancellation).ConfigureAwait(false);
            Count(ref _reads, ref _bytesRead, (ulong)buffer.Length);
        }
        catch (BlockException e)
        {
            throw Failed(e, ref _readErrors);
        }
    }

    public async ValueTask WriteAsync(ulong offset, ReadOnlyMemory<byte> buffer, bool durable, CancellationToken cancellation)
    {
        try
        {
            Check(offset, (ulong)buffer.Length, write: true);
            await _threads.RunAsync(() =>
            {
                _file.Write(buffer.Span, offset);
                if (durable)
                    Flush();
            }, cancellation).ConfigureAwait(false);
            Count(ref _writes, ref _bytesWritten, (ulong)buffer.Length);
        }
        catch (BlockException e)
        {
            throw Failed(e, ref _writeErrors);
        }
    }

    public async ValueTask FlushAsync(CancellationToken cancellation)
    {
        try
        {
            // There is nothing to be made durable on a read-only disk, and saying so would only confuse guests.
            if (!Geometry.ReadOnly)
                await _threads.RunAsync(Flush, cancellation).ConfigureAwait(false);
            Interlocked.Increment(ref _flushes);
        }
        catch (BlockException e)
        {
            throw Failed(e, ref _flushErrors);
        }
    }

    public async ValueTask DiscardAsync(ulong offset, ulong length, bool zero, CancellationToken cancellation)
    {
        try
        {
            Check(offset, length, write: true);
            if (length > 0)
                await _threads.RunAsync(() => Discard(offset, length, zero), cancellation).ConfigureAwait(false);
            Count(ref _discards, ref _bytesDiscarded, length);
        }
        catch (BlockException e)
        {
            throw Failed(e, ref _writeErrors);
        }
    }

    /// <summary>Completes what was accepted, brings it to the medium and lets go of the file.</summary>
    public async ValueTask DisposeAsync()
    {
        await _threads.DisposeAsync().ConfigureAwait(false);
        try
        {
            if (!Geometry.ReadOnly && Interlocked.Read(ref _writes) + Interlocked.Read(ref _discards) > 0)
                Flush();
        }
        catch (BlockException e)
        {
            // The guest is gone; what it flushed was flushed, and the rest it was never promised.
            _log.Write(LogLevel.Error, $"What the guest had not flushed may be lost: {e.Message}");
        }

        BlockCounters c = Counters;
        if (c.ReadErrors + c.WriteErrors + c.FlushErrors > 0)
            _log.Write(LogLevel.Warning, $"Closed after {c.ReadErrors} failed reads, {c.WriteErrors} failed writes and {c.FlushErrors} failed flushes.");
        _file.Dispose();
    }

    private void Flush()
    {
        // After a failed fdatasync the kernel may mark lost pages as clean; a later success would then be a lie.
        if (_flushFailure is { } failure)
            throw new BlockException(failure.Fault, $"An earlier flush failed: {failure.Message}");
        try
        {
            _file.Flush();
        }
        catch (BlockException e)
        {
            _flushFailure = e;
            throw;
        }
    }

    private void Discard(ulong offset, ulong length, bool zero)
    {
        if (_discard || zero)
        {
            if (_file.TryPunchHole(offset, length))
                return;
        }

        if (!zero)
            return;
        byte[] zeros = new byte[Math.Min(length, ZeroPiece)];
        for (ulong done = 0; done < length; done += (ulong)zeros.Length)
            _file.Write(zeros.AsSpan(0, (int)Math.Min((ulong)zeros.Length, length - done)), offset + done);
    }

    private void Check(ulong offset, ulong length, bool write)
    {
        if (write && Geometry.ReadOnly)
            throw new BlockException(BlockFault.ReadOnly, "The disk is read-only.");
        ulong mask = (ulong)Geometry.LogicalBlockSize - 1;
        if (offset > Geometry.Length || length > Geometry.Length - offset || ((offset | length) & mask) != 0)
            throw new BlockException(BlockFault.OutOfRange, $"{length} bytes at {offset} are not whole sectors of this disk of {Geometry.Length} bytes.");
    }

    private static void Count(ref long requests, ref long bytes, ulong length)
    {
        Interlocked.Increment(ref requests);
        Interlocked.Add(ref bytes, (long)length);
    }

    private BlockException Failed(BlockException e, ref long counter)
    {
        Interlocked.Increment(ref counter);
        // What the guest asked wrongly is its own business; what the host could not do, its user must know.
        if (e.Fault is BlockFault.Io or BlockFault.NoSpace)
            _log.Write(LogLevel.Warning, $"The host failed a request, the guest gets an I/O error: {e.Message}");
        return e;
    }
}
