using System.Management.Automation;
using VirtPS.Shell.Commands.Support;

namespace VirtPS.Shell.Commands.Session;

/// <summary>Get-Alias.</summary>
[Cmdlet(VerbsCommon.Get, "Alias", DefaultParameterSetName = "Default")]
[OutputType(typeof(AliasInfo))]
public sealed class GetAliasCommand : PSCmdlet
{
    [Parameter(Position = 0, ValueFromPipeline = true, ValueFromPipelineByPropertyName = true, ParameterSetName = "Default")]
    public string[] Name { get; set; } = ["*"];

    [Parameter(ParameterSetName = "Definition")]
    public string[]? Definition { get; set; }

    [Parameter]
    public string[] Exclude { get; set; } = [];

    [Parameter]
    public string? Scope { get; set; }

    protected override void ProcessRecord()
    {
        object session = Internals.Get(SessionState, "Internal")!;
        object table = Scope is null ? Internals.Call(session, "GetAliasTable")! : Internals.Call(session, "GetAliasTableAtScope", Scope)!;
        var all = ((System.Collections.IDictionary)table).Values.Cast<AliasInfo>().OrderBy(a => a.Name, StringComparer.OrdinalIgnoreCase).ToList();
        foreach (string pattern in Definition ?? Name)
        {
            var wildcard = WildcardPattern.Get(pattern, WildcardOptions.IgnoreCase);
            var found = all.Where(a => wildcard.IsMatch(Definition is null ? a.Name : a.Definition) && !Exclude.Any(e => WildcardPattern.Get(e, WildcardOptions.IgnoreCase).IsMatch(a.Name))).ToList();
            if (found.Count == 0 && !WildcardPattern.ContainsWildcardCharacters(pattern))
            {
                string by = Definition is null ? "name" : "definition";
                WriteError(new ErrorRecord(
                    new ItemNotFoundException($"This command cannot find a matching alias because an alias with the {by} '{pattern}' does not exist."),
                    "ItemNotFoundException", ErrorCategory.ObjectNotFound, pattern));
            }
            WriteObject(found, enumerateCollection: true);
        }
    }
}

/// <summary>What Set-Alias and New-Alias share.</summary>
public abstract class WriteAliasCommand : PSCmdlet
{
    [Parameter(Position = 0, Mandatory = true, ValueFromPipelineByPropertyName = true)]
    public string Name { get; set; } = "";

    [Parameter(Position = 1, Mandatory = true, ValueFromPipelineByPropertyName = true)]
    public string Value { get; set; } = "";

    [Parameter]
    public string Description { get; set; } = "";

    [Parameter]
    public ScopedItemOptions Option { get; set; }

    [Parameter]
    public SwitchParameter PassThru { get; set; }

    [Parameter]
    public string Scope { get; set; } = "Local";

    [Parameter]
    public SwitchParameter Force { get; set; }

    private protected abstract bool MayReplace { get; }

    protected override void ProcessRecord()
    {
        object session = Internals.Get(SessionState, "Internal")!;
        try
        {
            if (!MayReplace && !Force && Internals.Call(session, "GetAliasAtScope", Name, Scope) is not null)
            {
                throw new SessionStateException($"The alias is not allowed, because an alias with the name '{Name}' already exists.");
            }
            if (!ShouldProcess($"Name: {Name} Value: {Value}", MayReplace ? "Set Alias" : "New Alias"))
            {
                return;
            }
            AliasInfo alias = NewAlias();
            alias = (AliasInfo)Internals.Call(session, "SetAliasItemAtScope", alias, Scope, (bool)Force, MyInvocation.CommandOrigin)!;
            if (PassThru)
            {
                WriteObject(alias);
            }
        }
        catch (SessionStateException e)
        {
            WriteError(new ErrorRecord(e.ErrorRecord, e));
        }
    }

    private AliasInfo NewAlias()
    {
        object context = Internals.Get(this, "Context")!;
        var alias = (AliasInfo)Internals.Create(typeof(AliasInfo).Assembly, typeof(AliasInfo).FullName!, Name, Value, context, Option);
        alias.Description = Description;
        return alias;
    }
}

/// <summary>Set-Alias.</summary>
[Cmdlet(VerbsCommon.Set, "Alias", SupportsShouldProcess = true)]
[OutputType(typeof(AliasInfo))]
public sealed class SetAliasCommand : WriteAliasCommand
{
    private protected override bool MayReplace => true;
}

/// <summary>New-Alias.</summary>
[Cmdlet(VerbsCommon.New, "Alias", SupportsShouldProcess = true)]
[OutputType(typeof(AliasInfo))]
public sealed class NewAliasCommand : WriteAliasCommand
{
    private protected override bool MayReplace => false;
}

/// <summary>Remove-Alias.</summary>
[Cmdlet(VerbsCommon.Remove, "Alias")]
public sealed class RemoveAliasCommand : PSCmdlet
{
    [Parameter(Position = 0, Mandatory = true, ValueFromPipeline = true, ValueFromPipelineByPropertyName = true)]
    public string[] Name { get; set; } = [];

    [Parameter]
    public SwitchParameter Force { get; set; }

    protected override void ProcessRecord()
    {
        object session = Internals.Get(SessionState, "Internal")!;
        foreach (string name in Name)
        {
            try
            {
                if (Internals.Call(session, "GetAlias", name) is null)
                {
                    throw new ItemNotFoundException($"This command cannot find a matching alias because an alias with the name '{name}' does not exist.");
                }
                Internals.Call(session, "RemoveAlias", name, (bool)Force);
            }
            catch (SessionStateException e)
            {
                WriteError(new ErrorRecord(e.ErrorRecord, e));
            }
        }
    }
}
