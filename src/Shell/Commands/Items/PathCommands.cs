using System.Management.Automation;
using VirtPS.Shell.Commands.Support;

namespace VirtPS.Shell.Commands.Items;

/// <summary>Join-Path.</summary>
[Cmdlet(VerbsCommon.Join, "Path")]
[OutputType(typeof(string))]
public sealed class JoinPathCommand : ProviderCommand
{
    [Alias("PSPath")]
    [Parameter(Position = 0, Mandatory = true, ValueFromPipeline = true, ValueFromPipelineByPropertyName = true)]
    public string[] Path { get; set; } = [];

    [AllowNull]
    [AllowEmptyString]
    [AllowEmptyCollection]
    [Parameter(Position = 1, Mandatory = true, ValueFromPipelineByPropertyName = true)]
    public string[] ChildPath { get; set; } = [];

    [AllowNull]
    [AllowEmptyString]
    [AllowEmptyCollection]
    [Parameter(Position = 2, ValueFromPipelineByPropertyName = true, ValueFromRemainingArguments = true)]
    public string[] AdditionalChildPath { get; set; } = [];

    [Parameter]
    public SwitchParameter Resolve { get; set; }

    protected override void ProcessRecord()
    {
        foreach (string path in Path)
        {
            string? joined = path;
            Guard(() =>
            {
                foreach (string child in (ChildPath ?? []).Concat(AdditionalChildPath ?? []))
                {
                    joined = SessionState.Path.Combine(joined, child ?? "");
                }
                if (Resolve)
                {
                    foreach (PathInfo found in ResolvePaths(joined))
                    {
                        WriteObject(found.Path);
                    }
                }
                else
                {
                    WriteObject(joined);
                }
            });
        }
    }
}

/// <summary>Split-Path.</summary>
[Cmdlet(VerbsCommon.Split, "Path", DefaultParameterSetName = "ParentSet")]
[OutputType(typeof(string), typeof(bool))]
public sealed class SplitPathCommand : ProviderCommand
{
    private string[] _paths = [];
    private bool _literal;

    [Parameter(Position = 0, Mandatory = true, ValueFromPipeline = true, ValueFromPipelineByPropertyName = true, ParameterSetName = "ParentSet")]
    [Parameter(Position = 0, Mandatory = true, ValueFromPipeline = true, ValueFromPipelineByPropertyName = true, ParameterSetName = "LeafSet")]
    [Parameter(Position = 0, Mandatory = true, ValueFromPipeline = true, ValueFromPipelineByPropertyName = true, ParameterSetName = "LeafBaseSet")]
    [Parameter(Position = 0, Mandatory = true, ValueFromPipeline = true, ValueFromPipelineByPropertyName = true, ParameterSetName = "ExtensionSet")]
    [Parameter(Position = 0, Mandatory = true, ValueFromPipeline = true, ValueFromPipelineByPropertyName = true, ParameterSetName = "QualifierSet")]
    [Parameter(Position = 0, Mandatory = true, ValueFromPipeline = true, ValueFromPipelineByPropertyName = true, ParameterSetName = "NoQualifierSet")]
    [Parameter(Position = 0, Mandatory = true, ValueFromPipeline = true, ValueFromPipelineByPropertyName = true, ParameterSetName = "IsAbsoluteSet")]
    public string[] Path
    {
        get => _paths;
        set => _paths = value;
    }

    [Alias("PSPath", "LP")]
    [Parameter(Mandatory = true, ValueFromPipelineByPropertyName = true, ParameterSetName = "LiteralPathSet")]
    public string[] LiteralPath
    {
        get => _paths;
        set => (_paths, _literal) = (value, true);
    }

    [Parameter(ParameterSetName = "ParentSet")]
    public SwitchParameter Parent { get; set; }

    [Parameter(Mandatory = true, ParameterSetName = "LeafSet")]
    public SwitchParameter Leaf { get; set; }

    [Parameter(Mandatory = true, ParameterSetName = "LeafBaseSet")]
    public SwitchParameter LeafBase { get; set; }

    [Parameter(Mandatory = true, ParameterSetName = "ExtensionSet")]
    public SwitchParameter Extension { get; set; }

    [Parameter(Mandatory = true, ParameterSetName = "QualifierSet")]
    public SwitchParameter Qualifier { get; set; }

    [Parameter(Mandatory = true, ParameterSetName = "NoQualifierSet")]
    public SwitchParameter NoQualifier { get; set; }

    [Parameter(Mandatory = true, ParameterSetName = "IsAbsoluteSet")]
    public SwitchParameter IsAbsolute { get; set; }

    [Parameter]
    public SwitchParameter Resolve { get; set; }

    private protected override bool IsLiteral => _literal;

    protected override void ProcessRecord()
    {
        foreach (string given in _paths)
        {
            IEnumerable<string> paths = Resolve ? ResolvePaths(given).Select(p => p.Path) : [given];
            foreach (string path in paths)
            {
                Guard(() => Split(path));
            }
        }
    }

    private void Split(string path)
    {
        PathIntrinsics engine = SessionState.Path;
        if (IsAbsolute)
        {
            WriteObject(engine.IsPSAbsolute(path, out _));
        }
        else if (Qualifier || NoQualifier)
        {
            SplitQualifier(path);
        }
        else if (Leaf || LeafBase || Extension)
        {
            string leaf = engine.ParseChildName(path);
            int dot = leaf.LastIndexOf('.');
            WriteObject(Leaf || dot < 0 ? (Extension ? "" : leaf) : LeafBase ? leaf[..dot] : leaf[dot..]);
        }
        else
        {
            WriteObject(engine.ParseParent(path, ""));
        }
    }

    private void SplitQualifier(string path)
    {
        int separator = path.IndexOf("::", StringComparison.Ordinal);
        int end = separator >= 0 ? separator + 2 : path.IndexOf(':', StringComparison.Ordinal) + 1;
        if (NoQualifier)
        {
            WriteObject(path[end..]);
        }
        else if (end > 0)
        {
            WriteObject(path[..end]);
        }
        else
        {
            WriteError(new ErrorRecord(
                new FormatException($"Cannot parse path because path '{path}' does not have a qualifier specified."),
                "ParsePathFormatError", ErrorCategory.InvalidArgument, path));
        }
    }
}

/// <summary>Test-Path.</summary>
[Cmdlet(VerbsDiagnostic.Test, "Path", DefaultParameterSetName = "Path")]
[OutputType(typeof(bool))]
public sealed class TestPathCommand : ProviderCommand
{
    private string[]? _paths;
    private bool _literal;

    [AllowNull]
    [AllowEmptyCollection]
    [AllowEmptyString]
    [Parameter(Position = 0, ParameterSetName = "Path", Mandatory = true, ValueFromPipeline = true, ValueFromPipelineByPropertyName = true)]
    public string[]? Path
    {
        get => _paths;
        set => (_paths, _literal) = (value, false);
    }

    [AllowNull]
    [AllowEmptyCollection]
    [AllowEmptyString]
    [Alias("PSPath", "LP")]
    [Parameter(ParameterSetName = "LiteralPath", Mandatory = true, ValueFromPipelineByPropertyName = true)]
    public string[]? LiteralPath
    {
        get => _paths;
        set => (_paths, _literal) = (value, true);
    }

    [Parameter]
    public string? Filter { get; set; }

    [Parameter]
    public string[]? Include { get; set; }

    [Parameter]
    public string[]? Exclude { get; set; }

    [Alias("Type")]
    [Parameter]
    public Microsoft.PowerShell.Commands.TestPathType PathType { get; set; } = Microsoft.PowerShell.Commands.TestPathType.Any;

    [Parameter]
    public SwitchParameter IsValid { get; set; }

    [Parameter]
    public DateTime? OlderThan { get; set; }

    [Parameter]
    public DateTime? NewerThan { get; set; }

    private protected override bool IsLiteral => _literal;
    private protected override string[]? IncludePatterns => Include;
    private protected override string[]? ExcludePatterns => Exclude;
    private protected override string? FilterText => Filter;

    protected override void ProcessRecord()
    {
        if (_paths is null || _paths.Length == 0)
        {
            WriteError(new ErrorRecord(new ArgumentNullException("Path", "Value cannot be null."), "NullPathNotPermitted", ErrorCategory.InvalidArgument, null));
            return;
        }
        foreach (string? path in _paths)
        {
            WriteObject(!string.IsNullOrWhiteSpace(path) && Test(path));
        }
    }

    private bool Test(string path)
    {
        try
        {
            object context = NewContext();
            if (IsValid)
            {
                return (bool)Internals.Call(SessionState.Path, "IsValid", path, context)!;
            }
            bool exists = (bool)Internals.Call(Provider.Item, "Exists", path, context)!;
            if (exists && PathType != Microsoft.PowerShell.Commands.TestPathType.Any)
            {
                bool container = (bool)Internals.Call(Provider.Item, "IsContainer", path, NewContext())!;
                exists = container == (PathType == Microsoft.PowerShell.Commands.TestPathType.Container);
            }
            return exists && IsInTime(path);
        }
        catch (Exception e) when (e is SessionStateException or PSNotSupportedException or PSArgumentException or PSInvalidOperationException)
        {
            return false; // A drive or item that is not there is the answer, not an error.
        }
    }

    private bool IsInTime(string path)
    {
        if (OlderThan is null && NewerThan is null)
        {
            return true;
        }
        string file = SessionState.Path.GetUnresolvedProviderPathFromPSPath(path);
        DateTime written = File.GetLastWriteTime(file);
        return (OlderThan is null || written < OlderThan) && (NewerThan is null || written > NewerThan);
    }
}

/// <summary>Resolve-Path.</summary>
[Cmdlet(VerbsDiagnostic.Resolve, "Path", DefaultParameterSetName = "Path")]
public sealed class ResolvePathCommand : PathCommand
{
    [Parameter]
    public SwitchParameter Relative { get; set; }

    [Parameter]
    public SwitchParameter Force { get; set; }

    private protected override bool ForceProvider => Force;

    protected override void ProcessRecord()
    {
        foreach (string path in PathValues ?? [])
        {
            foreach (PathInfo found in ResolvePaths(path))
            {
                if (!Relative)
                {
                    WriteObject(found);
                    continue;
                }
                string relative = SessionState.Path.NormalizeRelativePath(found.Path, SessionState.Path.CurrentLocation.ProviderPath);
                WriteObject(relative.StartsWith("..", StringComparison.Ordinal) || System.IO.Path.IsPathRooted(relative)
                    ? relative
                    : "." + System.IO.Path.DirectorySeparatorChar + relative);
            }
        }
    }
}

/// <summary>Convert-Path.</summary>
[Cmdlet(VerbsData.Convert, "Path", DefaultParameterSetName = "Path")]
[OutputType(typeof(string))]
public sealed class ConvertPathCommand : PathCommand
{
    protected override void ProcessRecord()
    {
        foreach (string path in PathValues ?? [])
        {
            foreach (PathInfo found in ResolvePaths(path))
            {
                WriteObject(found.ProviderPath);
            }
        }
    }
}
