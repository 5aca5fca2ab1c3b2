namespace VirtPS.Device.Serial;

/// <summary>Transmitter and receiver.</summary>
internal sealed partial class Uart16550A
{
    private byte FrontErrors => _receive.TryPeek(out ushort front) ? (byte)(front >> 8) : (byte)0;

    private void Transmit(byte value)
    {
        if (Loopback)
            Enqueue(value, 0);
        else
            _backend.Write([value]);
        // The write resets the interrupt (table IV); the byte is gone at once, which sets it again.
        _threPending = true;
    }

    private void OnInput()
    {
        if (_quiesced)
            return;
        Receive();
        Sync();
    }

    /// <summary>Takes in what there is room for. In loopback the receiver is cut off from its pin (§8.7 bit 4).</summary>
    private void Receive()
    {
        if (_quiesced || Loopback)
            return;
        Span<byte> buffer = stackalloc byte[FifoSize];
        int room = (FifoEnabled ? FifoSize : 1) - _receive.Count;
        if (room <= 0)
            return;
        int n = _backend.Read(buffer[..room]);
        foreach (byte b in buffer[..n])
            Enqueue((byte)(b & WordMask), 0);
    }

    /// <summary>LCR bits 0–1: 5 to 8 data bits.</summary>
    private int WordMask => (1 << (5 + (_lcr & Lcr.WordLength))) - 1;

    private void Enqueue(byte value, byte errors)
    {
        if (_receive.Count == (FifoEnabled ? FifoSize : 1))
        {
            // §8.3 bit 1: in FIFO mode the shift register is overwritten and the FIFO kept; else RBR's content is lost.
            _lineErrors |= Lsr.Overrun;
            if (FifoEnabled)
                return;
            _receive.Clear();
        }

        _receive.Enqueue((ushort)((value & WordMask) | (errors << 8)));
        RestartTimeout();
    }

    private uint ReadReceiver()
    {
        byte value = _receive.TryDequeue(out ushort front) ? (byte)front : (byte)0;
        _timeoutPending = false;
        Receive();
        RestartTimeout();
        return value;
    }

    /// <summary>Four character times after the last byte came or was read, if anything is left (§8.10 B).</summary>
    private void RestartTimeout()
    {
        if (!FifoEnabled || _receive.Count == 0)
        {
            _timeoutAt = null;
            return;
        }

        int bits = 1 + 5 + (_lcr & Lcr.WordLength) + ((_lcr & Lcr.Parity) != 0 ? 1 : 0) + ((_lcr & Lcr.StopBits) != 0 ? 2 : 1);
        ulong clocks = 4ul * (ulong)bits * 16 * (_divisor == 0 ? 1u : _divisor);
        _timeoutAt = _clock.Now + (clocks * 1_000_000_000 / InputClock);
    }

    private void ClearReceiver()
    {
        _receive.Clear();
        (_timeoutPending, _timeoutAt) = (false, null);
    }

    private uint ReadLineStatus()
    {
        byte front = FrontErrors;
        uint value = (uint)(Lsr.TransmitterHoldingEmpty | Lsr.TransmitterEmpty | _lineErrors | front);
        if (_receive.Count > 0)
            value |= Lsr.DataReady;
        if (FifoEnabled && _receive.Any(c => c >> 8 != 0))
            value |= Lsr.FifoError;
        // Reading resets the error bits; those of a character are shown once, while it is in front (§8.3).
        _lineErrors = 0;
        if (front != 0)
            ClearFrontErrors();
        return value;
    }

    private void ClearFrontErrors()
    {
        ushort[] all = [.. _receive];
        all[0] &= 0xFF;
        _receive.Clear();
        foreach (ushort c in all)
            _receive.Enqueue(c);
    }
}
