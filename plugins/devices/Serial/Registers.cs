namespace VirtPS.Device.Serial;

/// <summary>Interrupt enable register (§8.6).</summary>
internal static class Ier
{
    public const byte Received = 1, TransmitterEmpty = 2, LineStatus = 4, ModemStatus = 8;
}

/// <summary>Interrupt identification register (§8.5, table IV).</summary>
internal static class Iir
{
    public const byte ModemStatus = 0x00, None = 0x01, TransmitterEmpty = 0x02, Received = 0x04, LineStatus = 0x06, Timeout = 0x0C, FifosEnabled = 0xC0;
}

/// <summary>FIFO control register (§8.4).</summary>
internal static class Fcr
{
    public const byte Enable = 0x01, ClearReceiver = 0x02, DmaMode = 0x08, Trigger = 0xC0;
}

/// <summary>Line control register (§8.1).</summary>
internal static class Lcr
{
    public const byte WordLength = 0x03, StopBits = 0x04, Parity = 0x08, Break = 0x40, Dlab = 0x80;
}

/// <summary>Modem control register (§8.7).</summary>
internal static class Mcr
{
    public const byte Dtr = 1, Rts = 2, Out1 = 4, Out2 = 8, Loop = 0x10;
}

/// <summary>Line status register (§8.3).</summary>
internal static class Lsr
{
    public const byte DataReady = 0x01, Overrun = 0x02, Break = 0x10, TransmitterHoldingEmpty = 0x20, TransmitterEmpty = 0x40, FifoError = 0x80;
}

/// <summary>Modem status register (§8.8).</summary>
internal static class Msr
{
    public const byte TrailingEdgeRing = 0x04, ClearToSend = 0x10, DataSetReady = 0x20, Ring = 0x40, Carrier = 0x80;
}
