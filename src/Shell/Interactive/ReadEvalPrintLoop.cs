using System.Management.Automation;
using System.Management.Automation.Language;
using VirtPS.Shell.Hosting;

namespace VirtPS.Shell.Interactive;

/// <summary>The interactive shell: prompt, line, run, again.</summary>
internal sealed class ReadEvalPrintLoop(ShellSession session, CommandLine line)
{
    private readonly CommandHistory _history = CommandHistory.Load(Path.Combine(ShellSession.ConfigurationFolder, "history.txt"));

    public int Run()
    {
        if (!line.NoLogo)
        {
            session.Host.UI.WriteLine($"virtps {Program.ProductVersion}, PowerShell engine {PSVersionInfo.PSVersion}. Get-Command -Module VirtPS lists the commands.");
        }
        if (line.IsInteractive)
        {
            session.RunProfile();
        }
        var editor = new LineEditor(new SystemConsole(), _history, new CommandCompleter(session.Runspace));
        while (!session.ExitRequested)
        {
            string? text = ReadCommand(editor);
            if (text is null)
            {
                session.Host.UI.WriteLine();
                break; // Ctrl-D
            }
            if (string.IsNullOrWhiteSpace(text))
            {
                continue;
            }
            _history.Add(text);
            session.Execute(ps => ps.AddScript(text, useLocalScope: false), addToHistory: true);
            if (session.WasInterrupted)
            {
                session.Host.UI.WriteLine();
            }
        }
        return session.Host.ExitCode ?? 0;
    }

    /// <summary>Reads lines until they make a complete statement.</summary>
    private string? ReadCommand(LineEditor editor)
    {
        if (!session.Host.Terminal.AtLineStart)
        {
            session.Host.UI.WriteLine();
        }
        string? text = editor.ReadLine(Prompt());
        while (text is not null && IsIncomplete(text))
        {
            string? more = editor.ReadLine(">> ");
            if (more is null || editor.WasCancelled)
            {
                return "";
            }
            text += "\n" + more;
        }
        return text;
    }

    /// <summary>True when the parser says that the text only lacks its end (an open brace, string or pipe).</summary>
    internal static bool IsIncomplete(string text)
    {
        Parser.ParseInput(text, out _, out ParseError[] errors);
        return errors.Length > 0 && errors.All(e => e.IncompleteInput);
    }

    private string Prompt()
    {
        try
        {
            string text = string.Concat(session.Query("prompt").Select(o => o?.ToString()));
            return text.Length == 0 ? "PS> " : text;
        }
        catch (RuntimeException)
        {
            return "PS> "; // As in pwsh: a prompt function that fails must not take the shell away.
        }
    }
}
