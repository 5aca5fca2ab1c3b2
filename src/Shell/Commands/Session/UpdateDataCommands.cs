using System.Management.Automation;
using System.Management.Automation.Runspaces;
using VirtPS.Shell.Commands.Support;

namespace VirtPS.Shell.Commands.Session;

/// <summary>Update-FormatData: more views for this session.</summary>
[Cmdlet(VerbsData.Update, "FormatData", SupportsShouldProcess = true)]
public sealed class UpdateFormatDataCommand : PSCmdlet
{
    [Alias("PSPath", "Path")]
    [Parameter(Position = 0, ValueFromPipeline = true, ValueFromPipelineByPropertyName = true)]
    public string[] AppendPath { get; set; } = [];

    [Parameter]
    public string[] PrependPath { get; set; } = [];

    protected override void ProcessRecord()
    {
        InitialSessionStateEntryCollection<SessionStateFormatEntry> formats = Runspace.DefaultRunspace.InitialSessionState.Formats;
        foreach (string file in PrependPath.Reverse().SelectMany(p => FileSource.Resolve(this, p, isLiteral: false)))
        {
            var rest = formats.ToList();
            formats.Clear();
            formats.Add(new SessionStateFormatEntry(file));
            formats.Add(rest);
        }
        foreach (string file in AppendPath.SelectMany(p => FileSource.Resolve(this, p, isLiteral: false)))
        {
            formats.Add(new SessionStateFormatEntry(file));
        }
        Internals.Call(Internals.Get(Internals.Get(this, "Context")!, "InitialSessionState")!, "UpdateFormats", Internals.Get(this, "Context"), true);
    }
}

/// <summary>Update-TypeData for one dynamic member or from files.</summary>
[Cmdlet(VerbsData.Update, "TypeData", SupportsShouldProcess = true, DefaultParameterSetName = "FileSet")]
public sealed class UpdateTypeDataCommand : PSCmdlet
{
    [Alias("PSPath", "Path")]
    [Parameter(Position = 0, ValueFromPipeline = true, ValueFromPipelineByPropertyName = true, ParameterSetName = "FileSet")]
    public string[] AppendPath { get; set; } = [];

    [Parameter(ParameterSetName = "FileSet")]
    public string[] PrependPath { get; set; } = [];

    [Parameter(Mandatory = true, ParameterSetName = "DynamicTypeSet")]
    public string TypeName { get; set; } = "";

    [Parameter(ParameterSetName = "DynamicTypeSet")]
    public string? MemberName { get; set; }

    [Parameter(ParameterSetName = "DynamicTypeSet")]
    public PSMemberTypes MemberType { get; set; }

    [Parameter(ParameterSetName = "DynamicTypeSet")]
    public object? Value { get; set; }

    [Parameter(ParameterSetName = "DynamicTypeSet")]
    public object? SecondValue { get; set; }

    [Parameter(ParameterSetName = "DynamicTypeSet")]
    public string[]? DefaultDisplayPropertySet { get; set; }

    [Parameter(ParameterSetName = "DynamicTypeSet")]
    public string? DefaultDisplayProperty { get; set; }

    [Parameter(ParameterSetName = "DynamicTypeSet")]
    public string[]? DefaultKeyPropertySet { get; set; }

    [Parameter(ParameterSetName = "DynamicTypeSet")]
    public SwitchParameter Force { get; set; }

    protected override void ProcessRecord()
    {
        InitialSessionStateEntryCollection<SessionStateTypeEntry> types = Runspace.DefaultRunspace.InitialSessionState.Types;
        if (ParameterSetName == "DynamicTypeSet")
        {
            Add(types, new SessionStateTypeEntry(CreateData(), isRemove: false));
            return;
        }
        foreach (string file in PrependPath.Concat(AppendPath).SelectMany(p => FileSource.Resolve(this, p, isLiteral: false)))
        {
            Add(types, new SessionStateTypeEntry(file));
        }
    }

    private void Add(InitialSessionStateEntryCollection<SessionStateTypeEntry> types, SessionStateTypeEntry entry)
    {
        object context = Internals.Get(this, "Context")!;
        types.Add(entry);
        Internals.Call(Internals.Get(context, "InitialSessionState")!, "UpdateTypes", context, true);
    }

    private TypeData CreateData()
    {
        var data = new TypeData(TypeName) { IsOverride = Force, DefaultDisplayProperty = DefaultDisplayProperty };
        if (DefaultDisplayPropertySet is not null)
        {
            data.DefaultDisplayPropertySet = new PropertySetData(DefaultDisplayPropertySet);
        }
        if (DefaultKeyPropertySet is not null)
        {
            data.DefaultKeyPropertySet = new PropertySetData(DefaultKeyPropertySet);
        }
        if (MemberName is not null)
        {
            data.Members.Add(MemberName, CreateMember(MemberName));
        }
        return data;
    }

    private TypeMemberData CreateMember(string name)
    {
        switch (MemberType)
        {
            case PSMemberTypes.NoteProperty:
                return new NotePropertyData(name, Value);
            case PSMemberTypes.AliasProperty:
                return new AliasPropertyData(name, LanguagePrimitives.ConvertTo<string>(Value));
            case PSMemberTypes.ScriptProperty:
                return new ScriptPropertyData(name, LanguagePrimitives.ConvertTo<ScriptBlock>(Value), SecondValue is null ? null : LanguagePrimitives.ConvertTo<ScriptBlock>(SecondValue));
            case PSMemberTypes.ScriptMethod:
                return new ScriptMethodData(name, LanguagePrimitives.ConvertTo<ScriptBlock>(Value));
            default:
                ThrowTerminatingError(new ErrorRecord(
                    new InvalidOperationException($"Members of type {MemberType} cannot be added here; NoteProperty, AliasProperty, ScriptProperty and ScriptMethod can."),
                    "CannotUpdateMemberType", ErrorCategory.InvalidOperation, MemberType));
                throw new PipelineStoppedException();
        }
    }
}
