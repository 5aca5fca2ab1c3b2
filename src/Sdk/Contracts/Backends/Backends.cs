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

/// <summary>The host side of a network card: whole Ethernet frames.</summary>
public interface INetBackend : IAsyncDisposable
{
    /// <summary>Sends a frame; false when the queue is full and the frame was dropped.</summary>
    bool Send(ReadOnlySpan<byte> frame);

    /// <summary>Called on any thread for each frame that arrives; returns false when the device has no buffer.</summary>
    Func<ReadOnlyMemory<byte>, bool>? Received { get; set; }
}
