using System.Management.Automation;

namespace VirtPS.Shell.Commands.Items;

/// <summary>Get-Location.</summary>
[Cmdlet(VerbsCommon.Get, "Location", DefaultParameterSetName = "Location")]
[OutputType(typeof(PathInfo), typeof(PathInfoStack))]
public sealed class GetLocationCommand : PSCmdlet
{
    [Parameter(ParameterSetName = "Location", ValueFromPipelineByPropertyName = true)]
    public string[]? PSProvider { get; set; }

    [Parameter(ParameterSetName = "Location", ValueFromPipelineByPropertyName = true)]
    public string[]? PSDrive { get; set; }

    [Parameter(ParameterSetName = "Stack")]
    public SwitchParameter Stack { get; set; }

    [Parameter(ParameterSetName = "Stack", ValueFromPipelineByPropertyName = true)]
    public string[]? StackName { get; set; }

    protected override void ProcessRecord()
    {
        PathIntrinsics path = SessionState.Path;
        if (ParameterSetName == "Stack")
        {
            foreach (string name in StackName ?? ["default"])
            {
                WriteObject(path.LocationStack(name), enumerateCollection: false);
            }
        }
        else if (PSDrive is not null)
        {
            foreach (string name in PSDrive)
            {
                PSDriveInfo drive = SessionState.Drive.Get(name);
                WriteObject(drive.Name + ":" + System.IO.Path.DirectorySeparatorChar + drive.CurrentLocation);
            }
        }
        else if (PSProvider is not null)
        {
            foreach (string name in PSProvider)
            {
                WriteObject(path.CurrentProviderLocation(name));
            }
        }
        else
        {
            WriteObject(path.CurrentLocation);
        }
    }
}

/// <summary>What Set-Location and Push-Location share.</summary>
public abstract class ChangeLocationCommand : PSCmdlet
{
    private protected string? Target { get; set; }
    private protected bool Literal { get; set; }

    [Parameter]
    public SwitchParameter PassThru { get; set; }

    private protected void Change()
    {
        try
        {
            // Without a path: home, as cd in any Unix shell and in pwsh.
            string target = string.IsNullOrEmpty(Target) ? "~" : Target;
            PathInfo there = SessionState.Path.SetLocation(Literal ? WildcardPattern.Escape(target) : target);
            if (PassThru)
            {
                WriteObject(there);
            }
        }
        catch (SessionStateException e)
        {
            WriteError(new ErrorRecord(e.ErrorRecord, e));
        }
        catch (PSArgumentException e)
        {
            WriteError(new ErrorRecord(e.ErrorRecord, e));
        }
    }
}

/// <summary>Set-Location.</summary>
[Cmdlet(VerbsCommon.Set, "Location", DefaultParameterSetName = "Path")]
[OutputType(typeof(PathInfo))]
public sealed class SetLocationCommand : ChangeLocationCommand
{
    [Parameter(Position = 0, ParameterSetName = "Path", ValueFromPipeline = true, ValueFromPipelineByPropertyName = true)]
    public string? Path
    {
        get => Target;
        set => Target = value;
    }

    [Alias("PSPath", "LP")]
    [Parameter(ParameterSetName = "LiteralPath", Mandatory = true, ValueFromPipelineByPropertyName = true)]
    public string? LiteralPath
    {
        get => Target;
        set => (Target, Literal) = (value, true);
    }

    [Parameter(ParameterSetName = "Stack", ValueFromPipelineByPropertyName = true)]
    public string? StackName { get; set; }

    protected override void ProcessRecord()
    {
        if (ParameterSetName == "Stack")
        {
            SessionState.Path.SetDefaultLocationStack(StackName ?? "");
            return;
        }
        Change();
    }
}

/// <summary>Push-Location.</summary>
[Cmdlet(VerbsCommon.Push, "Location", DefaultParameterSetName = "Path")]
[OutputType(typeof(PathInfo))]
public sealed class PushLocationCommand : ChangeLocationCommand
{
    [Parameter(Position = 0, ParameterSetName = "Path", ValueFromPipeline = true, ValueFromPipelineByPropertyName = true)]
    public string? Path
    {
        get => Target;
        set => Target = value;
    }

    [Alias("PSPath", "LP")]
    [Parameter(ParameterSetName = "LiteralPath", ValueFromPipelineByPropertyName = true)]
    public string? LiteralPath
    {
        get => Target;
        set => (Target, Literal) = (value, true);
    }

    [Parameter(ValueFromPipelineByPropertyName = true)]
    public string? StackName { get; set; }

    protected override void ProcessRecord()
    {
        SessionState.Path.PushCurrentLocation(StackName ?? "");
        if (Target is not null)
        {
            Change();
        }
    }
}

/// <summary>Pop-Location.</summary>
[Cmdlet(VerbsCommon.Pop, "Location")]
[OutputType(typeof(PathInfo))]
public sealed class PopLocationCommand : PSCmdlet
{
    [Parameter]
    public SwitchParameter PassThru { get; set; }

    [Parameter(ValueFromPipelineByPropertyName = true)]
    public string? StackName { get; set; }

    protected override void ProcessRecord()
    {
        PathInfo? there = SessionState.Path.PopLocation(StackName ?? "");
        if (PassThru && there is not null)
        {
            WriteObject(there);
        }
    }
}
