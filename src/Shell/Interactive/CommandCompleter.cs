using System.Management.Automation;
using System.Management.Automation.Runspaces;

namespace VirtPS.Shell.Interactive;

/// <summary>What may stand at a place of the line.</summary>
/// <param name="Start">Index of the first character replaced.</param>
/// <param name="Length">How many characters are replaced.</param>
/// <param name="Matches">Text to insert and text to list, in the engine's order.</param>
internal sealed record Completion(int Start, int Length, IReadOnlyList<(string Text, string Label)> Matches);

/// <summary>Completes a command line.</summary>
internal interface ICompleter
{
    /// <summary>The completions at <paramref name="cursor"/>; null when there are none.</summary>
    Completion? Complete(string text, int cursor);
}

/// <summary>Completion through the engine's own CommandCompletion, so that argument completers of modules work as in pwsh.</summary>
internal sealed class CommandCompleter(Runspace runspace) : ICompleter
{
    public Completion? Complete(string text, int cursor)
    {
        using var ps = PowerShell.Create(runspace);
        CommandCompletion result = CommandCompletion.CompleteInput(text, cursor, options: null, ps);
        if (result.CompletionMatches.Count == 0 || result.ReplacementIndex < 0)
        {
            return null;
        }
        var matches = result.CompletionMatches.Select(m => (m.CompletionText, m.ListItemText)).ToList();
        return new Completion(result.ReplacementIndex, result.ReplacementLength, matches);
    }
}
