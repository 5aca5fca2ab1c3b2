using System.Management.Automation;
using System.Security;
using VirtPS.Shell.Commands.Support;

namespace VirtPS.Shell.Commands.Output;

/// <summary>Read-Host.</summary>
[Cmdlet(VerbsCommunications.Read, "Host", DefaultParameterSetName = "AsString")]
[OutputType(typeof(string), typeof(SecureString))]
public sealed class ReadHostCommand : PSCmdlet
{
    [AllowNull]
    [Parameter(Position = 0, ValueFromRemainingArguments = true)]
    public object? Prompt { get; set; }

    [Parameter(ParameterSetName = "AsSecureString")]
    public SwitchParameter AsSecureString { get; set; }

    [Parameter(ParameterSetName = "AsString")]
    public SwitchParameter MaskInput { get; set; }

    protected override void BeginProcessing()
    {
        if (Prompt is not null)
        {
            Host.UI.Write(PSObject.AsPSObject(Prompt) + ": ");
        }
        if (!AsSecureString && !MaskInput)
        {
            WriteObject(Host.UI.ReadLine());
            return;
        }
        SecureString secret = Host.UI.ReadLineAsSecureString();
        WriteObject(AsSecureString ? secret : new System.Net.NetworkCredential("", secret).Password);
    }
}

/// <summary>Get-Host.</summary>
[Cmdlet(VerbsCommon.Get, "Host")]
[OutputType(typeof(System.Management.Automation.Host.PSHost))]
public sealed class GetHostCommand : PSCmdlet
{
    protected override void BeginProcessing() => WriteObject(Host);
}

/// <summary>Tee-Object.</summary>
[Cmdlet("Tee", "Object", DefaultParameterSetName = "File")]
public sealed class TeeObjectCommand : PSCmdlet, IDisposable
{
    private readonly List<object?> _kept = [];
    private SteppablePipeline? _file;

    [AllowNull]
    [Parameter(ValueFromPipeline = true)]
    public PSObject? InputObject { get; set; }

    [Alias("Path")]
    [Parameter(Mandatory = true, Position = 0, ParameterSetName = "File")]
    public string? FilePath { get; set; }

    [Alias("PSPath", "LP")]
    [Parameter(Mandatory = true, ParameterSetName = "LiteralFile")]
    public string? LiteralPath { get; set; }

    [Parameter]
    public SwitchParameter Append { get; set; }

    [ArgumentToEncoding]
    [EncodingCompletions]
    [Parameter]
    public System.Text.Encoding Encoding { get; set; } = TextEncodings.Default;

    [Parameter(Mandatory = true, ParameterSetName = "Variable")]
    public string? Variable { get; set; }

    protected override void BeginProcessing()
    {
        if (Variable is not null)
        {
            return;
        }
        // The file gets formatted text: that is Out-File's work.
        ScriptBlock script = ScriptBlock.Create("param($p) Out-File @p");
        var arguments = new System.Collections.Hashtable { ["Append"] = (bool)Append, ["Encoding"] = Encoding };
        arguments[LiteralPath is null ? "FilePath" : "LiteralPath"] = LiteralPath ?? FilePath;
        _file = script.GetSteppablePipeline(CommandOrigin.Internal, [arguments]);
        _file.Begin(this);
    }

    protected override void ProcessRecord()
    {
        _kept.Add(InputObject);
        if (_file is not null)
        {
            _kept.Clear();
            _file.Process(InputObject);
        }
        WriteObject(InputObject);
    }

    protected override void EndProcessing()
    {
        _file?.End();
        if (Variable is not null)
        {
            object? value = _kept.Count == 1 ? _kept[0] : _kept.ToArray();
            if (Append && SessionState.PSVariable.GetValue(Variable) is { } before)
            {
                value = (LanguagePrimitives.GetEnumerable(before)?.Cast<object?>() ?? [before]).Concat(_kept).ToArray();
            }
            SessionState.PSVariable.Set(Variable, value);
        }
    }

    public void Dispose() => _file?.Dispose();
}
