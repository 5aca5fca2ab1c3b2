using VirtPS.Sdk;
using VirtPS.Sdk.Devices;
using VirtPS.Sdk.Interrupts;
using VirtPS.Sdk.Machine;

namespace VirtPS.Device.I8042;

/// <summary>
/// Intel 8042 with the PC/AT's keyboard firmware (ports 0x60, 0x64) and system control port A (0x92). It has no auxiliary port: the commands for one are answered
/// as an AT's controller would, its test fails, and IRQ12 is raised only for the time-out report of a byte sent there. After a
/// cold reset the command byte stands as firmware leaves it: translation on, keyboard interrupt on.
/// </summary>
internal sealed class Controller : IDevice, IPortDevice
{
    public const string TypeId = "virtps.i8042/i8042";
    public const int Schema = 1;

    private const byte FirmwareCommandByte = CommandByte.Translate | CommandByte.SystemFlag | CommandByte.KeyboardInterrupt;

    // Wiring.
    private readonly IMachineControl? _machine;
    private readonly InterruptLine _irq1, _irq12;
    private readonly IBusRegion[] _regions;

    // Guest-visible state.
    private ControllerState _s = new();
    private readonly Keyboard _keyboard = new();

    public Controller(DeviceContext context)
    {
        _machine = context.GetService<IMachineControl>();
        _irq1 = context.IsaInterrupt(PcLayout.KeyboardIrq);
        _irq12 = context.IsaInterrupt(PcLayout.MouseIrq);
        _regions =
        [
            context.MapPorts(PcLayout.KeyboardDataPort, 1, this),
            context.MapPorts(PcLayout.KeyboardCommandPort, 1, new CommandPort(this)),
            context.MapPorts(PcLayout.SystemControlPortA, 1, new PortA(this)),
        ];
        Reset(ResetKind.Cold);
    }

    private bool A20
    {
        get => _machine?.A20 ?? _s.A20;
        set
        {
            _s.A20 = value;
            if (_machine is not null)
                _machine.A20 = value;
        }
    }

    public void Reset(ResetKind kind)
    {
        _s = new ControllerState { Ram = new byte[32] };
        _s.Ram[0] = FirmwareCommandByte;
        _keyboard.Reset();
        A20 = true;
        Sync();
    }

    /// <summary>Port 0x60: the output buffer. Reading empties it; the next byte comes after.</summary>
    public uint ReadPort(int offset, int size)
    {
        byte value = _s.Output;
        _s.Status &= unchecked((byte)~(Status.OutputFull | Status.AuxiliaryData | Status.Timeout));
        // The interrupt line falls in between: its controller sees an edge for each byte.
        DriveLines();
        Sync();
        return value;
    }

    public void WritePort(int offset, int size, uint value)
    {
        byte pending = _s.PendingCommand, b = (byte)value;
        (_s.PendingCommand, _s.LastWasCommand) = (0, false);
        switch (pending)
        {
            case >= ControllerCommand.WriteRam and < ControllerCommand.WriteRam + 32:
                _s.Ram[pending - ControllerCommand.WriteRam] = b;
                break;
            case ControllerCommand.WriteOutputPort:
                WriteOutputPort(b);
                break;
            case ControllerCommand.WriteKeyboardBuffer or ControllerCommand.WriteAuxiliaryBuffer:
                // Without an auxiliary port both put the byte into the keyboard's buffer.
                Answer(b);
                break;
            case ControllerCommand.WriteAuxiliary:
                _s.AuxiliaryTimeout = true;
                break;
            default:
                // Sending to the keyboard enables its interface.
                _s.Ram[0] &= unchecked((byte)~CommandByte.DisableKeyboard);
                _keyboard.Receive(b);
                break;
        }

        Sync();
    }

    private byte ReadStatus() =>
        (byte)(_s.Status | Status.NotInhibited | (_s.LastWasCommand ? Status.Command : 0) | (_s.Ram[0] & CommandByte.SystemFlag));

    private void WriteCommand(byte command)
    {
        (_s.PendingCommand, _s.LastWasCommand) = (0, true);
        switch (command)
        {
            case >= ControllerCommand.ReadRam and < ControllerCommand.ReadRam + 32:
                Answer(_s.Ram[command - ControllerCommand.ReadRam]);
                break;
            case (>= ControllerCommand.WriteRam and < ControllerCommand.WriteRam + 32) or ControllerCommand.WriteOutputPort
                or ControllerCommand.WriteKeyboardBuffer or ControllerCommand.WriteAuxiliaryBuffer or ControllerCommand.WriteAuxiliary:
                _s.PendingCommand = command;
                break;
            case ControllerCommand.TestAuxiliary:
                // "Data line stuck high": nothing is connected.
                Answer(0x04);
                break;
            case ControllerCommand.SelfTest:
                _s.Ram[0] |= CommandByte.SystemFlag;
                Answer(0x55);
                break;
            case ControllerCommand.TestKeyboard:
                Answer(0x00);
                break;
            case ControllerCommand.DisableKeyboard:
                _s.Ram[0] |= CommandByte.DisableKeyboard;
                break;
            case ControllerCommand.EnableKeyboard:
                _s.Ram[0] &= unchecked((byte)~CommandByte.DisableKeyboard);
                break;
            case ControllerCommand.ReadInputPort:
                // Bit 7: the keyboard is not locked.
                Answer(0x80);
                break;
            case ControllerCommand.ReadOutputPort:
                Answer(ReadOutputPort());
                break;
            case ControllerCommand.DisableA20 or ControllerCommand.EnableA20:
                A20 = command == ControllerCommand.EnableA20;
                break;
            case >= ControllerCommand.PulseOutputPort when (command & OutputPort.NotReset) == 0:
                _machine?.RequestReset("keyboard controller");
                break;
            // Disable and enable auxiliary (0xA7, 0xA8) mean nothing to a controller without one; unknown commands are ignored.
        }

        Sync();
    }

    /// <summary>
    /// An answer of the controller itself: there is one output register, so it takes the place of an answer that was not read. Keyboard bytes wait for it.
    /// </summary>
    private void Answer(byte value)
    {
        if (_s.OutputIsAnswer)
            _s.Status &= unchecked((byte)~(Status.OutputFull | Status.AuxiliaryData | Status.Timeout));
        _s.Answer = value;
    }

    private byte ReadOutputPort() => (byte)(OutputPort.Idle & ~(OutputPort.KeyboardFull | OutputPort.AuxiliaryFull) | OutputPort.NotReset
        | (A20 ? OutputPort.A20 : 0) | ((_s.Status & Status.OutputFull) != 0 ? OutputPort.KeyboardFull : 0));

    private void WriteOutputPort(byte value)
    {
        A20 = (value & OutputPort.A20) != 0;
        if ((value & OutputPort.NotReset) == 0)
            _machine?.RequestReset("keyboard controller output port");
    }

    /// <summary>Fills the output buffer when it is empty, the controller's own answers first, and derives the lines.</summary>
    private void Sync()
    {
        if ((_s.Status & Status.OutputFull) == 0)
            FillOutput();
        DriveLines();
    }

    private void FillOutput()
    {
        _s.OutputIsAnswer = _s.Answer is not null;
        if (_s.Answer is { } answer)
        {
            (_s.Output, _s.Answer) = (answer, null);
            _s.Status |= Status.OutputFull;
        }
        else if (_s.AuxiliaryTimeout)
        {
            (_s.Output, _s.AuxiliaryTimeout) = (KeyboardCommand.ResendRequest, false);
            _s.Status |= Status.OutputFull | Status.AuxiliaryData | Status.Timeout;
        }
        else if ((_s.Ram[0] & CommandByte.DisableKeyboard) == 0 && _keyboard.TryTake(out byte value))
        {
            _s.Output = (_s.Ram[0] & CommandByte.Translate) != 0 ? Translate(value) : value;
            _s.Status |= Status.OutputFull;
        }
    }

    private void DriveLines()
    {
        bool full = (_s.Status & Status.OutputFull) != 0, auxiliary = (_s.Status & Status.AuxiliaryData) != 0;
        _irq1.Set(full && !auxiliary && (_s.Ram[0] & CommandByte.KeyboardInterrupt) != 0);
        _irq12.Set(full && auxiliary && (_s.Ram[0] & CommandByte.AuxiliaryInterrupt) != 0);
    }

    /// <summary>
    /// Scan code set 2 to set 1, for the bytes that this keyboard sends: its answers. Acknowledgements pass unchanged; the second
    /// identification byte and the numbers of the sets are below 0x84 and are translated like keys.
    /// </summary>
    private static byte Translate(byte value) => value switch
    {
        0x83 => 0x41,
        0x01 => 0x43,
        0x02 => 0x41,
        0x03 => 0x3F,
        _ => value,
    };

    public void Quiesce()
    {
    }

    public DeviceState Save() => DeviceState.From(TypeId, Schema, _s with { A20 = A20, Keyboard = _keyboard.State });

    public void Restore(DeviceState state)
    {
        ControllerState s = state.Read<ControllerState>(TypeId, Schema);
        if (s.Ram.Length != 32 || s.Keyboard is null)
            throw new VirtException("DeviceStateInvalid", $"Saved state of '{TypeId}' lacks its RAM or keyboard.");
        _keyboard.State = s.Keyboard;
        _s = s with { Keyboard = null };
        A20 = s.A20;
    }

    public void Resume() => DriveLines();

    public void Dispose()
    {
        _irq1.Set(false);
        _irq12.Set(false);
        foreach (IBusRegion region in _regions)
            region.Dispose();
    }

    private sealed class CommandPort(Controller controller) : IPortDevice
    {
        public uint ReadPort(int offset, int size) => controller.ReadStatus();

        public void WritePort(int offset, int size, uint value) => controller.WriteCommand((byte)value);
    }

    /// <summary>System control port A (PS/2 technical reference): bit 1 A20, bit 0 resets on its rising edge.</summary>
    private sealed class PortA(Controller controller) : IPortDevice
    {
        public uint ReadPort(int offset, int size) => (controller.A20 ? 2u : 0) | (controller._s.FastReset ? 1u : 0);

        public void WritePort(int offset, int size, uint value)
        {
            bool reset = (value & 1) != 0, rises = reset && !controller._s.FastReset;
            controller.A20 = (value & 2) != 0;
            controller._s.FastReset = reset;
            if (rises)
                controller._machine?.RequestReset("port 0x92");
        }
    }
}

/// <summary>Saved state, schema 1.</summary>
internal sealed record ControllerState
{
    /// <summary>The controller's RAM; location 0 is the command byte.</summary>
    public byte[] Ram { get; init; } = [];

    /// <summary>OBF, AUX and time-out bits; the other status bits are derived.</summary>
    public byte Status { get; set; }

    /// <summary>Output buffer.</summary>
    public byte Output { get; set; }

    /// <summary>Command that awaits its data byte; 0 = none.</summary>
    public byte PendingCommand { get; set; }
    public bool LastWasCommand { get; set; }
    public bool A20 { get; set; }

    /// <summary>Bit 0 of port 0x92 as last written.</summary>
    public bool FastReset { get; set; }

    /// <summary>A time-out report is due for a byte sent to the absent auxiliary device.</summary>
    public bool AuxiliaryTimeout { get; set; }

    /// <summary>An answer of the controller that waits for the output buffer.</summary>
    public byte? Answer { get; set; }

    /// <summary>The output buffer holds, or last held, an answer of the controller.</summary>
    public bool OutputIsAnswer { get; set; }

    /// <summary>Only in saved state; the running device keeps it apart.</summary>
    public KeyboardState? Keyboard { get; set; }
}
