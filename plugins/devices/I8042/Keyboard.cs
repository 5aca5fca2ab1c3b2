namespace VirtPS.Device.I8042;

/// <summary>
/// The keyboard at the other end of the cable: answers commands at once. Nobody types on it: the machine has no source of keys yet, so it never sends scan codes.
/// </summary>
internal sealed class Keyboard
{
    private const int BufferSize = 17;

    private KeyboardState _s = new();

    public KeyboardState State
    {
        get => _s with { Output = [.. _s.Output] };
        set => _s = value with { Output = [.. value.Output] };
    }

    public void Reset() => _s = new KeyboardState();

    /// <summary>Takes the next byte to the host; false when there is none.</summary>
    public bool TryTake(out byte value)
    {
        value = 0;
        if (_s.Output.Count == 0)
            return false;
        value = _s.Output[0];
        _s.Output.RemoveAt(0);
        _s.LastSent = value;
        return true;
    }

    /// <summary>A byte from the host: a command, or the parameter that the last one awaits.</summary>
    public void Receive(byte value)
    {
        byte awaiting = _s.Awaiting;
        // A command byte in place of a parameter ends the earlier command: values from 0xED up are commands.
        if (awaiting != 0 && value < KeyboardCommand.SetLeds)
            TakeParameter(awaiting, value);
        else
            Execute(value);
    }

    private void TakeParameter(byte command, byte value)
    {
        _s.Awaiting = 0;
        switch (command)
        {
            case KeyboardCommand.SetLeds:
                _s.Leds = (byte)(value & 7);
                Send(KeyboardCommand.Acknowledge);
                break;
            case KeyboardCommand.SetTypematic:
                _s.Typematic = (byte)(value & 0x7F);
                Send(KeyboardCommand.Acknowledge);
                break;
            case KeyboardCommand.ScanCodeSet when value == 0:
                Send(KeyboardCommand.Acknowledge, _s.ScanCodeSet);
                break;
            case KeyboardCommand.ScanCodeSet when value <= 3:
                _s.ScanCodeSet = value;
                Send(KeyboardCommand.Acknowledge);
                break;
            default:
                Send(KeyboardCommand.ResendRequest);
                break;
        }
    }

    private void Execute(byte command)
    {
        _s.Awaiting = 0;
        switch (command)
        {
            case KeyboardCommand.SetLeds or KeyboardCommand.ScanCodeSet or KeyboardCommand.SetTypematic:
                _s.Awaiting = command;
                Send(KeyboardCommand.Acknowledge);
                break;
            case KeyboardCommand.Echo:
                Send(KeyboardCommand.Echo);
                break;
            case KeyboardCommand.Identify:
                Send(KeyboardCommand.Acknowledge, 0xAB, 0x83);
                break;
            case KeyboardCommand.Enable:
                _s.Scanning = true;
                Send(KeyboardCommand.Acknowledge);
                break;
            case KeyboardCommand.DefaultDisable or KeyboardCommand.SetDefault:
                _s = new KeyboardState { Output = _s.Output, Scanning = command == KeyboardCommand.SetDefault, Leds = _s.Leds };
                Send(KeyboardCommand.Acknowledge);
                break;
            case >= KeyboardCommand.FirstSetAllKeys and <= KeyboardCommand.LastSetAllKeys:
                Send(KeyboardCommand.Acknowledge);
                break;
            case KeyboardCommand.Resend:
                Send(_s.LastSent);
                break;
            case KeyboardCommand.Reset:
                _s = new KeyboardState();
                Send(KeyboardCommand.Acknowledge, KeyboardCommand.BatCompleted);
                break;
            default:
                Send(KeyboardCommand.ResendRequest);
                break;
        }
    }

    /// <summary>Queues an answer; one that does not fit is lost, as in the real buffer.</summary>
    private void Send(params ReadOnlySpan<byte> bytes)
    {
        if (_s.Output.Count + bytes.Length <= BufferSize)
            _s.Output.AddRange(bytes);
    }
}

/// <summary>The keyboard's saved state.</summary>
internal sealed record KeyboardState
{
    /// <summary>Command that awaits its parameter; 0 = none.</summary>
    public byte Awaiting { get; set; }
    public byte Leds { get; set; }
    public byte Typematic { get; set; } = 0x2B;
    public byte ScanCodeSet { get; set; } = 2;
    public bool Scanning { get; set; } = true;
    public byte LastSent { get; set; }

    /// <summary>Bytes not yet taken by the controller, oldest first.</summary>
    public List<byte> Output { get; init; } = [];
}
