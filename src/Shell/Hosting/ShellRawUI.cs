using System.Management.Automation.Host;

namespace VirtPS.Shell.Hosting;

/// <summary>Size, cursor and keys of the terminal. Screen buffer reading does not exist on Unix terminals and says so.</summary>
internal sealed class ShellRawUI : PSHostRawUserInterface
{
    private ConsoleColor _foreground = ConsoleColor.Gray;
    private ConsoleColor _background = ConsoleColor.Black;

    public override ConsoleColor ForegroundColor { get => _foreground; set => _foreground = value; }
    public override ConsoleColor BackgroundColor { get => _background; set => _background = value; }

    public override Size BufferSize { get => new(TerminalInfo.Width, TerminalInfo.Height); set => throw Unsupported(); }
    public override Size WindowSize { get => BufferSize; set => throw Unsupported(); }
    public override Size MaxPhysicalWindowSize => BufferSize;
    public override Size MaxWindowSize => BufferSize;
    public override Coordinates WindowPosition { get => new(0, 0); set => throw Unsupported(); }
    public override int CursorSize { get => 25; set => throw Unsupported(); }

    public override Coordinates CursorPosition
    {
        get
        {
            if (!TerminalInfo.OutputIsTerminal || !TerminalInfo.InputIsTerminal)
            {
                return new Coordinates(0, 0);
            }
            (int left, int top) = Console.GetCursorPosition();
            return new Coordinates(left, top);
        }
        set => Console.SetCursorPosition(value.X, value.Y);
    }

    public override string WindowTitle
    {
        get => _title;
        set
        {
            _title = value ?? "";
            if (TerminalInfo.OutputIsTerminal)
            {
                Console.Out.Write($"\e]0;{_title}\a");
            }
        }
    }

    private string _title = "virtps";

    public override bool KeyAvailable => TerminalInfo.InputIsTerminal && Console.KeyAvailable;

    public override KeyInfo ReadKey(ReadKeyOptions options)
    {
        ConsoleKeyInfo key = Console.ReadKey(intercept: (options & ReadKeyOptions.NoEcho) != 0);
        ControlKeyStates state = 0;
        if ((key.Modifiers & ConsoleModifiers.Shift) != 0)
        {
            state |= ControlKeyStates.ShiftPressed;
        }
        if ((key.Modifiers & ConsoleModifiers.Control) != 0)
        {
            state |= ControlKeyStates.LeftCtrlPressed;
        }
        if ((key.Modifiers & ConsoleModifiers.Alt) != 0)
        {
            state |= ControlKeyStates.LeftAltPressed;
        }
        return new KeyInfo((int)key.Key, key.KeyChar, state, keyDown: true);
    }

    public override void FlushInputBuffer()
    {
        while (KeyAvailable)
        {
            Console.ReadKey(intercept: true);
        }
    }

    public override BufferCell[,] GetBufferContents(Rectangle rectangle) => throw Unsupported();

    public override void SetBufferContents(Coordinates origin, BufferCell[,] contents) => throw Unsupported();

    /// <summary>Clear-Host fills the whole buffer with blanks through this call; nothing else is possible on a stream terminal.</summary>
    public override void SetBufferContents(Rectangle rectangle, BufferCell fill)
    {
        if (TerminalInfo.OutputIsTerminal)
        {
            Console.Out.Write("\e[H\e[2J\e[3J");
        }
    }

    public override void ScrollBufferContents(Rectangle source, Coordinates destination, Rectangle clip, BufferCell fill) => throw Unsupported();

    private static NotSupportedException Unsupported() => new("This terminal cannot do that.");
}
