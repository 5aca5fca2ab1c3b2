using System.Text;
using System.Text.RegularExpressions;

namespace Microsoft.PowerShell.Commands;

/// <summary>Lines around a match.</summary>
public sealed class MatchInfoContext
{
    public string[] PreContext { get; internal set; } = [];
    public string[] PostContext { get; internal set; } = [];
    public string[] DisplayPreContext => PreContext;
    public string[] DisplayPostContext => PostContext;
}

/// <summary>One line that Select-String found. The engine's view for this type name shows it.</summary>
public sealed class MatchInfo
{
    public bool IgnoreCase { get; internal set; }

    /// <summary>From 1.</summary>
    public int LineNumber { get; internal set; }

    public string Line { get; internal set; } = "";
    public string Path { get; internal set; } = "InputStream";
    public string Filename => Path == "InputStream" ? Path : System.IO.Path.GetFileName(Path);
    public string Pattern { get; internal set; } = "";
    public MatchInfoContext? Context { get; internal set; }
    public Match[] Matches { get; internal set; } = [];

    internal bool Emphasize { get; set; }

    /// <summary>The path, relative to a folder where it lies in it.</summary>
    public string RelativePath(string directory) => Path == "InputStream" || !Path.StartsWith(directory.TrimEnd('/') + "/", StringComparison.Ordinal)
        ? Path
        : System.IO.Path.GetRelativePath(directory, Path);

    public override string ToString() => ToString(directory: null);

    /// <summary>Path, line number and line, with the context around them.</summary>
    public string ToString(string? directory) => Format(Line, directory);

    /// <summary>As <see cref="ToString(string)"/>, the matches in reverse where the terminal can.</summary>
    public string ToEmphasizedString(string directory)
    {
        if (!Emphasize || Matches.Length == 0)
        {
            return ToString(directory);
        }
        var text = new StringBuilder();
        int at = 0;
        foreach (Match match in Matches)
        {
            text.Append(Line, at, match.Index - at).Append("\e[7m").Append(match.Value).Append("\e[0m");
            at = match.Index + match.Length;
        }
        return Format(text.Append(Line, at, Line.Length - at).ToString(), directory);
    }

    private string Format(string line, string? directory)
    {
        string path = directory is null ? Path : RelativePath(directory);
        string Row(int number, string text, string mark) => Path == "InputStream" ? mark + text : $"{mark}{path}:{number}:{text}";
        if (Context is null)
        {
            return Row(LineNumber, line, "");
        }
        var rows = new List<string>();
        rows.AddRange(Context.PreContext.Select((t, i) => Row(LineNumber - Context.PreContext.Length + i, t, "  ")));
        rows.Add(Row(LineNumber, line, "> "));
        rows.AddRange(Context.PostContext.Select((t, i) => Row(LineNumber + 1 + i, t, "  ")));
        return string.Join(Environment.NewLine, rows);
    }
}
