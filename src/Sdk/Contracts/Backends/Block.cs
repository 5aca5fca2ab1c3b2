namespace VirtPS.Sdk.Backends;

/// <summary>What a disk can do. Length in bytes, a multiple of <paramref name="LogicalBlockSize"/>, which every request must be aligned to.</summary>
public sealed record BlockGeometry(ulong Length, int LogicalBlockSize, int PhysicalBlockSize, bool ReadOnly, bool CanDiscard);

/// <summary>What went wrong with a request, in the terms in which guests are told.</summary>
public enum BlockFault
{
    /// <summary>The host reported an error of the medium or the file (EIO and whatever else has no kind of its own).</summary>
    Io,

    /// <summary>The host has no room for the data (ENOSPC, EDQUOT, EFBIG).</summary>
    NoSpace,

    /// <summary>A write, flush or discard on a disk that is read-only.</summary>
    ReadOnly,

    /// <summary>Outside the disk, or not aligned to its logical blocks.</summary>
    OutOfRange,

    /// <summary>The host cannot do this.</summary>
    NotSupported,
}

/// <summary>A disk request failed. The device reports it to the guest as an I/O error; the disk itself stays usable.</summary>
public sealed class BlockException(BlockFault fault, string message, Exception? inner = null) : IOException(message, inner)
{
    public BlockFault Fault { get; } = fault;
}

/// <summary>What a disk has done since it was opened. Bytes and requests of completed requests; errors by what failed.</summary>
public sealed record BlockCounters
{
    public long Reads { get; init; }

    public long BytesRead { get; init; }

    public long Writes { get; init; }

    public long BytesWritten { get; init; }

    public long Flushes { get; init; }

    public long Discards { get; init; }

    public long BytesDiscarded { get; init; }

    /// <summary>Failed reads.</summary>
    public long ReadErrors { get; init; }

    /// <summary>Failed writes and discards.</summary>
    public long WriteErrors { get; init; }

    public long FlushErrors { get; init; }
}

/// <summary>
/// The host side of a disk. Thread-safe and asynchronous; requests run side by side and may complete in any order: who needs an order waits. Completions
/// run on any thread and must be short (devices bring them home with <see cref="Devices.DeviceContext.Post"/>). What fails throws <see cref="BlockException"/>.
/// A completed <see cref="WriteAsync"/> is visible to later reads; it is durable only after a later <see cref="FlushAsync"/> completed, or with <c>durable</c>.
/// Disposing waits for all that was accepted.
/// </summary>
public interface IBlockBackend : IAsyncDisposable
{
    BlockGeometry Geometry { get; }

    /// <summary>A snapshot; any thread.</summary>
    BlockCounters Counters { get; }

    ValueTask ReadAsync(ulong offset, Memory<byte> buffer, CancellationToken cancellation);

    ValueTask WriteAsync(ulong offset, ReadOnlyMemory<byte> buffer, bool durable, CancellationToken cancellation);

    /// <summary>Makes every write that completed before this call durable. Once a flush has failed, all later ones fail: the host may have lost data that it no longer knows of.</summary>
    ValueTask FlushAsync(CancellationToken cancellation);

    /// <summary>The range's content is no longer needed; with <paramref name="zero"/> it must read as zeros. Where the host can, the room is given back.</summary>
    ValueTask DiscardAsync(ulong offset, ulong length, bool zero, CancellationToken cancellation);
}
