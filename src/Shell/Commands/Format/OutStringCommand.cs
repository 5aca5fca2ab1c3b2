using System.Management.Automation;
using System.Text;
using Microsoft.PowerShell.Commands.Internal.Format;

namespace VirtPS.Shell.Commands.Format;

/// <summary>Out-String: what the formatting system would show, as text.</summary>
[Cmdlet(VerbsData.Out, "String", DefaultParameterSetName = "NoNewLineFormatting")]
[OutputType(typeof(string))]
public sealed class OutStringCommand : FrontEndCommandBase
{
    private StringWriter? _text;

    [Parameter(ParameterSetName = "StreamFormatting")]
    public SwitchParameter Stream { get; set; }

    [Parameter]
    [ValidateRange(2, int.MaxValue)]
    public int Width { get; set; }

    [Parameter(ParameterSetName = "NoNewLineFormatting")]
    public SwitchParameter NoNewline { get; set; }

    protected override void BeginProcessing()
    {
        int columns = Width > 0 ? Width : OutputWidth.Of(Host);
        TextWriter writer = Stream ? new LineCallbackWriter(line => WriteObject(line)) : _text = new StringWriter();
        if (NoNewline)
        {
            writer.NewLine = "";
        }
        EngineFormatting.UseTextOutput(this, writer, columns);
        base.BeginProcessing();
    }

    protected override void EndProcessing()
    {
        base.EndProcessing();
        if (_text is not null)
        {
            WriteObject(_text.ToString());
        }
    }
}

/// <summary>The width that text output has when its cmdlet names none.</summary>
internal static class OutputWidth
{
    public static int Of(System.Management.Automation.Host.PSHost host)
    {
        int width = host.UI?.RawUI?.BufferSize.Width ?? 0;
        return width > 1 ? width - 1 : 119;
    }
}

/// <summary>A writer that gives each finished line to a callback.</summary>
internal sealed class LineCallbackWriter(Action<string> callback) : TextWriter
{
    private readonly StringBuilder _line = new();

    public override Encoding Encoding => Encoding.Unicode;

    public override void Write(char value)
    {
        if (value == '\n')
        {
            callback(_line.ToString());
            _line.Clear();
        }
        else if (value != '\r')
        {
            _line.Append(value);
        }
    }

    public override void WriteLine(string? value)
    {
        // The formatting system writes whole lines; its callers expect one object per line.
        Write(value);
        callback(_line.ToString());
        _line.Clear();
    }
}
