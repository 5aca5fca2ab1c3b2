namespace VirtPS.Shell.Hosting;

/// <summary>What is known about the terminal at the three standard descriptors.</summary>
internal static class TerminalInfo
{
    /// <summary>The width the formatting system gets where no terminal says its own.</summary>
    private const int DefaultWidth = 120;
    private const int DefaultHeight = 40;

    /// <summary>True when standard output is a terminal that understands escape sequences.</summary>
    public static bool OutputIsTerminal { get; } =
        !Console.IsOutputRedirected && Environment.GetEnvironmentVariable("TERM") != "dumb";

    public static bool ErrorIsTerminal { get; } =
        !Console.IsErrorRedirected && Environment.GetEnvironmentVariable("TERM") != "dumb";

    public static bool InputIsTerminal { get; } = !Console.IsInputRedirected;

    /// <summary>True when text may carry colours: a terminal, and the user has not set NO_COLOR (https://no-color.org).</summary>
    public static bool OutputHasColour { get; } =
        OutputIsTerminal && string.IsNullOrEmpty(Environment.GetEnvironmentVariable("NO_COLOR"));

    public static bool ErrorHasColour { get; } =
        ErrorIsTerminal && string.IsNullOrEmpty(Environment.GetEnvironmentVariable("NO_COLOR"));

    /// <summary>Columns of the terminal, or <see cref="DefaultWidth"/> without one.</summary>
    public static int Width => Measure(static () => Console.WindowWidth, DefaultWidth);

    /// <summary>Rows of the terminal, or <see cref="DefaultHeight"/> without one.</summary>
    public static int Height => Measure(static () => Console.WindowHeight, DefaultHeight);

    private static int Measure(Func<int> ask, int fallback)
    {
        if (!OutputIsTerminal)
        {
            return fallback;
        }
        int value = ask();
        return value > 0 ? value : fallback; // A terminal without a size (serial line, some CI) answers 0.
    }
}
