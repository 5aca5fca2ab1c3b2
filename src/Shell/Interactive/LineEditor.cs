using System.Text;

namespace VirtPS.Shell.Interactive;

/// <summary>
/// Reads one line with editing, history and completion. Our own, because RadLine 0.6 does not load with the Spectre.Console that the rest of
/// the project uses, and hands completers words where the engine wants the whole line.
/// </summary>
internal sealed class LineEditor(IEditorConsole console, CommandHistory history, ICompleter completer)
{
    private readonly EditBuffer _buffer = new();
    private LineView _view = new(console, "");
    private int _historyIndex;
    private string _draft = "";
    private Completion? _cycle;
    private int _cycleIndex;
    private int _cycleLength;
    private string? _note;

    /// <summary>True when Ctrl-C ended the last line.</summary>
    public bool WasCancelled { get; private set; }

    /// <summary>Shows the prompt and reads a line.</summary>
    /// <returns>The line; "" after Ctrl-C; null at Ctrl-D on an empty line.</returns>
    public string? ReadLine(string prompt)
    {
        _view = new LineView(console, prompt);
        _buffer.Set("");
        _historyIndex = history.Items.Count;
        _draft = "";
        _cycle = null;
        _note = null;
        WasCancelled = false;
        console.BeginLine();
        try
        {
            _view.Begin();
            _view.Draw("", 0);
            while (true)
            {
                ConsoleKeyInfo key = console.ReadKey();
                if (Finish(key) is { } end)
                {
                    _view.Draw(_buffer.Text, _buffer.Length);
                    console.Write(WasCancelled ? "^C\r\n" : "\r\n");
                    return end.Line;
                }
                Edit(key);
                if (!console.KeyAvailable)
                {
                    _view.Draw(_buffer.Text, _buffer.Cursor, _note);
                }
            }
        }
        finally
        {
            console.EndLine();
        }
    }

    private sealed record End(string? Line);

    private End? Finish(ConsoleKeyInfo key)
    {
        bool control = (key.Modifiers & ConsoleModifiers.Control) != 0;
        if (key.Key == ConsoleKey.Enter || key.KeyChar is '\r' or '\n')
        {
            if (key.Key == ConsoleKey.Enter && (key.Modifiers & (ConsoleModifiers.Shift | ConsoleModifiers.Alt)) != 0)
            {
                return null; // a newline within the text
            }
            return new End(_buffer.Text);
        }
        if (control && key.Key == ConsoleKey.C)
        {
            WasCancelled = true;
            return new End("");
        }
        return control && key.Key == ConsoleKey.D && _buffer.Length == 0 ? new End(null) : null;
    }

    private void Edit(ConsoleKeyInfo key)
    {
        _note = null;
        if (key.Key == ConsoleKey.Tab)
        {
            Complete(backwards: (key.Modifiers & ConsoleModifiers.Shift) != 0);
            return;
        }
        _cycle = null;
        if ((key.Modifiers & ConsoleModifiers.Control) != 0 && EditWithControl(key.Key))
        {
            return;
        }
        if ((key.Modifiers & ConsoleModifiers.Alt) != 0 && EditWithAlt(key.Key))
        {
            return;
        }
        switch (key.Key)
        {
            case ConsoleKey.Enter: _buffer.Insert("\n"); break;
            case ConsoleKey.Backspace: _buffer.Backspace(); break;
            case ConsoleKey.Delete: _buffer.Delete(); break;
            case ConsoleKey.LeftArrow: _buffer.MoveTo(_buffer.Cursor - 1); break;
            case ConsoleKey.RightArrow: _buffer.MoveTo(_buffer.Cursor + 1); break;
            case ConsoleKey.Home: _buffer.MoveTo(0); break;
            case ConsoleKey.End: _buffer.MoveTo(_buffer.Length); break;
            case ConsoleKey.UpArrow: MoveInHistory(-1); break;
            case ConsoleKey.DownArrow: MoveInHistory(+1); break;
            case ConsoleKey.Escape: _buffer.Set(""); break;
            default:
                if (!char.IsControl(key.KeyChar) && key.KeyChar != '\0')
                {
                    _buffer.Insert(key.KeyChar.ToString());
                }
                break;
        }
    }

    private bool EditWithControl(ConsoleKey key)
    {
        switch (key)
        {
            case ConsoleKey.A: _buffer.MoveTo(0); return true;
            case ConsoleKey.E: _buffer.MoveTo(_buffer.Length); return true;
            case ConsoleKey.B: _buffer.MoveTo(_buffer.Cursor - 1); return true;
            case ConsoleKey.F: _buffer.MoveTo(_buffer.Cursor + 1); return true;
            case ConsoleKey.D: _buffer.Delete(); return true;
            case ConsoleKey.H: _buffer.Backspace(); return true;
            case ConsoleKey.U: _buffer.DeleteTo(0); return true;
            case ConsoleKey.K: _buffer.DeleteTo(_buffer.Length); return true;
            case ConsoleKey.W or ConsoleKey.Backspace: _buffer.DeleteTo(_buffer.PreviousWord()); return true;
            case ConsoleKey.Delete: _buffer.DeleteTo(_buffer.NextWord()); return true;
            case ConsoleKey.LeftArrow: _buffer.MoveTo(_buffer.PreviousWord()); return true;
            case ConsoleKey.RightArrow: _buffer.MoveTo(_buffer.NextWord()); return true;
            case ConsoleKey.P: MoveInHistory(-1); return true;
            case ConsoleKey.N: MoveInHistory(+1); return true;
            case ConsoleKey.L:
                console.Write("\e[H\e[2J");
                _view.ForgetPosition();
                return true;
            case ConsoleKey.R: SearchHistory(); return true;
            default: return false;
        }
    }

    private bool EditWithAlt(ConsoleKey key)
    {
        switch (key)
        {
            case ConsoleKey.B: _buffer.MoveTo(_buffer.PreviousWord()); return true;
            case ConsoleKey.F: _buffer.MoveTo(_buffer.NextWord()); return true;
            case ConsoleKey.D: _buffer.DeleteTo(_buffer.NextWord()); return true;
            case ConsoleKey.Backspace: _buffer.DeleteTo(_buffer.PreviousWord()); return true;
            default: return false;
        }
    }

    private void MoveInHistory(int step)
    {
        int target = _historyIndex + step;
        if (target < 0 || target > history.Items.Count)
        {
            return;
        }
        if (_historyIndex == history.Items.Count)
        {
            _draft = _buffer.Text;
        }
        _historyIndex = target;
        _buffer.Set(target == history.Items.Count ? _draft : history.Items[target]);
    }

    /// <summary>Ctrl-R: the newest command that contains what is typed, older ones with each further Ctrl-R.</summary>
    private void SearchHistory()
    {
        string pattern = "";
        int found = history.Items.Count;
        string before = _buffer.Text;
        while (true)
        {
            _view.Draw(_buffer.Text, _buffer.Cursor, $"search: {pattern}");
            ConsoleKeyInfo key = console.ReadKey();
            bool control = (key.Modifiers & ConsoleModifiers.Control) != 0;
            if (control && key.Key is ConsoleKey.C or ConsoleKey.G || key.Key == ConsoleKey.Escape)
            {
                _buffer.Set(before);
                return;
            }
            int from = found;
            if (key.Key == ConsoleKey.Backspace)
            {
                pattern = pattern.Length > 0 ? pattern[..^1] : pattern;
                from = history.Items.Count;
            }
            else if (!control && !char.IsControl(key.KeyChar) && key.KeyChar != '\0')
            {
                pattern += key.KeyChar;
                from = Math.Min(found + 1, history.Items.Count);
            }
            else if (!(control && key.Key == ConsoleKey.R))
            {
                return; // Any other key takes what is found; Enter then runs it with a second press, after a look.
            }
            found = FindInHistory(pattern, from) ?? found;
            if (found < history.Items.Count)
            {
                _buffer.Set(history.Items[found]);
            }
        }
    }

    private int? FindInHistory(string pattern, int before)
    {
        for (int i = Math.Min(before, history.Items.Count) - 1; i >= 0; i--)
        {
            if (history.Items[i].Contains(pattern, StringComparison.OrdinalIgnoreCase))
            {
                return i;
            }
        }
        return null;
    }

    /// <summary>First Tab: the only match, or what all matches share. Next: the list. Further ones go through the matches.</summary>
    private void Complete(bool backwards)
    {
        if (_cycle is { } cycle)
        {
            int count = cycle.Matches.Count;
            _cycleIndex = ((_cycleIndex + (backwards ? -1 : 1)) % count + count) % count;
            Put(cycle, cycle.Matches[_cycleIndex].Text);
            _note = Menu(cycle, _cycleIndex);
            return;
        }
        Completion? found = completer.Complete(_buffer.Text, _buffer.Cursor);
        if (found is null)
        {
            console.Write("\a");
            return;
        }
        if (found.Matches.Count == 1)
        {
            _buffer.Replace(found.Start, found.Length, found.Matches[0].Text);
            return;
        }
        string typed = _buffer.Text.Substring(found.Start, found.Length);
        string shared = SharedPrefix(found.Matches.Select(m => m.Text));
        _cycle = found;
        _cycleLength = found.Length;
        _cycleIndex = backwards ? 0 : -1;
        if (shared.Length > typed.Length && shared.StartsWith(typed, StringComparison.OrdinalIgnoreCase))
        {
            Put(found, shared);
        }
        _note = Menu(found, -1);
    }

    private void Put(Completion completion, string text)
    {
        _buffer.Replace(completion.Start, _cycleLength, text);
        _cycleLength = text.Length;
    }

    internal static string SharedPrefix(IEnumerable<string> texts)
    {
        string? shared = null;
        foreach (string text in texts)
        {
            if (shared is null)
            {
                shared = text;
                continue;
            }
            int i = 0;
            while (i < shared.Length && i < text.Length && char.ToUpperInvariant(shared[i]) == char.ToUpperInvariant(text[i]))
            {
                i++;
            }
            shared = shared[..i];
        }
        return shared ?? "";
    }

    /// <summary>The matches in columns, at most eight rows, the chosen one in reverse.</summary>
    private string Menu(Completion completion, int chosen)
    {
        const int Rows = 8;
        int width = Math.Max(console.Width - 1, 10);
        int cell = Math.Min(completion.Matches.Max(m => m.Label.Length) + 2, width);
        int columns = Math.Max(width / cell, 1);
        int page = Rows * columns;
        int first = chosen < 0 ? 0 : chosen / page * page;
        var text = new StringBuilder();
        int last = Math.Min(first + page, completion.Matches.Count);
        for (int i = first; i < last; i++)
        {
            if (i > first && (i - first) % columns == 0)
            {
                text.Append("\r\n");
            }
            string label = completion.Matches[i].Label;
            label = label.Length > cell - 2 ? label[..Math.Max(cell - 3, 1)] + "…" : label;
            string padded = label.PadRight(cell);
            text.Append(i == chosen ? $"\e[7m{label}\e[27m{new string(' ', cell - label.Length)}" : padded);
        }
        if (completion.Matches.Count > last)
        {
            text.Append($"\r\n… {completion.Matches.Count - last} more");
        }
        return text.ToString();
    }
}
