namespace VirtPS.Sdk.Backends;

/// <summary>
/// The host side of a byte stream. Bytes from the guest go out with <see cref="Write"/>, which never blocks the vCPU: what cannot be taken is counted as dropped.
/// </summary>
public interface ICharBackend : IDisposable
{
    /// <summary>Under the device lock, from the device. Returns how many bytes were taken.</summary>
    int Write(ReadOnlySpan<byte> data);

    /// <summary>Takes up to the buffer's length of waiting input; 0 when there is none.</summary>
    int Read(Span<byte> buffer);

    /// <summary>Called (under the device lock) when input is there. One listener.</summary>
    Action? InputAvailable { get; set; }
}

/// <summary>What a disk can do.</summary>
public sealed record BlockGeometry(ulong Length, int LogicalBlockSize, int PhysicalBlockSize, bool ReadOnly, bool CanDiscard);

/// <summary>
/// The host side of a disk. Asynchronous; completions run on any thread (devices bring them home with <see cref="Devices.DeviceContext.Post"/>). A completed
/// <see cref="WriteAsync"/> is visible to later reads; it is durable only after a later <see cref="FlushAsync"/> completed, or with <c>durable</c>.
/// </summary>
public interface IBlockBackend : IAsyncDisposable
{
    BlockGeometry Geometry { get; }

    ValueTask ReadAsync(ulong offset, Memory<byte> buffer, CancellationToken cancellation);

    ValueTask WriteAsync(ulong offset, ReadOnlyMemory<byte> buffer, bool durable, CancellationToken cancellation);

    ValueTask FlushAsync(CancellationToken cancellation);

    /// <summary>The range's content is no longer needed; with <paramref name="zero"/> it must read as zeros.</summary>
    ValueTask DiscardAsync(ulong offset, ulong length, bool zero, CancellationToken cancellation);
}

/// <summary>The host side of a network card: whole Ethernet frames.</summary>
public interface INetBackend : IAsyncDisposable
{
    /// <summary>Sends a frame; false when the queue is full and the frame was dropped.</summary>
    bool Send(ReadOnlySpan<byte> frame);

    /// <summary>Called on any thread for each frame that arrives; returns false when the device has no buffer.</summary>
    Func<ReadOnlyMemory<byte>, bool>? Received { get; set; }
}
