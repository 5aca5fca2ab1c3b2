using System.Management.Automation;
using System.Text;
using System.Text.RegularExpressions;
using Microsoft.PowerShell.Commands;
using VirtPS.Shell.Commands.Support;

namespace VirtPS.Shell.Commands.Utility;

/// <summary>Select-String.</summary>
[Cmdlet(VerbsCommon.Select, "String", DefaultParameterSetName = "File")]
[OutputType(typeof(MatchInfo), typeof(bool), typeof(string))]
public sealed class SelectStringCommand : PSCmdlet
{
    private Regex[] _patterns = [];
    private Search? _input;
    private bool _done;

    [AllowNull]
    [AllowEmptyString]
    [Parameter(ValueFromPipeline = true, Mandatory = true, ParameterSetName = "Object")]
    public PSObject? InputObject { get; set; }

    [Parameter(Position = 0, Mandatory = true)]
    public string[] Pattern { get; set; } = [];

    [Parameter(Position = 1, Mandatory = true, ValueFromPipelineByPropertyName = true, ParameterSetName = "File")]
    public string[] Path { get; set; } = [];

    [Alias("PSPath", "LP")]
    [Parameter(Mandatory = true, ValueFromPipelineByPropertyName = true, ParameterSetName = "LiteralFile")]
    public string[] LiteralPath { get; set; } = [];

    [Parameter]
    public SwitchParameter SimpleMatch { get; set; }

    [Parameter]
    public SwitchParameter CaseSensitive { get; set; }

    [Parameter]
    public SwitchParameter Quiet { get; set; }

    [Parameter]
    public SwitchParameter Raw { get; set; }

    [Parameter]
    public SwitchParameter List { get; set; }

    [Parameter]
    public SwitchParameter NoEmphasis { get; set; }

    [Parameter]
    public string[]? Include { get; set; }

    [Parameter]
    public string[]? Exclude { get; set; }

    [Parameter]
    public SwitchParameter NotMatch { get; set; }

    [Parameter]
    public SwitchParameter AllMatches { get; set; }

    [ArgumentToEncoding]
    [EncodingCompletions]
    [Parameter]
    public Encoding Encoding { get; set; } = TextEncodings.Default;

    [Parameter]
    [ValidateCount(1, 2)]
    [ValidateRange(0, int.MaxValue)]
    public int[] Context { get; set; } = [0];

    protected override void BeginProcessing()
    {
        RegexOptions options = CaseSensitive ? RegexOptions.None : RegexOptions.IgnoreCase;
        try
        {
            _patterns = Pattern.Select(p => new Regex(SimpleMatch ? Regex.Escape(p) : p, options)).ToArray();
        }
        catch (ArgumentException e)
        {
            ThrowTerminatingError(new ErrorRecord(e, "InvalidRegex", ErrorCategory.InvalidArgument, Pattern));
        }
        _input = new Search(this, "InputStream");
    }

    protected override void ProcessRecord()
    {
        if (_done)
        {
            return;
        }
        switch (ParameterSetName)
        {
            case "Object" when InputObject?.BaseObject is FileInfo file:
                SearchFile(file.FullName);
                break;
            case "Object":
                foreach (string line in (InputObject?.ToString() ?? "").Split('\n'))
                {
                    _input!.Take(line.TrimEnd('\r'));
                }
                break;
            default:
                bool literal = ParameterSetName == "LiteralFile";
                foreach (string file in (literal ? LiteralPath : Path).SelectMany(p => FileSource.Resolve(this, p, literal)).Where(Wanted))
                {
                    SearchFile(file);
                }
                break;
        }
    }

    private bool Wanted(string file)
    {
        string name = System.IO.Path.GetFileName(file);
        bool Any(string[]? patterns) => patterns?.Any(p => WildcardPattern.Get(p, WildcardOptions.IgnoreCase).IsMatch(name)) == true;
        return !Directory.Exists(file) && (Include is null || Any(Include)) && !Any(Exclude);
    }

    private void SearchFile(string file)
    {
        using StreamReader? reader = _done ? null : FileSource.Open(this, file, Encoding);
        if (reader is null)
        {
            return;
        }
        var search = new Search(this, file);
        while (!search.Finished && !Stopping && reader.ReadLine() is { } line)
        {
            search.Take(line);
        }
        search.Flush();
    }

    protected override void EndProcessing()
    {
        _input!.Flush();
        if (Quiet && !_done)
        {
            WriteObject(false);
        }
    }

    private void Emit(MatchInfo match)
    {
        if (Quiet)
        {
            if (!_done)
            {
                _done = true;
                WriteObject(true);
            }
            return;
        }
        WriteObject(Raw ? match.Line : match);
    }

    private Match[] Find(string line, out string pattern)
    {
        foreach ((Regex regex, string text) in _patterns.Zip(Pattern))
        {
            Match[] found = AllMatches ? regex.Matches(line).ToArray() : regex.Match(line) is { Success: true } one ? [one] : [];
            if (found.Length > 0)
            {
                pattern = text;
                return found;
            }
        }
        pattern = Pattern[0];
        return [];
    }

    /// <summary>The search through one stream of lines: keeps the lines before, and fills in those after a match.</summary>
    private sealed class Search(SelectStringCommand command, string path)
    {
        private readonly Queue<string> _before = new();
        private readonly List<(MatchInfo Match, List<string> After)> _waiting = [];
        private int _line;

        private int Before => command.Context[0];
        private int After => command.Context[^1];

        public bool Finished { get; private set; }

        public void Take(string line)
        {
            _line++;
            foreach ((_, List<string> after) in _waiting)
            {
                after.Add(line);
            }
            Release(a => a.Count >= After);
            Match[] found = command.Find(line, out string pattern);
            if (found.Length > 0 != command.NotMatch)
            {
                Add(line, pattern, command.NotMatch ? [] : found);
            }
            _before.Enqueue(line);
            while (_before.Count > Before)
            {
                _before.Dequeue();
            }
        }

        private void Add(string line, string pattern, Match[] found)
        {
            var match = new MatchInfo
            {
                IgnoreCase = !command.CaseSensitive, LineNumber = _line, Line = line, Path = path, Pattern = pattern, Matches = found,
                Emphasize = !command.NoEmphasis && command.Host.UI.SupportsVirtualTerminal,
                Context = Before > 0 || After > 0 ? new MatchInfoContext { PreContext = _before.ToArray() } : null,
            };
            _waiting.Add((match, []));
            Finished = command.List || command.Quiet;
            Release(_ => After == 0);
        }

        public void Flush() => Release(_ => true);

        private void Release(Predicate<List<string>> complete)
        {
            while (_waiting.Count > 0 && complete(_waiting[0].After))
            {
                (MatchInfo match, List<string> after) = _waiting[0];
                _waiting.RemoveAt(0);
                if (match.Context is not null)
                {
                    match.Context.PostContext = after.ToArray();
                }
                command.Emit(match);
            }
        }
    }
}
