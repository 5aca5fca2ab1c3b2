using System.Collections.ObjectModel;
using System.Management.Automation;
using VirtPS.Shell.Commands.Support;

namespace VirtPS.Shell.Commands.Items;

/// <summary>Get-ItemProperty.</summary>
[Cmdlet(VerbsCommon.Get, "ItemProperty", DefaultParameterSetName = "Path")]
public sealed class GetItemPropertyCommand : FilteredPathCommand
{
    [Alias("PSProperty")]
    [Parameter(Position = 1)]
    public string[] Name { get; set; } = [];

    protected override void ProcessRecord()
    {
        foreach (string path in PathValues ?? [])
        {
            Guard(() => Internals.Call(Provider.Property, "Get", path, new Collection<string>(Name), NewContext()));
        }
    }
}

/// <summary>Get-ItemPropertyValue.</summary>
[Cmdlet(VerbsCommon.Get, "ItemPropertyValue", DefaultParameterSetName = "Path")]
public sealed class GetItemPropertyValueCommand : FilteredPathCommand
{
    [Alias("PSProperty")]
    [Parameter(Position = 1, Mandatory = true)]
    public string[] Name { get; set; } = [];

    [Parameter(Position = 0, ParameterSetName = "Path", ValueFromPipeline = true, ValueFromPipelineByPropertyName = true)]
    public override string[] Path
    {
        get => base.Path;
        set => base.Path = value;
    }

    protected override void ProcessRecord()
    {
        foreach (string path in PathValues ?? ["."])
        {
            Guard(() =>
            {
                foreach (PSObject item in Provider.Property.Get([path], new Collection<string>(Name), IsLiteral))
                {
                    foreach (string name in Name)
                    {
                        WriteObject(item.Properties[name]?.Value);
                    }
                }
            });
        }
    }
}

/// <summary>Set-ItemProperty.</summary>
[Cmdlet(VerbsCommon.Set, "ItemProperty", DefaultParameterSetName = "Path", SupportsShouldProcess = true)]
public sealed class SetItemPropertyCommand : FilteredPathCommand
{
    [Alias("PSProperty")]
    [Parameter(Position = 1, Mandatory = true, ValueFromPipelineByPropertyName = true)]
    public string Name { get; set; } = "";

    [AllowNull]
    [Parameter(Position = 2, Mandatory = true, ValueFromPipelineByPropertyName = true)]
    public object? Value { get; set; }

    [Parameter]
    public SwitchParameter PassThru { get; set; }

    protected override void ProcessRecord()
    {
        foreach (string path in PathValues ?? [])
        {
            var values = new PSObject();
            values.Properties.Add(new PSNoteProperty(Name, Value));
            Guard(() => Internals.Call(Provider.Property, "Set", path, values, NewContext(PassThru)));
        }
    }
}

/// <summary>Get-PSDrive.</summary>
[Cmdlet(VerbsCommon.Get, "PSDrive", DefaultParameterSetName = "Name")]
[OutputType(typeof(PSDriveInfo))]
public sealed class GetPSDriveCommand : PSCmdlet
{
    [Parameter(Position = 0, ParameterSetName = "Name", ValueFromPipelineByPropertyName = true)]
    public string[] Name { get; set; } = ["*"];

    [Parameter(ValueFromPipelineByPropertyName = true)]
    public string[]? PSProvider { get; set; }

    protected override void ProcessRecord()
    {
        foreach (string name in Name)
        {
            var pattern = WildcardPattern.Get(name, WildcardOptions.IgnoreCase);
            var found = SessionState.Drive.GetAll()
                .Where(d => pattern.IsMatch(d.Name) && (PSProvider is null || PSProvider.Contains(d.Provider.Name, StringComparer.OrdinalIgnoreCase)))
                .OrderBy(d => d.Name, StringComparer.OrdinalIgnoreCase).ToList();
            if (found.Count == 0 && !WildcardPattern.ContainsWildcardCharacters(name))
            {
                WriteError(new ErrorRecord(
                    new System.Management.Automation.DriveNotFoundException($"Cannot find drive. A drive with the name '{name}' does not exist."),
                    "GetLocationNoMatchingDrive", ErrorCategory.ObjectNotFound, name));
            }
            WriteObject(found, enumerateCollection: true);
        }
    }
}

/// <summary>New-PSDrive.</summary>
[Cmdlet(VerbsCommon.New, "PSDrive", SupportsShouldProcess = true)]
[OutputType(typeof(PSDriveInfo))]
public sealed class NewPSDriveCommand : PSCmdlet
{
    [Parameter(Position = 0, Mandatory = true)]
    public string Name { get; set; } = "";

    [Parameter(Position = 1, Mandatory = true)]
    public string PSProvider { get; set; } = "";

    [AllowEmptyString]
    [Parameter(Position = 2, Mandatory = true)]
    public string Root { get; set; } = "";

    [Parameter]
    public string Description { get; set; } = "";

    [Parameter]
    public string Scope { get; set; } = "Local";

    protected override void ProcessRecord()
    {
        try
        {
            ProviderInfo provider = SessionState.Provider.GetOne(PSProvider);
            if (ShouldProcess($"Name: {Name} Provider: {PSProvider} Root: {Root}", "New drive"))
            {
                WriteObject(SessionState.Drive.New(new PSDriveInfo(Name, provider, Root, Description, credential: null), Scope));
            }
        }
        catch (SessionStateException e)
        {
            WriteError(new ErrorRecord(e.ErrorRecord, e));
        }
    }
}

/// <summary>Remove-PSDrive.</summary>
[Cmdlet(VerbsCommon.Remove, "PSDrive", SupportsShouldProcess = true)]
public sealed class RemovePSDriveCommand : PSCmdlet
{
    [Parameter(Position = 0, Mandatory = true, ValueFromPipelineByPropertyName = true)]
    public string[] Name { get; set; } = [];

    [Parameter]
    public string Scope { get; set; } = "Local";

    [Parameter]
    public SwitchParameter Force { get; set; }

    protected override void ProcessRecord()
    {
        foreach (string name in Name)
        {
            try
            {
                if (ShouldProcess("Name: " + name, "Remove drive"))
                {
                    SessionState.Drive.Remove(name, Force, Scope);
                }
            }
            catch (SessionStateException e)
            {
                WriteError(new ErrorRecord(e.ErrorRecord, e));
            }
        }
    }
}
