using System.Collections;
using System.Management.Automation;
using System.Text;
using VirtPS.Shell.Commands.Support;

namespace VirtPS.Shell.Commands.Output;

/// <summary>Write-Output.</summary>
[Cmdlet(VerbsCommunications.Write, "Output")]
public sealed class WriteOutputCommand : PSCmdlet
{
    [AllowNull]
    [AllowEmptyCollection]
    [Parameter(Position = 0, Mandatory = true, ValueFromPipeline = true, ValueFromRemainingArguments = true)]
    public PSObject InputObject { get; set; } = new();

    [Parameter]
    public SwitchParameter NoEnumerate { get; set; }

    protected override void ProcessRecord()
    {
        if (InputObject is null)
        {
            WriteObject(null);
            return;
        }
        WriteObject(InputObject, enumerateCollection: !NoEnumerate);
    }
}

/// <summary>Write-Host: an information record that the host shows at once.</summary>
[Cmdlet(VerbsCommunications.Write, "Host")]
public sealed class WriteHostCommand : PSCmdlet
{
    [Alias("Msg", "Message")]
    [Parameter(Position = 0, ValueFromRemainingArguments = true, ValueFromPipeline = true)]
    public object? Object { get; set; }

    [Parameter]
    public SwitchParameter NoNewline { get; set; }

    [Parameter]
    public object Separator { get; set; } = " ";

    [Parameter]
    public ConsoleColor ForegroundColor { get; set; } = (ConsoleColor)(-1);

    [Parameter]
    public ConsoleColor BackgroundColor { get; set; } = (ConsoleColor)(-1);

    protected override void ProcessRecord()
    {
        var message = new HostInformationMessage
        {
            Message = Text(Object),
            NoNewLine = NoNewline,
        };
        if (Enum.IsDefined(ForegroundColor))
        {
            message.ForegroundColor = ForegroundColor;
        }
        if (Enum.IsDefined(BackgroundColor))
        {
            message.BackgroundColor = BackgroundColor;
        }
        if (message.ForegroundColor is null != message.BackgroundColor is null)
        {
            message.ForegroundColor ??= Host.UI.RawUI.ForegroundColor;
            message.BackgroundColor ??= Host.UI.RawUI.BackgroundColor;
        }
        WriteInformation(message, ["PSHOST"]);
    }

    private string Text(object? value)
    {
        switch (value is PSObject { BaseObject: not PSCustomObject } wrapped ? wrapped.BaseObject : value)
        {
            case null:
                return "";
            case string text:
                return text;
            case System.Xml.XmlNode node:
                return node.Name;
            case IEnumerable list:
                var joined = new StringBuilder();
                string separator = PSObject.AsPSObject(Separator).ToString() ?? "";
                bool first = true;
                foreach (object? item in list)
                {
                    joined.Append(first ? "" : separator).Append(Text(item));
                    first = false;
                }
                return joined.ToString();
            default:
                return PSObject.AsPSObject(value!).ToString() ?? "";
        }
    }
}

/// <summary>Write-Error.</summary>
[Cmdlet(VerbsCommunications.Write, "Error", DefaultParameterSetName = "NoException")]
public sealed class WriteErrorCommand : PSCmdlet
{
    [Parameter(ParameterSetName = "WithException", Mandatory = true, Position = 0)]
    public Exception? Exception { get; set; }

    [AllowNull]
    [AllowEmptyString]
    [Alias("Msg")]
    [Parameter(ParameterSetName = "NoException", Mandatory = true, Position = 0, ValueFromPipeline = true)]
    [Parameter(ParameterSetName = "WithException")]
    public string? Message { get; set; }

    [Parameter(ParameterSetName = "ErrorRecord", Mandatory = true, Position = 0)]
    public ErrorRecord? ErrorRecord { get; set; }

    [Parameter(ParameterSetName = "NoException")]
    [Parameter(ParameterSetName = "WithException")]
    public ErrorCategory Category { get; set; } = ErrorCategory.NotSpecified;

    [Parameter(ParameterSetName = "NoException")]
    [Parameter(ParameterSetName = "WithException")]
    public string ErrorId { get; set; } = "";

    [Parameter(ParameterSetName = "NoException")]
    [Parameter(ParameterSetName = "WithException")]
    public object? TargetObject { get; set; }

    [Parameter]
    public string RecommendedAction { get; set; } = "";

    [Alias("Activity")]
    [Parameter]
    public string CategoryActivity { get; set; } = "";

    [Alias("Reason")]
    [Parameter]
    public string CategoryReason { get; set; } = "";

    [Alias("TargetName")]
    [Parameter]
    public string CategoryTargetName { get; set; } = "";

    [Alias("TargetType")]
    [Parameter]
    public string CategoryTargetType { get; set; } = "";

    protected override void ProcessRecord()
    {
        ErrorRecord record = CreateRecord();
        if (RecommendedAction.Length > 0)
        {
            record.ErrorDetails ??= new ErrorDetails(record.Exception?.Message ?? "");
            record.ErrorDetails.RecommendedAction = RecommendedAction;
        }
        ErrorCategoryInfo category = record.CategoryInfo;
        category.Activity = CategoryActivity.Length > 0 ? CategoryActivity : category.Activity;
        category.Reason = CategoryReason.Length > 0 ? CategoryReason : category.Reason;
        category.TargetName = CategoryTargetName.Length > 0 ? CategoryTargetName : category.TargetName;
        category.TargetType = CategoryTargetType.Length > 0 ? CategoryTargetType : category.TargetType;
        if (GetVariableValue("MyInvocation") is InvocationInfo caller)
        {
            // The error is the calling function's, not Write-Error's: it carries that position.
            Internals.Call(record, "SetInvocationInfo", caller);
            Internals.Set(record, "PreserveInvocationInfoOnce", true);
            category.Activity = CategoryActivity.Length > 0 ? CategoryActivity : "Write-Error";
        }
        WriteError(record);
    }

    private ErrorRecord CreateRecord()
    {
        if (ErrorRecord is not null)
        {
            return new ErrorRecord(ErrorRecord, null);
        }
        Exception exception = Exception ?? new Microsoft.PowerShell.Commands.WriteErrorException(Message ?? "");
        var record = new ErrorRecord(exception, ErrorId.Length > 0 ? ErrorId : exception.GetType().FullName, Category, TargetObject);
        if (Exception is not null && !string.IsNullOrEmpty(Message))
        {
            record.ErrorDetails = new ErrorDetails(Message);
        }
        return record;
    }
}

/// <summary>Base of the cmdlets that write one message to one stream.</summary>
public abstract class WriteMessageCommand : PSCmdlet
{
    [AllowNull]
    [AllowEmptyString]
    [Alias("Msg")]
    [Parameter(Position = 0, Mandatory = true, ValueFromPipeline = true)]
    public string Message { get; set; } = "";
}

/// <summary>Write-Warning.</summary>
[Cmdlet(VerbsCommunications.Write, "Warning")]
public sealed class WriteWarningCommand : WriteMessageCommand
{
    protected override void ProcessRecord() => WriteWarning(Message ?? "");
}

/// <summary>Write-Verbose.</summary>
[Cmdlet(VerbsCommunications.Write, "Verbose")]
public sealed class WriteVerboseCommand : WriteMessageCommand
{
    protected override void ProcessRecord() => WriteVerbose(Message ?? "");
}

/// <summary>Write-Debug.</summary>
[Cmdlet(VerbsCommunications.Write, "Debug")]
public sealed class WriteDebugCommand : WriteMessageCommand
{
    protected override void ProcessRecord() => WriteDebug(Message ?? "");
}

/// <summary>Write-Information.</summary>
[Cmdlet(VerbsCommunications.Write, "Information")]
public sealed class WriteInformationCommand : PSCmdlet
{
    [AllowNull]
    [Alias("Msg", "Message")]
    [Parameter(Position = 0, Mandatory = true, ValueFromPipeline = true)]
    public object MessageData { get; set; } = "";

    [Parameter(Position = 1)]
    public string[] Tags { get; set; } = [];

    protected override void ProcessRecord() => WriteInformation(MessageData, Tags);
}

/// <summary>Write-Progress.</summary>
[Cmdlet(VerbsCommunications.Write, "Progress")]
public sealed class WriteProgressCommand : PSCmdlet
{
    [Parameter(Position = 0)]
    public string Activity { get; set; } = "";

    [Parameter(Position = 1)]
    public string Status { get; set; } = "Processing";

    [Parameter(Position = 2)]
    [ValidateRange(0, int.MaxValue)]
    public int Id { get; set; }

    [Parameter]
    [ValidateRange(-1, 100)]
    public int PercentComplete { get; set; } = -1;

    [Parameter]
    public int SecondsRemaining { get; set; } = -1;

    [Parameter]
    public string? CurrentOperation { get; set; }

    [Parameter]
    [ValidateRange(-1, int.MaxValue)]
    public int ParentId { get; set; } = -1;

    [Parameter]
    public SwitchParameter Completed { get; set; }

    [Parameter]
    public int SourceId { get; set; }

    protected override void ProcessRecord()
    {
        string activity = Activity.Length > 0 ? Activity : "Processing";
        WriteProgress(new ProgressRecord(Id, activity, string.IsNullOrEmpty(Status) ? " " : Status)
        {
            ParentActivityId = ParentId,
            PercentComplete = PercentComplete,
            SecondsRemaining = SecondsRemaining,
            CurrentOperation = CurrentOperation,
            RecordType = Completed ? ProgressRecordType.Completed : ProgressRecordType.Processing,
        });
    }
}
