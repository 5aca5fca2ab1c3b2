using System.Globalization;
using System.Management.Automation.Internal;
using System.Text;

namespace VirtPS.Shell.Interactive;

/// <summary>Draws prompt and text on the terminal, over as many rows as they take, with relative cursor movement only.</summary>
internal sealed class LineView(IEditorConsole console, string prompt)
{
    private readonly string _lastPromptLine = prompt[(prompt.LastIndexOf('\n') + 1)..];
    private int _cursorRow;

    /// <summary>Writes what of the prompt is above its last line; done once.</summary>
    public void Begin()
    {
        int end = prompt.LastIndexOf('\n') + 1;
        if (end > 0)
        {
            console.Write(prompt[..end]);
        }
    }

    /// <summary>Draws everything anew.</summary>
    public void Draw(string text, int cursor, string? note = null)
    {
        int width = Math.Max(console.Width, 2);
        int promptWidth = new StringDecorated(_lastPromptLine).ContentLength;
        (int endRow, int endColumn) = Locate(text, text.Length, promptWidth, width);
        (int row, int column) = Locate(text, cursor, promptWidth, width);
        var output = new StringBuilder("\e[?25l");
        if (_cursorRow > 0)
        {
            output.Append($"\e[{_cursorRow}A");
        }
        output.Append("\r\e[J").Append(_lastPromptLine).Append(text.Replace("\n", "\r\n", StringComparison.Ordinal));
        if (endColumn == 0 && endRow > 0 && !text.EndsWith('\n'))
        {
            output.Append(" \r"); // A full row leaves the cursor pending at its end: make the terminal wrap.
        }
        if (note is not null)
        {
            output.Append("\r\n").Append(note);
            endRow += 1 + note.AsSpan().Count('\n');
        }
        if (endRow > row)
        {
            output.Append($"\e[{endRow - row}A");
        }
        output.Append('\r');
        if (column > 0)
        {
            output.Append($"\e[{column}C");
        }
        output.Append("\e[?25h");
        console.Write(output.ToString());
        _cursorRow = row;
    }

    /// <summary>The screen was cleared: the prompt now stands in the first row.</summary>
    public void ForgetPosition() => _cursorRow = 0;

    private static (int Row, int Column) Locate(string text, int index, int startColumn, int width)
    {
        int row = startColumn / width;
        int column = startColumn % width;
        foreach (Rune rune in text[..index].EnumerateRunes())
        {
            if (rune.Value == '\n')
            {
                row++;
                column = 0;
                continue;
            }
            int cells = Cells(rune);
            if (column + cells > width)
            {
                row++;
                column = 0;
            }
            column += cells;
            if (column == width)
            {
                row++;
                column = 0;
            }
        }
        return (row, column);
    }

    /// <summary>Terminal cells a character takes: 0 combining, 2 wide East Asian and emoji, else 1.</summary>
    private static int Cells(Rune rune)
    {
        UnicodeCategory category = Rune.GetUnicodeCategory(rune);
        if (category is UnicodeCategory.NonSpacingMark or UnicodeCategory.EnclosingMark or UnicodeCategory.Format)
        {
            return 0;
        }
        int v = rune.Value;
        bool wide = v is (>= 0x1100 and <= 0x115F) or (>= 0x2E80 and <= 0xA4CF) or (>= 0xAC00 and <= 0xD7A3) or (>= 0xF900 and <= 0xFAFF)
            or (>= 0xFE30 and <= 0xFE6F) or (>= 0xFF00 and <= 0xFF60) or (>= 0xFFE0 and <= 0xFFE6) or (>= 0x1F300 and <= 0x1FAFF) or (>= 0x20000 and <= 0x3FFFD);
        return wide ? 2 : 1;
    }
}
