using VirtPS.Shell.Hosting;

namespace VirtPS.Shell.Interactive;

/// <summary>The few things the line editor needs from a terminal; a test supplies its own.</summary>
internal interface IEditorConsole
{
    /// <summary>Terminal columns.</summary>
    int Width { get; }

    /// <summary>Waits for a key without showing it.</summary>
    ConsoleKeyInfo ReadKey();

    /// <summary>True when another key is already waiting (pasted text).</summary>
    bool KeyAvailable { get; }

    void Write(string text);

    /// <summary>A line begins: Ctrl-C is to arrive as a key.</summary>
    void BeginLine();

    /// <summary>The line has ended.</summary>
    void EndLine();
}

internal sealed class SystemConsole : IEditorConsole
{
    public int Width => TerminalInfo.Width;
    public bool KeyAvailable => Console.KeyAvailable;

    public ConsoleKeyInfo ReadKey()
    {
        return Console.ReadKey(intercept: true);
    }

    // Ctrl-C is a key while a line is typed, and the signal again while commands run.
    public void BeginLine() => Console.TreatControlCAsInput = true;

    public void EndLine() => Console.TreatControlCAsInput = false;

    public void Write(string text)
    {
        Console.Out.Write(text);
        Console.Out.Flush();
    }
}
