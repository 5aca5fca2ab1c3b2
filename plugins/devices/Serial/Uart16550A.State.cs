using VirtPS.Sdk.Devices;

namespace VirtPS.Device.Serial;

/// <summary>Saved state, schema 1.</summary>
internal sealed record Uart16550AState
{
    public const string TypeId = "virtps.serial/16550a";
    public const int Schema = 1;

    public byte Ier { get; init; }
    public byte Fcr { get; init; }
    public byte Lcr { get; init; }
    public byte Mcr { get; init; }
    public byte MsrDelta { get; init; }
    public byte Scr { get; init; }

    /// <summary>LSR errors that belong to no character in the FIFO (overrun).</summary>
    public byte LineErrors { get; init; }
    public ushort Divisor { get; init; }
    public bool ThrePending { get; init; }
    public bool TimeoutPending { get; init; }

    /// <summary>VM time in nanoseconds.</summary>
    public ulong? TimeoutAt { get; init; }

    /// <summary>Receive FIFO, oldest first: character in bits 0–7, its LSR errors in 8–15.</summary>
    public ushort[] Receive { get; init; } = [];
}

internal sealed partial class Uart16550A
{
    public DeviceState Save() => DeviceState.From(Uart16550AState.TypeId, Uart16550AState.Schema, new Uart16550AState
    {
        Ier = _ier,
        Fcr = _fcr,
        Lcr = _lcr,
        Mcr = _mcr,
        MsrDelta = _msrDelta,
        Scr = _scr,
        LineErrors = _lineErrors,
        Divisor = _divisor,
        ThrePending = _threPending,
        TimeoutPending = _timeoutPending,
        TimeoutAt = _timeoutAt,
        Receive = [.. _receive],
    });

    public void Restore(DeviceState state)
    {
        Uart16550AState s = state.Read<Uart16550AState>(Uart16550AState.TypeId, Uart16550AState.Schema);
        (_ier, _fcr, _lcr, _mcr, _msrDelta, _scr, _lineErrors) = (s.Ier, s.Fcr, s.Lcr, s.Mcr, s.MsrDelta, s.Scr, s.LineErrors);
        (_divisor, _threPending, _timeoutPending, _timeoutAt) = (s.Divisor, s.ThrePending, s.TimeoutPending, s.TimeoutAt);
        _receive.Clear();
        foreach (ushort c in s.Receive.Take(FifoSize))
            _receive.Enqueue(c);
    }
}
