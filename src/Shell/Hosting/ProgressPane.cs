using System.Diagnostics;
using System.Management.Automation;
using System.Text;

namespace VirtPS.Shell.Hosting;

/// <summary>
/// Progress records as lines below the output. Redrawn at most four times a second, because each redraw costs the terminal more than
/// the record says. Whoever writes to the terminal hides it first. Drawn by hand: records nest, come and go by id and share the screen with
/// ordinary output, which Spectre.Console's exclusive live display does not allow.
/// </summary>
internal sealed class ProgressPane(TextWriter output, Func<int> width)
{
    private static readonly TimeSpan s_interval = TimeSpan.FromMilliseconds(250);
    private readonly List<ProgressRecord> _records = [];
    private readonly Lock _lock = new();
    private long _lastDrawn;
    private int _linesShown;

    /// <summary>How often the pane has been drawn; tests hold it to the limit.</summary>
    internal int DrawCount { get; private set; }

    /// <summary>Takes a new state of one activity.</summary>
    public void Update(ProgressRecord record)
    {
        lock (_lock)
        {
            int index = _records.FindIndex(r => r.ActivityId == record.ActivityId);
            if (record.RecordType == ProgressRecordType.Completed)
            {
                if (index >= 0)
                {
                    _records.RemoveAt(index);
                    HideLocked();
                }
                return;
            }
            if (index >= 0)
            {
                _records[index] = record;
            }
            else
            {
                _records.Add(record);
            }
            if (_lastDrawn == 0 || Stopwatch.GetElapsedTime(_lastDrawn) >= s_interval)
            {
                DrawLocked();
            }
        }
    }

    /// <summary>Takes the pane off the screen; the next update after the interval shows it again.</summary>
    public void Hide()
    {
        lock (_lock)
        {
            HideLocked();
        }
    }

    /// <summary>Forgets every activity: a pipeline has ended.</summary>
    public void Clear()
    {
        lock (_lock)
        {
            HideLocked();
            _records.Clear();
            _lastDrawn = 0;
        }
    }

    private void HideLocked()
    {
        if (_linesShown == 0)
        {
            return;
        }
        // The cursor stands just above the pane (see DrawLocked).
        output.Write("\e[J");
        output.Flush();
        _linesShown = 0;
    }

    private void DrawLocked()
    {
        var shown = _records.Take(5).ToList();
        // IND (ESC D) goes down without changing the column and scrolls at the bottom: room is made first, then the cursor is saved, so that
        // a half-written line above stays where it is.
        var text = new StringBuilder("\e[?25l\e[J");
        text.Insert(text.Length, "\eD", shown.Count).Append($"\e[{shown.Count}A\e7");
        foreach (ProgressRecord record in shown)
        {
            text.Append("\r\n\e[33m").Append(Line(record, width() - 1)).Append("\e[0m");
        }
        text.Append("\e8\e[?25h");
        output.Write(text.ToString());
        output.Flush();
        _linesShown = shown.Count;
        _lastDrawn = Stopwatch.GetTimestamp();
        DrawCount++;
    }

    private string Line(ProgressRecord record, int room)
    {
        int depth = Depth(record);
        var text = new StringBuilder().Append(' ', depth * 2).Append(record.Activity);
        if (record.PercentComplete >= 0)
        {
            const int BarWidth = 20;
            int percent = Math.Min(record.PercentComplete, 100);
            int filled = percent * BarWidth / 100;
            text.Append(" [").Append('#', filled).Append(' ', BarWidth - filled).Append(']').Append($" {percent,3}%");
        }
        if (!string.IsNullOrEmpty(record.StatusDescription))
        {
            text.Append(' ').Append(record.StatusDescription);
        }
        if (!string.IsNullOrEmpty(record.CurrentOperation))
        {
            text.Append(" - ").Append(record.CurrentOperation);
        }
        if (record.SecondsRemaining >= 0)
        {
            text.Append($" {TimeSpan.FromSeconds(record.SecondsRemaining):g} left");
        }
        string line = text.ToString().ReplaceLineEndings(" ");
        return line.Length <= room ? line : line[..Math.Max(room, 0)];
    }

    private int Depth(ProgressRecord record)
    {
        int depth = 0;
        int parent = record.ParentActivityId;
        while (parent >= 0 && depth < 4 && _records.Find(r => r.ActivityId == parent) is { } above)
        {
            depth++;
            parent = above.ParentActivityId;
        }
        return depth;
    }
}
