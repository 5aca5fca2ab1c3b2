using System.Management.Automation;
using VirtPS.Shell.Commands.Support;

namespace VirtPS.Shell.Commands.Session;

/// <summary>Base of the variable cmdlets: variables by name and scope. The engine's scoped access is not public.</summary>
public abstract class VariableCommand : PSCmdlet
{
    [Parameter]
    [ArgumentCompletions("Global", "Local", "Script", "0", "1", "2")]
    public string? Scope { get; set; }

    private protected object Session => Internals.Get(SessionState, "Internal")!;

    /// <summary>The variables that match, ordered by name. A name without wildcards that is not there is an error.</summary>
    private protected IReadOnlyList<PSVariable> Find(string pattern, bool reportMissing = true)
    {
        if (!WildcardPattern.ContainsWildcardCharacters(pattern))
        {
            PSVariable? variable = Scope is null
                ? SessionState.PSVariable.Get(pattern)
                : (PSVariable?)Internals.Call(SessionState.PSVariable, "GetAtScope", pattern, Scope);
            if (variable is null && reportMissing)
            {
                var missing = new ItemNotFoundException($"Cannot find a variable with the name '{pattern}'.");
                WriteError(new ErrorRecord(missing, "VariableNotFound", ErrorCategory.ObjectNotFound, pattern));
            }
            return variable is null ? [] : [variable];
        }
        var wildcard = WildcardPattern.Get(pattern, WildcardOptions.IgnoreCase);
        return All().Where(v => wildcard.IsMatch(v.Name)).OrderBy(v => v.Name, StringComparer.OrdinalIgnoreCase).ToList();
    }

    private IEnumerable<PSVariable> All()
    {
        object table = Scope is null ? Internals.Call(Session, "GetVariableTable")! : Internals.Call(Session, "GetVariableTableAtScope", Scope)!;
        return ((System.Collections.IDictionary)table).Values.Cast<PSVariable>();
    }

    /// <summary>The scope a cmdlet writes to: its caller's.</summary>
    private protected string TargetScope => Scope ?? "Local";

    private protected static bool Selected(string name, string[]? include, string[]? exclude)
    {
        static bool Any(string[]? patterns, string name) =>
            patterns?.Any(p => WildcardPattern.Get(p, WildcardOptions.IgnoreCase).IsMatch(name)) == true;
        return (include is not { Length: > 0 } || Any(include, name)) && !Any(exclude, name);
    }

    private protected void Guard(Action action)
    {
        try
        {
            action();
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

/// <summary>Get-Variable.</summary>
[Cmdlet(VerbsCommon.Get, "Variable")]
[OutputType(typeof(PSVariable))]
public sealed class GetVariableCommand : VariableCommand
{
    [Parameter(Position = 0, ValueFromPipeline = true, ValueFromPipelineByPropertyName = true)]
    public string[] Name { get; set; } = ["*"];

    [Parameter]
    public SwitchParameter ValueOnly { get; set; }

    [Parameter]
    public string[]? Include { get; set; }

    [Parameter]
    public string[]? Exclude { get; set; }

    protected override void ProcessRecord()
    {
        foreach (string name in Name)
        {
            foreach (PSVariable variable in Find(name).Where(v => Selected(v.Name, Include, Exclude)))
            {
                WriteObject(ValueOnly ? variable.Value : variable);
            }
        }
    }
}

/// <summary>Set-Variable.</summary>
[Cmdlet(VerbsCommon.Set, "Variable", SupportsShouldProcess = true)]
[OutputType(typeof(PSVariable))]
public sealed class SetVariableCommand : VariableCommand
{
    private readonly List<object?> _values = [];

    [Parameter(Position = 0, Mandatory = true, ValueFromPipelineByPropertyName = true)]
    public string[] Name { get; set; } = [];

    [AllowNull]
    [Parameter(Position = 1, ValueFromPipeline = true, ValueFromPipelineByPropertyName = true)]
    public object? Value { get; set; }

    [Parameter]
    public string? Description { get; set; }

    [Parameter]
    public ScopedItemOptions Option { get; set; }

    [Parameter]
    public SwitchParameter Force { get; set; }

    [Parameter]
    public SwitchParameter PassThru { get; set; }

    [Parameter]
    public string[]? Include { get; set; }

    [Parameter]
    public string[]? Exclude { get; set; }

    protected override void ProcessRecord()
    {
        if (MyInvocation.ExpectingInput)
        {
            _values.Add(Value);
        }
    }

    protected override void EndProcessing()
    {
        object? value = !MyInvocation.ExpectingInput ? Value : _values.Count == 1 ? _values[0] : _values.ToArray();
        foreach (string name in Name)
        {
            foreach (string target in Names(name).Where(n => Selected(n, Include, Exclude)))
            {
                if (ShouldProcess($"Name: {target} Value: {value}", "Set variable"))
                {
                    Guard(() => Set(target, value));
                }
            }
        }
    }

    private List<string> Names(string name) =>
        WildcardPattern.ContainsWildcardCharacters(name) ? Find(name).Select(v => v.Name).ToList() : [name];

    private void Set(string name, object? value)
    {
        PSVariable? existing = Scope is null
            ? SessionState.PSVariable.Get(name)
            : (PSVariable?)Internals.Call(SessionState.PSVariable, "GetAtScope", name, Scope);
        // Without -Scope the variable belongs to the caller's own scope, even where an outer one has the same name.
        PSVariable? here = (PSVariable?)Internals.Call(SessionState.PSVariable, "GetAtScope", name, TargetScope);
        if (here is null || (existing is null && Scope is null))
        {
            here = new PSVariable(name, value, Option);
            Internals.Call(Session, "NewVariableAtScope", here, TargetScope, (bool)Force);
        }
        else
        {
            if (Force)
            {
                here.Options &= ~ScopedItemOptions.ReadOnly;
            }
            here.Value = value;
            if (MyInvocation.BoundParameters.ContainsKey(nameof(Option)))
            {
                here.Options = Option;
            }
        }
        if (Description is not null)
        {
            here.Description = Description;
        }
        if (PassThru)
        {
            WriteObject(here);
        }
    }
}

/// <summary>New-Variable.</summary>
[Cmdlet(VerbsCommon.New, "Variable", SupportsShouldProcess = true)]
[OutputType(typeof(PSVariable))]
public sealed class NewVariableCommand : VariableCommand
{
    [Parameter(Position = 0, Mandatory = true, ValueFromPipelineByPropertyName = true)]
    public string Name { get; set; } = "";

    [Parameter(Position = 1, ValueFromPipeline = true, ValueFromPipelineByPropertyName = true)]
    public object? Value { get; set; }

    [Parameter]
    public string Description { get; set; } = "";

    [Parameter]
    public ScopedItemOptions Option { get; set; }

    [Parameter]
    public SwitchParameter Force { get; set; }

    [Parameter]
    public SwitchParameter PassThru { get; set; }

    protected override void ProcessRecord()
    {
        if (!ShouldProcess($"Name: {Name} Value: {Value}", "New variable"))
        {
            return;
        }
        if (!Force && Internals.Call(SessionState.PSVariable, "GetAtScope", Name, TargetScope) is not null)
        {
            WriteError(new ErrorRecord(
                new SessionStateException($"A variable with name '{Name}' already exists."), "VariableAlreadyExists", ErrorCategory.ResourceExists, Name));
            return;
        }
        Guard(() =>
        {
            var variable = new PSVariable(Name, Value, Option) { Description = Description };
            Internals.Call(Session, "NewVariableAtScope", variable, TargetScope, (bool)Force);
            if (PassThru)
            {
                WriteObject(variable);
            }
        });
    }
}

/// <summary>Remove-Variable.</summary>
[Cmdlet(VerbsCommon.Remove, "Variable", SupportsShouldProcess = true)]
public sealed class RemoveVariableCommand : VariableCommand
{
    [Parameter(Position = 0, Mandatory = true, ValueFromPipelineByPropertyName = true)]
    public string[] Name { get; set; } = [];

    [Parameter]
    public string[]? Include { get; set; }

    [Parameter]
    public string[]? Exclude { get; set; }

    [Parameter]
    public SwitchParameter Force { get; set; }

    protected override void ProcessRecord()
    {
        foreach (string name in Name)
        {
            foreach (PSVariable variable in Find(name).Where(v => Selected(v.Name, Include, Exclude)))
            {
                if (ShouldProcess("Name: " + variable.Name, "Remove variable"))
                {
                    Guard(() => Internals.Call(Session, "RemoveVariableAtScope", variable, TargetScope, (bool)Force));
                }
            }
        }
    }
}

/// <summary>Clear-Variable.</summary>
[Cmdlet(VerbsCommon.Clear, "Variable", SupportsShouldProcess = true)]
[OutputType(typeof(PSVariable))]
public sealed class ClearVariableCommand : VariableCommand
{
    [Parameter(Position = 0, Mandatory = true, ValueFromPipelineByPropertyName = true)]
    public string[] Name { get; set; } = [];

    [Parameter]
    public string[]? Include { get; set; }

    [Parameter]
    public string[]? Exclude { get; set; }

    [Parameter]
    public SwitchParameter Force { get; set; }

    [Parameter]
    public SwitchParameter PassThru { get; set; }

    protected override void ProcessRecord()
    {
        foreach (string name in Name)
        {
            foreach (PSVariable variable in Find(name).Where(v => Selected(v.Name, Include, Exclude)))
            {
                if (ShouldProcess("Name: " + variable.Name, "Clear variable"))
                {
                    Guard(() => Clear(variable));
                }
            }
        }
    }

    private void Clear(PSVariable variable)
    {
        if (Force)
        {
            variable.Options &= ~ScopedItemOptions.ReadOnly;
        }
        variable.Value = null;
        if (PassThru)
        {
            WriteObject(variable);
        }
    }
}
