using System.Collections;
using System.Management.Automation;
using System.Reflection;
using Microsoft.PowerShell.Commands;

namespace VirtPS.Shell.Commands.Objects;

/// <summary>Get-Member.</summary>
[Cmdlet(VerbsCommon.Get, "Member")]
[OutputType(typeof(MemberDefinition))]
public sealed class GetMemberCommand : PSCmdlet
{
    private readonly HashSet<string> _shown = [];
    private bool _any;

    [Parameter(ValueFromPipeline = true)]
    public PSObject? InputObject { get; set; }

    [Parameter(Position = 0)]
    public string[]? Name { get; set; }

    [Alias("Type")]
    [Parameter]
    public PSMemberTypes MemberType { get; set; } = PSMemberTypes.All;

    [Parameter]
    public PSMemberViewTypes View { get; set; } = PSMemberViewTypes.Adapted | PSMemberViewTypes.Extended;

    [Parameter]
    public SwitchParameter Static { get; set; }

    [Parameter]
    public SwitchParameter Force { get; set; }

    protected override void ProcessRecord()
    {
        if (InputObject is not { } item || item.BaseObject is null)
        {
            return;
        }
        _any = true;
        Type? type = Static ? item.BaseObject as Type ?? item.BaseObject.GetType() : null;
        string typeName = type?.FullName ?? item.TypeNames[0];
        if (!_shown.Add(typeName))
        {
            return;
        }
        IEnumerable<MemberDefinition> members = type is not null ? StaticMembers(type) : InstanceMembers(item, typeName);
        WildcardPattern[] patterns = (Name ?? ["*"]).Select(n => WildcardPattern.Get(n, WildcardOptions.IgnoreCase)).ToArray();
        foreach (MemberDefinition member in members.Where(m => patterns.Any(p => p.IsMatch(m.Name))).OrderBy(m => Rank(m.MemberType)).ThenBy(m => m.Name, StringComparer.OrdinalIgnoreCase))
        {
            WriteObject(member);
        }
    }

    private IEnumerable<MemberDefinition> InstanceMembers(PSObject item, string typeName)
    {
        IEnumerable<PSMemberInfo> members = View.HasFlag(PSMemberViewTypes.Base) ? item.Members : item.Members.Match("*", MemberType);
        foreach (PSMemberInfo member in members)
        {
            bool hidden = member.Name is "pstypenames" or "psadapted" or "psbase" or "psextended" or "psobject" or "PSStandardMembers";
            bool special = member is PSMethod && (member.Name.StartsWith("get_", StringComparison.Ordinal) || member.Name.StartsWith("set_", StringComparison.Ordinal));
            bool extended = member.IsInstance || member.MemberType is not (PSMemberTypes.Property or PSMemberTypes.Method or PSMemberTypes.Event or PSMemberTypes.ParameterizedProperty);
            if ((hidden || special) && !Force)
            {
                continue;
            }
            if ((MemberType & member.MemberType) == 0 || (View == PSMemberViewTypes.Extended && !extended) || (View == PSMemberViewTypes.Adapted && extended))
            {
                continue;
            }
            yield return new MemberDefinition(typeName, member.Name, member.MemberType, member.ToString() ?? "");
        }
    }

    private static IEnumerable<MemberDefinition> StaticMembers(Type type)
    {
        const BindingFlags Flags = BindingFlags.Public | BindingFlags.Static | BindingFlags.FlattenHierarchy;
        string name = type.FullName ?? type.Name;
        foreach (PropertyInfo p in type.GetProperties(Flags))
        {
            yield return new MemberDefinition(name, p.Name, PSMemberTypes.Property, $"static {p.PropertyType} {p.Name} {{{(p.CanRead ? "get;" : "")}{(p.CanWrite ? "set;" : "")}}}");
        }
        foreach (FieldInfo f in type.GetFields(Flags))
        {
            yield return new MemberDefinition(name, f.Name, PSMemberTypes.Property, $"static {f.FieldType} {f.Name} {{get;{(f.IsInitOnly || f.IsLiteral ? "" : "set;")}}}");
        }
        foreach (IGrouping<string, MethodInfo> overloads in type.GetMethods(Flags).Where(m => !m.IsSpecialName).GroupBy(m => m.Name))
        {
            string definition = string.Join(", ", overloads.Select(m =>
                $"static {m.ReturnType} {m.Name}({string.Join(", ", m.GetParameters().Select(q => $"{q.ParameterType} {q.Name}"))})"));
            yield return new MemberDefinition(name, overloads.Key, PSMemberTypes.Method, definition);
        }
    }

    /// <summary>The order pwsh lists kinds in: by their name, events and methods among the properties.</summary>
    private static string Rank(PSMemberTypes kind) => kind.ToString();

    protected override void EndProcessing()
    {
        if (!_any)
        {
            WriteError(new ErrorRecord(
                new InvalidOperationException("You must specify an object for the Get-Member cmdlet."), "NoObjectInGetMember", ErrorCategory.CloseError, null));
        }
    }
}

/// <summary>Add-Member.</summary>
[Cmdlet(VerbsCommon.Add, "Member", DefaultParameterSetName = "TypeNameSet")]
public sealed class AddMemberCommand : PSCmdlet
{
    [Parameter(Mandatory = true, ValueFromPipeline = true)]
    public PSObject InputObject { get; set; } = new();

    [Alias("Type")]
    [Parameter(Mandatory = true, Position = 0, ParameterSetName = "MemberSet")]
    public PSMemberTypes MemberType { get; set; }

    [Parameter(Mandatory = true, Position = 1, ParameterSetName = "MemberSet")]
    public string Name { get; set; } = "";

    [Parameter(Position = 2, ParameterSetName = "MemberSet")]
    public object? Value { get; set; }

    [Parameter(Position = 3, ParameterSetName = "MemberSet")]
    public object? SecondValue { get; set; }

    [Parameter(Mandatory = true, ParameterSetName = "TypeNameSet")]
    [Parameter(ParameterSetName = "MemberSet")]
    [Parameter(ParameterSetName = "NotePropertySingleMemberSet")]
    [Parameter(ParameterSetName = "NotePropertyMultiMemberSet")]
    public string? TypeName { get; set; }

    [Parameter]
    public SwitchParameter Force { get; set; }

    [Parameter]
    public SwitchParameter PassThru { get; set; }

    [Parameter(Mandatory = true, Position = 0, ParameterSetName = "NotePropertySingleMemberSet")]
    public string NotePropertyName { get; set; } = "";

    [AllowNull]
    [Parameter(Mandatory = true, Position = 1, ParameterSetName = "NotePropertySingleMemberSet")]
    public object? NotePropertyValue { get; set; }

    [Parameter(Mandatory = true, Position = 0, ParameterSetName = "NotePropertyMultiMemberSet")]
    public IDictionary NotePropertyMembers { get; set; } = new Hashtable();

    protected override void ProcessRecord()
    {
        switch (ParameterSetName)
        {
            case "NotePropertySingleMemberSet":
                Add(new PSNoteProperty(NotePropertyName, NotePropertyValue));
                break;
            case "NotePropertyMultiMemberSet":
                foreach (DictionaryEntry entry in NotePropertyMembers)
                {
                    Add(new PSNoteProperty(entry.Key.ToString()!, entry.Value));
                }
                break;
            case "MemberSet":
                Add(CreateMember());
                break;
        }
        if (!string.IsNullOrEmpty(TypeName))
        {
            InputObject.TypeNames.Insert(0, TypeName);
        }
        if (PassThru)
        {
            WriteObject(InputObject);
        }
    }

    private PSMemberInfo? CreateMember()
    {
        switch (MemberType)
        {
            case PSMemberTypes.NoteProperty:
                return new PSNoteProperty(Name, Value);
            case PSMemberTypes.AliasProperty:
                return SecondValue is null
                    ? new PSAliasProperty(Name, Need<string>(Value))
                    : new PSAliasProperty(Name, Need<string>(Value), Need<Type>(SecondValue));
            case PSMemberTypes.ScriptProperty:
                return new PSScriptProperty(Name, Value is null ? null : Need<ScriptBlock>(Value), SecondValue is null ? null : Need<ScriptBlock>(SecondValue));
            case PSMemberTypes.ScriptMethod:
                return new PSScriptMethod(Name, Need<ScriptBlock>(Value));
            case PSMemberTypes.CodeMethod:
                return new PSCodeMethod(Name, Need<MethodInfo>(Value));
            case PSMemberTypes.CodeProperty:
                return new PSCodeProperty(Name, Value is null ? null! : Need<MethodInfo>(Value), SecondValue is null ? null : Need<MethodInfo>(SecondValue));
            case PSMemberTypes.PropertySet:
                return new PSPropertySet(Name, Need<string[]>(Value));
            case PSMemberTypes.MemberSet:
                return Value is null ? new PSMemberSet(Name) : new PSMemberSet(Name, Need<PSMemberInfo[]>(Value));
            default:
                ThrowTerminatingError(new ErrorRecord(
                    new InvalidOperationException($"A member of type {MemberType} cannot be added."), "CannotAddMemberType", ErrorCategory.InvalidOperation, MemberType));
                return null;
        }
    }

    private static T Need<T>(object? value) => LanguagePrimitives.ConvertTo<T>(value);

    private void Add(PSMemberInfo? member)
    {
        if (member is null)
        {
            return;
        }
        if (InputObject.Members[member.Name] is { } existing)
        {
            if (!Force)
            {
                WriteError(new ErrorRecord(
                    new InvalidOperationException($"Cannot add a member with the name \"{member.Name}\" because a member with that name already exists. To overwrite the member anyway, add the Force parameter to your command."),
                    "MemberAlreadyExists", ErrorCategory.InvalidOperation, InputObject));
                return;
            }
            if (existing.IsInstance)
            {
                InputObject.Members.Remove(member.Name);
            }
        }
        InputObject.Members.Add(member);
    }
}

/// <summary>New-Object, for .NET types.</summary>
[Cmdlet(VerbsCommon.New, "Object")]
public sealed class NewObjectCommand : PSCmdlet
{
    [Parameter(Mandatory = true, Position = 0)]
    public string TypeName { get; set; } = "";

    [Alias("Args")]
    [Parameter(Position = 1)]
    public object[]? ArgumentList { get; set; }

    [Parameter]
    public IDictionary? Property { get; set; }

    protected override void BeginProcessing()
    {
        if (!LanguagePrimitives.TryConvertTo(TypeName, out Type? type) || type is null)
        {
            ThrowTerminatingError(new ErrorRecord(
                new PSArgumentException($"Cannot find type [{TypeName}]: verify that the assembly containing this type is loaded."),
                "TypeNotFound", ErrorCategory.InvalidType, TypeName));
            return;
        }
        PSObject result = Construct(type);
        foreach (DictionaryEntry entry in Property ?? new Hashtable())
        {
            SetProperty(result, entry.Key.ToString()!, entry.Value);
        }
        WriteObject(result);
    }

    private PSObject Construct(Type type)
    {
        if (ArgumentList is not { Length: > 0 } && type.IsValueType)
        {
            return PSObject.AsPSObject(Activator.CreateInstance(type)!);
        }
        try
        {
            // The language's own overload resolution: a constructor chosen by reflection would know none of its conversions.
            ScriptBlock construct = ScriptBlock.Create("param($t, $a) @{ Made = $t::new.Invoke($a) }");
            var made = (Hashtable)((PSObject)PSObject.AsPSObject(construct.InvokeReturnAsIs(type, ArgumentList ?? []))).BaseObject;
            return PSObject.AsPSObject(made["Made"]!);
        }
        catch (RuntimeException e)
        {
            ThrowTerminatingError(new ErrorRecord(e.InnerException ?? e, "ConstructorInvokedThrowException,Microsoft.PowerShell.Commands.NewObjectCommand", ErrorCategory.InvalidOperation, null));
            throw;
        }
    }

    private void SetProperty(PSObject target, string name, object? value)
    {
        if (target.Members[name] is PSMethodInfo method)
        {
            method.Invoke(value is object[] many ? many : [value!]);
            return;
        }
        if (target.Properties[name] is { } property)
        {
            property.Value = value;
            return;
        }
        if (target.BaseObject is PSCustomObject || target.BaseObject.GetType() == typeof(PSObject))
        {
            target.Properties.Add(new PSNoteProperty(name, value));
            return;
        }
        WriteError(new ErrorRecord(
            new InvalidOperationException($"The member \"{name}\" was not found for the specified object."), "InvalidOperationException", ErrorCategory.InvalidOperation, target));
    }
}
