using System.Management.Automation;
using System.Management.Automation.Host;
using System.Security;

namespace VirtPS.Shell.Hosting;

/// <summary>The engine's streams on the terminal. Colours only where the stream is a terminal. Safe to call from any thread.</summary>
internal sealed partial class ShellHostUI : PSHostUserInterface
{
    private readonly bool _nonInteractive;
    private readonly ShellRawUI _rawUI = new();
    private readonly ProgressPane _progress = new(Console.Out, () => TerminalInfo.Width);
    private readonly Lock _lock = new();

    public ShellHostUI(bool nonInteractive) => _nonInteractive = nonInteractive;

    public override PSHostRawUserInterface RawUI => _rawUI;
    public override bool SupportsVirtualTerminal => TerminalInfo.OutputHasColour;

    /// <summary>True when the cursor is known to be at the start of a line.</summary>
    public bool AtLineStart { get; private set; } = true;

    public void HideProgress() => _progress.Hide();

    public void ClearProgress() => _progress.Clear();

    public override void Write(string value) => Put(value);

    public override void WriteLine(string value) => Put(value + Environment.NewLine);

    public override void WriteLine() => Put(Environment.NewLine);

    public override void Write(ConsoleColor foregroundColor, ConsoleColor backgroundColor, string value) =>
        Put(Coloured(foregroundColor, backgroundColor, value));

    public override void WriteLine(ConsoleColor foregroundColor, ConsoleColor backgroundColor, string value) =>
        Put(Coloured(foregroundColor, backgroundColor, value) + Environment.NewLine);

    public override void WriteErrorLine(string value)
    {
        lock (_lock)
        {
            _progress.Hide();
            string text = TerminalInfo.ErrorHasColour
                ? Style(PSStyle.Instance.Formatting.Error, value)
                : GetOutputString(value, supportsVirtualTerminal: false);
            Console.Error.WriteLine(text);
            AtLineStart = true;
        }
    }

    public override void WriteWarningLine(string message) => Labelled("WARNING: " + message, PSStyle.Instance.Formatting.Warning);

    public override void WriteVerboseLine(string message) => Labelled("VERBOSE: " + message, PSStyle.Instance.Formatting.Verbose);

    public override void WriteDebugLine(string message) => Labelled("DEBUG: " + message, PSStyle.Instance.Formatting.Debug);

    // Information records reach the screen through Out-Default (and Write-Host through Write/WriteLine), not here.
    public override void WriteInformation(InformationRecord record)
    {
    }

    public override void WriteProgress(long sourceId, ProgressRecord record)
    {
        // Progress is for a person: into a file or a pipe it would be rubbish.
        if (TerminalInfo.OutputIsTerminal && TerminalInfo.ErrorIsTerminal)
        {
            lock (_lock)
            {
                _progress.Update(record);
            }
        }
    }

    private void Labelled(string text, string style) =>
        Put((TerminalInfo.OutputHasColour ? Style(style, text) : text) + Environment.NewLine);

    private static string Style(string style, string text) => style + text + PSStyle.Instance.Reset;

    private void Put(string value)
    {
        if (value.Length == 0)
        {
            return;
        }
        lock (_lock)
        {
            _progress.Hide();
            Console.Out.Write(GetOutputString(value, TerminalInfo.OutputHasColour));
            AtLineStart = value[^1] == '\n';
        }
    }

    private string Coloured(ConsoleColor foreground, ConsoleColor background, string value)
    {
        if (!TerminalInfo.OutputHasColour || value.Length == 0)
        {
            return value;
        }
        string codes = "";
        if (Enum.IsDefined(foreground) && foreground != _rawUI.ForegroundColor)
        {
            codes += PSStyle.MapForegroundColorToEscapeSequence(foreground);
        }
        if (Enum.IsDefined(background) && background != _rawUI.BackgroundColor)
        {
            codes += PSStyle.MapBackgroundColorToEscapeSequence(background);
        }
        return codes.Length == 0 ? value : codes + value + PSStyle.Instance.Reset;
    }
}
