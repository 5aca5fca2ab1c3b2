using VirtPS.Sdk.Backends;
using VirtPS.Sdk.Devices;
using VirtPS.Sdk.Interrupts;
using VirtPS.Sdk.Machine;
using VirtPS.Sdk.Time;

namespace VirtPS.Device.Serial;

/// <summary>
/// National PC16550D. Section numbers are those of its data sheet. Transmission takes no time: a byte written to THR is at the backend before the
/// instruction ends, so that a console is as fast as its guest; THRE and its interrupt behave as with an infinitely fast line. Reception is paced by the reader:
/// the backend keeps what the FIFO has no room for, so nothing overruns except in loopback. The board's gating of INTR by OUT2 is left out, as
/// small kernels that never set OUT2 are common.
/// </summary>
internal sealed partial class Uart16550A : IDevice, IPortDevice
{
    private const int FifoSize = 16;
    private const int InputClock = 1_843_200;


    // Wiring.
    private readonly VirtualClock _clock;
    private readonly ICharBackend _backend;
    private readonly InterruptLine _interrupt;
    private readonly IBusRegion _region;
    private readonly Alarm _timeoutAlarm;
    private bool _quiesced;

    // Guest-visible state.
    private byte _ier, _fcr, _lcr, _mcr, _msrDelta, _scr, _lineErrors;
    private ushort _divisor;
    private bool _threPending, _timeoutPending;
    /// <summary>VM time at which the character timeout strikes; null while none is running (§8.10).</summary>
    private ulong? _timeoutAt;
    private readonly Queue<ushort> _receive = new(FifoSize);

    public Uart16550A(SerialSpec spec, DeviceContext context)
    {
        _clock = context.Clock;
        _backend = context.OpenChar(spec.Console ?? (spec.Port == PcLayout.Com1Port ? "console" : null));
        _interrupt = context.IsaInterrupt(spec.Irq);
        _timeoutAlarm = context.Clock.CreateAlarm($"{context.Name} character timeout", Sync);
        _region = context.MapPorts((ushort)spec.Port, 8, this);
        Reset(ResetKind.Cold);
        _backend.InputAvailable = OnInput;
    }

    private bool FifoEnabled => (_fcr & Fcr.Enable) != 0;

    private bool Loopback => (_mcr & Mcr.Loop) != 0;

    private bool DivisorLatch => (_lcr & Lcr.Dlab) != 0;

    private int TriggerLevel => !FifoEnabled ? 1 : (_fcr >> 6) switch { 0 => 1, 1 => 4, 2 => 8, _ => 14 };

    /// <summary>Master reset (table II). The scratch register and the divisor keep their content there; after power-on they are given 0 and 9600 baud.</summary>
    public void Reset(ResetKind kind)
    {
        (_ier, _fcr, _lcr, _mcr, _msrDelta, _lineErrors) = (0, 0, 0, 0, 0, 0);
        (_threPending, _timeoutPending, _timeoutAt) = (false, false, null);
        _receive.Clear();
        if (kind == ResetKind.Cold)
            (_scr, _divisor) = (0, 12);
        Sync();
    }

    public uint ReadPort(int offset, int size)
    {
        uint value = offset switch
        {
            0 => DivisorLatch ? (byte)_divisor : ReadReceiver(),
            1 => DivisorLatch ? (byte)(_divisor >> 8) : _ier,
            2 => ReadInterruptIdentification(),
            3 => _lcr,
            4 => _mcr,
            5 => ReadLineStatus(),
            6 => ReadModemStatus(),
            _ => _scr,
        };
        Sync();
        return value;
    }

    public void WritePort(int offset, int size, uint value)
    {
        byte b = (byte)value;
        switch (offset)
        {
            case 0 when DivisorLatch:
                _divisor = (ushort)((_divisor & 0xFF00) | b);
                break;
            case 0:
                Transmit(b);
                break;
            case 1 when DivisorLatch:
                _divisor = (ushort)((_divisor & 0x00FF) | (b << 8));
                break;
            case 1:
                WriteInterruptEnable(b);
                break;
            case 2:
                WriteFifoControl(b);
                break;
            case 3:
                WriteLineControl(b);
                break;
            case 4:
                WriteModemControl(b);
                break;
            case 7:
                _scr = b;
                break;
            // 5 and 6: writes are for factory testing only (§8.3, note); they do nothing.
        }

        Sync();
    }

    /// <summary>Derives what depends on state and time: the character timeout and the line.</summary>
    private void Sync()
    {
        if (_timeoutAt <= _clock.Now)
            (_timeoutPending, _timeoutAt) = (true, null);
        _timeoutAlarm.Deadline = _quiesced ? null : _timeoutAt;
        _interrupt.Set(PendingInterrupt() != Iir.None);
    }

    /// <summary>The highest pending interrupt (table IV).</summary>
    private byte PendingInterrupt()
    {
        if ((_ier & Ier.LineStatus) != 0 && (_lineErrors | FrontErrors) != 0)
            return Iir.LineStatus;
        if ((_ier & Ier.Received) != 0 && _receive.Count >= TriggerLevel)
            return Iir.Received;
        if ((_ier & Ier.Received) != 0 && _timeoutPending)
            return Iir.Timeout;
        if ((_ier & Ier.TransmitterEmpty) != 0 && _threPending)
            return Iir.TransmitterEmpty;
        if ((_ier & Ier.ModemStatus) != 0 && _msrDelta != 0)
            return Iir.ModemStatus;
        return Iir.None;
    }

    private uint ReadInterruptIdentification()
    {
        byte cause = PendingInterrupt();
        // Reading IIR resets the THRE interrupt only if it is the one shown (table IV, last column).
        if (cause == Iir.TransmitterEmpty)
            _threPending = false;
        return (uint)(cause | (FifoEnabled ? Iir.FifosEnabled : 0));
    }

    private void WriteInterruptEnable(byte value)
    {
        bool enabledNow = (~_ier & value & Ier.TransmitterEmpty) != 0;
        _ier = (byte)(value & 0x0F);
        // THR is always empty here, and enabling ETBEI while THRE is set interrupts at once (drivers probe for that).
        _threPending |= enabledNow;
    }

    private void WriteFifoControl(byte value)
    {
        // Bit 0 must be set for the others to be taken; changing it clears both FIFOs (§8.4).
        if (((value ^ _fcr) & Fcr.Enable) != 0 || (value & (Fcr.Enable | Fcr.ClearReceiver)) == (Fcr.Enable | Fcr.ClearReceiver))
            ClearReceiver();
        _fcr = (value & Fcr.Enable) == 0 ? (byte)0 : (byte)(value & (Fcr.Enable | Fcr.DmaMode | Fcr.Trigger));
        Receive();
    }

    private void WriteLineControl(byte value)
    {
        bool breakStarts = (~_lcr & value & Lcr.Break) != 0;
        _lcr = value;
        // In loopback the receiver sees its own break: one zero character (§8.1 bit 6).
        if (breakStarts && Loopback)
            Enqueue(0, Lsr.Break);
    }

    private void WriteModemControl(byte value)
    {
        byte before = ModemLines;
        _mcr = (byte)(value & 0x1F);
        byte changed = (byte)(before ^ ModemLines);
        // TERI marks the trailing edge of RI only (§8.8); the other three any change.
        _msrDelta |= (byte)((changed >> 4) & ~Msr.TrailingEdgeRing);
        if ((changed & before & Msr.Ring) != 0)
            _msrDelta |= Msr.TrailingEdgeRing;
        Receive();
    }

    /// <summary>CTS, DSR, RI, DCD: a null modem to a peer that is always there; in loopback the outputs (§8.7).</summary>
    private byte ModemLines => !Loopback
        ? (byte)(Msr.Carrier | Msr.DataSetReady | Msr.ClearToSend)
        : (byte)(((_mcr & Mcr.Rts) != 0 ? Msr.ClearToSend : 0) | ((_mcr & Mcr.Dtr) != 0 ? Msr.DataSetReady : 0)
            | ((_mcr & Mcr.Out1) != 0 ? Msr.Ring : 0) | ((_mcr & Mcr.Out2) != 0 ? Msr.Carrier : 0));

    private uint ReadModemStatus()
    {
        uint value = (uint)(ModemLines | _msrDelta);
        _msrDelta = 0;
        return value;
    }

    public void Quiesce()
    {
        _quiesced = true;
        _timeoutAlarm.Deadline = null;
    }

    public void Resume()
    {
        _quiesced = false;
        Receive();
        Sync();
    }

    public void Dispose()
    {
        _backend.InputAvailable = null;
        _timeoutAlarm.Dispose();
        _interrupt.Set(false);
        _region.Dispose();
        _backend.Dispose();
    }
}
