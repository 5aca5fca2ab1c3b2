using System.Management.Automation;
using Microsoft.PowerShell.Commands.Internal.Format;
using VirtPS.Shell.Commands.Support;

namespace VirtPS.Shell.Commands.Format;

/// <summary>Out-File, which <c>&gt;</c> and <c>&gt;&gt;</c> also use.</summary>
[Cmdlet(VerbsData.Out, "File", SupportsShouldProcess = true, DefaultParameterSetName = "ByPath")]
public sealed class OutFileCommand : FrontEndCommandBase
{
    private StreamWriter? _writer;

    [Alias("Path")]
    [Parameter(Mandatory = true, Position = 0, ParameterSetName = "ByPath")]
    public string FilePath { get; set; } = "";

    [Alias("PSPath", "LP")]
    [Parameter(Mandatory = true, ValueFromPipelineByPropertyName = true, ParameterSetName = "ByLiteralPath")]
    public string? LiteralPath { get; set; }

    [Parameter(Position = 1)]
    [ArgumentToEncoding]
    [EncodingCompletions]
    public System.Text.Encoding Encoding { get; set; } = TextEncodings.Default;

    [Parameter]
    public SwitchParameter Append { get; set; }

    [Parameter]
    public SwitchParameter Force { get; set; }

    [Alias("NoOverwrite")]
    [Parameter]
    public SwitchParameter NoClobber { get; set; }

    [Parameter]
    [ValidateRange(2, int.MaxValue)]
    public int Width { get; set; }

    [Parameter]
    public SwitchParameter NoNewline { get; set; }

    protected override void BeginProcessing()
    {
        string path = FileTarget.Resolve(this, LiteralPath ?? FilePath, isLiteral: LiteralPath is not null);
        TextWriter target = TextWriter.Null;
        if (ShouldProcess(path, "Out-File"))
        {
            target = _writer = FileTarget.Open(this, path, Encoding, Append, Force, NoClobber);
        }
        if (NoNewline && _writer is not null)
        {
            _writer.NewLine = "";
        }
        int columns = Width > 0 ? Width : OutputWidth.Of(Host);
        EngineFormatting.UseTextOutput(this, target, columns);
        base.BeginProcessing();
    }

    protected override void InternalDispose()
    {
        base.InternalDispose();
        _writer?.Dispose();
        _writer = null;
    }

    protected override void EndProcessing()
    {
        base.EndProcessing();
        _writer?.Dispose();
        _writer = null;
    }
}
