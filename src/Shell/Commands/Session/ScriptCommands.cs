using System.Collections;
using System.Diagnostics;
using System.Management.Automation;
using System.Management.Automation.Language;
using System.Management.Automation.Runspaces;
using VirtPS.Shell.Commands.Support;

namespace VirtPS.Shell.Commands.Session;

/// <summary>Invoke-Expression.</summary>
[Cmdlet(VerbsLifecycle.Invoke, "Expression")]
public sealed class InvokeExpressionCommand : PSCmdlet
{
    [Parameter(Position = 0, Mandatory = true, ValueFromPipeline = true)]
    public string Command { get; set; } = "";

    protected override void ProcessRecord()
    {
        ScriptBlock script = InvokeCommand.NewScriptBlock(Command);
        // In the caller's scope: what the text assigns stays.
        WriteObject(InvokeCommand.InvokeScript(useLocalScope: false, script, input: null, args: null), enumerateCollection: true);
    }
}

/// <summary>Measure-Command.</summary>
[Cmdlet(VerbsDiagnostic.Measure, "Command")]
[OutputType(typeof(TimeSpan))]
public sealed class MeasureCommandCommand : PSCmdlet
{
    private readonly Stopwatch _watch = new();

    [Parameter(ValueFromPipeline = true)]
    public PSObject? InputObject { get; set; }

    [Parameter(Position = 0, Mandatory = true)]
    public ScriptBlock Expression { get; set; } = ScriptBlock.Create("");

    protected override void ProcessRecord()
    {
        var input = new List<object>();
        if (InputObject is not null)
        {
            input.Add(InputObject);
        }
        // In the caller's scope, as pwsh measures: what the block assigns is kept.
        if (InputObject is not null)
        {
            SessionState.PSVariable.Set("_", InputObject);
        }
        _watch.Start();
        InvokeCommand.InvokeScript(useLocalScope: false, Expression, input, args: null);
        _watch.Stop();
    }

    protected override void EndProcessing() => WriteObject(_watch.Elapsed);
}

/// <summary>Get-PSCallStack.</summary>
[Cmdlet(VerbsCommon.Get, "PSCallStack")]
[OutputType(typeof(CallStackFrame))]
public sealed class GetPSCallStackCommand : PSCmdlet
{
    protected override void ProcessRecord()
    {
        foreach (CallStackFrame frame in Runspace.DefaultRunspace.Debugger.GetCallStack())
        {
            WriteObject(frame);
        }
    }
}

/// <summary>Import-PowerShellDataFile.</summary>
[Cmdlet(VerbsData.Import, "PowerShellDataFile", DefaultParameterSetName = "ByPath")]
[OutputType(typeof(Hashtable))]
public sealed class ImportPowerShellDataFileCommand : PSCmdlet
{
    [Parameter(Position = 0, Mandatory = true, ParameterSetName = "ByPath")]
    public string[] Path { get; set; } = [];

    [Alias("PSPath", "LP")]
    [Parameter(Mandatory = true, ValueFromPipelineByPropertyName = true, ParameterSetName = "ByLiteralPath")]
    public string[] LiteralPath { get; set; } = [];

    [Parameter]
    public SwitchParameter SkipLimitCheck { get; set; }

    protected override void ProcessRecord()
    {
        bool literal = LiteralPath.Length > 0;
        foreach (string path in literal ? LiteralPath : Path)
        {
            foreach (string file in FileSource.Resolve(this, path, literal))
            {
                Import(file);
            }
        }
    }

    private void Import(string file)
    {
        ScriptBlockAst ast = Parser.ParseFile(file, out _, out ParseError[] errors);
        if (errors.Length > 0)
        {
            WriteError(new ErrorRecord(new ParseException(errors), "CouldNotParseAsPowerShellDataFile", ErrorCategory.InvalidData, file));
            return;
        }
        if (ast.Find(a => a is HashtableAst, searchNestedScriptBlocks: false) is not HashtableAst table)
        {
            WriteError(new ErrorRecord(
                new InvalidOperationException($"The file '{file}' holds no hashtable."), "CouldNotParseAsPowerShellDataFileNoHashtableRoot", ErrorCategory.InvalidData, file));
            return;
        }
        try
        {
            WriteObject(table.SafeGetValue());
        }
        catch (InvalidOperationException e)
        {
            WriteError(new ErrorRecord(e, "CouldNotParseAsPowerShellDataFile", ErrorCategory.InvalidData, file));
        }
    }
}

/// <summary>ConvertFrom-StringData.</summary>
[Cmdlet(VerbsData.ConvertFrom, "StringData")]
[OutputType(typeof(Hashtable))]
public sealed class ConvertFromStringDataCommand : PSCmdlet
{
    [AllowEmptyString]
    [Parameter(Position = 0, Mandatory = true, ValueFromPipeline = true)]
    public string StringData { get; set; } = "";

    [Parameter(Position = 1)]
    public char Delimiter { get; set; } = '=';

    protected override void ProcessRecord()
    {
        var table = new Hashtable(StringComparer.OrdinalIgnoreCase);
        foreach (string raw in StringData.Split('\n'))
        {
            string line = raw.Trim();
            if (line.Length == 0 || line[0] == '#')
            {
                continue;
            }
            int at = line.IndexOf(Delimiter, StringComparison.Ordinal);
            if (at <= 0)
            {
                throw new PSInvalidOperationException($"Data line '{line}' is not in 'name{Delimiter}value' format.");
            }
            string name = line[..at].Trim();
            if (!table.ContainsKey(name))
            {
                table.Add(name, System.Text.RegularExpressions.Regex.Unescape(line[(at + 1)..].Trim()));
                continue;
            }
            throw new PSInvalidOperationException($"Data item '{name}' in line '{line}' is already defined.");
        }
        WriteObject(table);
    }
}

/// <summary>Get-Error: the newest error records in full.</summary>
[Cmdlet(VerbsCommon.Get, "Error", DefaultParameterSetName = "Newest")]
public sealed class GetErrorCommand : PSCmdlet
{
    [Parameter(Position = 0, ValueFromPipeline = true, ParameterSetName = "Error")]
    public PSObject? InputObject { get; set; }

    [Alias("Last")]
    [Parameter(ParameterSetName = "Newest")]
    [ValidateRange(1, int.MaxValue)]
    public int Newest { get; set; } = 1;

    protected override void ProcessRecord()
    {
        IEnumerable<object?> errors = InputObject is not null
            ? [InputObject]
            : (SessionState.PSVariable.GetValue("error") as ArrayList ?? []).Cast<object?>().Take(Newest);
        foreach (object? error in errors)
        {
            if (error is null)
            {
                continue;
            }
            // The engine's own extended view is chosen by this type name.
            PSObject extended = PSObject.AsPSObject(error).Copy();
            extended.TypeNames.Insert(0, "System.Management.Automation.ErrorRecord#PSExtendedError");
            WriteObject(extended);
        }
    }
}
