namespace VirtPS.Device.I8042;

/// <summary>Status register, port 0x64 (IBM PS/2 Hardware Interface Technical Reference, keyboard and auxiliary device controller).</summary>
internal static class Status
{
    public const byte OutputFull = 0x01, SystemFlag = 0x04, Command = 0x08, NotInhibited = 0x10, AuxiliaryData = 0x20, Timeout = 0x40;
}

/// <summary>Controller command byte (RAM location 0).</summary>
internal static class CommandByte
{
    public const byte KeyboardInterrupt = 0x01, AuxiliaryInterrupt = 0x02, SystemFlag = 0x04, DisableKeyboard = 0x10, DisableAuxiliary = 0x20, Translate = 0x40;
}

/// <summary>Commands written to port 0x64.</summary>
internal static class ControllerCommand
{
    public const byte ReadRam = 0x20, WriteRam = 0x60, DisableAuxiliary = 0xA7, EnableAuxiliary = 0xA8, TestAuxiliary = 0xA9, SelfTest = 0xAA,
        TestKeyboard = 0xAB, DisableKeyboard = 0xAD, EnableKeyboard = 0xAE, ReadInputPort = 0xC0, ReadOutputPort = 0xD0, WriteOutputPort = 0xD1,
        WriteKeyboardBuffer = 0xD2, WriteAuxiliaryBuffer = 0xD3, WriteAuxiliary = 0xD4, DisableA20 = 0xDD, EnableA20 = 0xDF, PulseOutputPort = 0xF0;
}

/// <summary>Output port: bit 0 is the system reset, active low.</summary>
internal static class OutputPort
{
    public const byte NotReset = 0x01, A20 = 0x02, KeyboardFull = 0x10, AuxiliaryFull = 0x20, Idle = 0xCC;
}

/// <summary>Commands to the keyboard and its answers.</summary>
internal static class KeyboardCommand
{
    public const byte SetLeds = 0xED, Echo = 0xEE, ScanCodeSet = 0xF0, Identify = 0xF2, SetTypematic = 0xF3, Enable = 0xF4, DefaultDisable = 0xF5,
        SetDefault = 0xF6, FirstSetAllKeys = 0xF7, LastSetAllKeys = 0xFA, Resend = 0xFE, Reset = 0xFF;

    public const byte Acknowledge = 0xFA, BatCompleted = 0xAA, ResendRequest = 0xFE;
}
