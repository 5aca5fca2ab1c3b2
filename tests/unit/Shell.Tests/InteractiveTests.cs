using System.Management.Automation;
using VirtPS.Shell.Hosting;
using VirtPS.Shell.Interactive;
using Xunit;

namespace VirtPS.Shell.Tests;

/// <summary>The parts of the interactive shell, without a terminal.</summary>
public sealed class InteractiveTests
{
    private static readonly ConsoleKeyInfo s_enter = new('\r', ConsoleKey.Enter, false, false, false);
    private static readonly ConsoleKeyInfo s_tab = new('\t', ConsoleKey.Tab, false, false, false);

    private static ConsoleKeyInfo Key(ConsoleKey key, bool control = false) => new('\0', key, false, false, control);

    private static IEnumerable<ConsoleKeyInfo> Type(string text) => text.Select(c => new ConsoleKeyInfo(c, (ConsoleKey)0, false, false, false));

    private static string? Read(IEnumerable<ConsoleKeyInfo> keys, params string[] history)
    {
        string path = Path.Combine(Path.GetTempPath(), $"virtps-history-{Guid.NewGuid():n}");
        File.WriteAllLines(path, history);
        try
        {
            return new LineEditor(new ScriptedConsole(keys), CommandHistory.Load(path), new FixedCompleter()).ReadLine("> ");
        }
        finally
        {
            File.Delete(path);
        }
    }

    [Fact]
    public void Typed_text_is_the_line() => Assert.Equal("abc", Read([.. Type("abc"), s_enter]));

    [Fact]
    public void Cursor_keys_edit_in_the_middle() =>
        Assert.Equal("aXc", Read([.. Type("abc"), Key(ConsoleKey.LeftArrow), Key(ConsoleKey.Backspace), .. Type("X"), s_enter]));

    [Fact]
    public void Control_keys_delete_to_the_ends() =>
        Assert.Equal("end", Read([.. Type("start"), Key(ConsoleKey.U, control: true), .. Type("end x"), Key(ConsoleKey.Backspace), Key(ConsoleKey.Backspace), s_enter]));

    [Fact]
    public void Control_C_drops_the_line_and_control_D_ends()
    {
        Assert.Equal("", Read([.. Type("abc"), Key(ConsoleKey.C, control: true)]));
        Assert.Null(Read([Key(ConsoleKey.D, control: true)]));
    }

    [Fact]
    public void Up_and_down_walk_the_history_and_keep_the_draft()
    {
        Assert.Equal("first", Read([Key(ConsoleKey.UpArrow), Key(ConsoleKey.UpArrow), s_enter], "first", "second"));
        Assert.Equal("draft", Read([.. Type("draft"), Key(ConsoleKey.UpArrow), Key(ConsoleKey.DownArrow), s_enter], "first"));
    }

    [Fact]
    public void Control_R_finds_older_commands() =>
        Assert.Equal("Get-Item x", Read([Key(ConsoleKey.R, control: true), .. Type("item"), Key(ConsoleKey.End), s_enter], "Get-Item x", "other"));

    [Fact]
    public void Tab_inserts_the_shared_part_then_each_match()
    {
        Assert.Equal("say alp", Read([.. Type("say a"), s_tab, s_enter]));
        Assert.Equal("say alpine", Read([.. Type("say a"), s_tab, s_tab, s_tab, s_enter]));
    }

    [Fact]
    public void History_keeps_commands_of_several_lines()
    {
        string path = Path.Combine(Path.GetTempPath(), $"virtps-history-{Guid.NewGuid():n}");
        CommandHistory history = CommandHistory.Load(path);
        history.Add("if (1) {\n'\\n'\n}");
        history.Add(" secret");
        Assert.Equal(["if (1) {\n'\\n'\n}"], CommandHistory.Load(path).Items);
        File.Delete(path);
    }

    [Theory]
    [InlineData("if ($true) {", true)]
    [InlineData("'open", true)]
    [InlineData("1 |", true)]
    [InlineData("1 + 1", false)]
    [InlineData("1 + )", false)]
    public void Open_statements_ask_for_more(string text, bool expected) => Assert.Equal(expected, ReadEvalPrintLoop.IsIncomplete(text));

    [Fact]
    public void Progress_is_drawn_at_most_four_times_a_second()
    {
        using var output = new StringWriter();
        var pane = new ProgressPane(output, () => 80);
        var watch = System.Diagnostics.Stopwatch.StartNew();
        for (int i = 0; i < 2000; i++)
        {
            pane.Update(new ProgressRecord(1, "work", "status") { PercentComplete = i % 100 });
        }
        int allowed = 1 + (int)(watch.Elapsed.TotalMilliseconds / 250);
        Assert.InRange(pane.DrawCount, 1, allowed);
        Assert.Contains("work", output.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public void Script_arguments_keep_numbers_that_begin_with_a_dash()
    {
        var parsed = ShellSession.ScriptArguments(["-5", "-Name:x", "-Flag", "-On:$false"]).ToList();
        Assert.Equal("-5", parsed[0].Value);
        Assert.Equal(("-Name:", "x"), (parsed[1].Name, (string)parsed[1].Value));
        Assert.Equal("-Flag", parsed[2].Name);
        Assert.Equal(false, parsed[3].Value);
    }

    [Fact]
    public void Completion_knows_paths_parameters_and_commands()
    {
        using var runspace = System.Management.Automation.Runspaces.RunspaceFactory.CreateRunspace(SessionCommands.CreateState());
        runspace.Open();
        var completer = new CommandCompleter(runspace);
        string folder = Path.Combine(Path.GetTempPath(), $"virtps-complete-{Guid.NewGuid():n}");
        Directory.CreateDirectory(Path.Combine(folder, "inner"));
        string half = $"Get-Item {folder}/inn";
        Assert.Equal(Path.Combine(folder, "inner"), Assert.Single(completer.Complete(half, half.Length)!.Matches).Text);
        Assert.Equal("-Recurse", Assert.Single(completer.Complete("Get-ChildItem -Rec", 18)!.Matches).Text);
        Assert.Contains(completer.Complete("Sort-Ob", 7)!.Matches, m => m.Text == "Sort-Object");
        Directory.Delete(folder, recursive: true);
    }

    private sealed class FixedCompleter : ICompleter
    {
        public Completion? Complete(string text, int cursor)
        {
            int start = text.LastIndexOf(' ') + 1;
            return new Completion(start, cursor - start, [("alpha", "alpha"), ("alpine", "alpine")]);
        }
    }

    private sealed class ScriptedConsole(IEnumerable<ConsoleKeyInfo> keys) : IEditorConsole
    {
        private readonly Queue<ConsoleKeyInfo> _keys = new(keys);

        public int Width => 80;
        public bool KeyAvailable => false;
        public ConsoleKeyInfo ReadKey() => _keys.Dequeue();
        public void Write(string text) => Assert.NotNull(text);

        public void BeginLine()
        {
        }

        public void EndLine()
        {
        }
    }
}
