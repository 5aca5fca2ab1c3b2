using System.Management.Automation;
using VirtPS.Shell.Commands.Support;

namespace VirtPS.Shell.Commands.Items;

/// <summary>Get-Item.</summary>
[Cmdlet(VerbsCommon.Get, "Item", DefaultParameterSetName = "Path")]
public sealed class GetItemCommand : FilteredPathCommand
{
    private protected override object? AskDynamicParameters(object context) =>
        Internals.Call(Provider.Item, "GetItemDynamicParameters", FirstPath, context);

    protected override void ProcessRecord()
    {
        foreach (string path in PathValues ?? [])
        {
            Guard(() => Internals.Call(Provider.Item, "Get", path, NewContext()));
        }
    }
}

/// <summary>Get-ChildItem.</summary>
[Cmdlet(VerbsCommon.Get, "ChildItem", DefaultParameterSetName = "Items")]
public sealed class GetChildItemCommand : ProviderCommand
{
    private string[] _paths = ["."];
    private bool _literal;

    [Parameter(Position = 0, ParameterSetName = "Items", ValueFromPipeline = true, ValueFromPipelineByPropertyName = true)]
    public string[] Path
    {
        get => _paths;
        set => (_paths, _literal) = (value is { Length: > 0 } ? value : ["."], false);
    }

    [Alias("PSPath", "LP")]
    [Parameter(ParameterSetName = "LiteralItems", Mandatory = true, ValueFromPipelineByPropertyName = true)]
    public string[] LiteralPath
    {
        get => _paths;
        set => (_paths, _literal) = (value, true);
    }

    [Parameter(Position = 1)]
    public string? Filter { get; set; }

    [Parameter]
    public string[]? Include { get; set; }

    [Parameter]
    public string[]? Exclude { get; set; }

    [Alias("s", "r")]
    [Parameter]
    public SwitchParameter Recurse { get; set; }

    [Parameter]
    public uint Depth { get; set; } = uint.MaxValue;

    [Parameter]
    public SwitchParameter Force { get; set; }

    [Parameter]
    public SwitchParameter Name { get; set; }

    private protected override bool IsLiteral => _literal;
    private protected override bool ForceProvider => Force;
    private protected override string[]? IncludePatterns => Include;
    private protected override string[]? ExcludePatterns => Exclude;
    private protected override string? FilterText => Filter;

    private bool Deep => Recurse || MyInvocation.BoundParameters.ContainsKey(nameof(Depth));

    private protected override object? AskDynamicParameters(object context) => Name
        ? Internals.Call(Provider.ChildItem, "GetChildNamesDynamicParameters", _paths[0], context)
        : Internals.Call(Provider.ChildItem, "GetChildItemsDynamicParameters", _paths[0], Deep, context);

    protected override void ProcessRecord()
    {
        foreach (string path in _paths)
        {
            Guard(() =>
            {
                if (Name)
                {
                    Internals.Call(Provider.ChildItem, "GetNames", path, ReturnContainers.ReturnMatchingContainers, Deep, Depth, NewContext());
                }
                else
                {
                    Internals.Call(Provider.ChildItem, "Get", path, Deep, Depth, NewContext());
                }
            });
        }
    }
}

/// <summary>Invoke-Item.</summary>
[Cmdlet(VerbsLifecycle.Invoke, "Item", DefaultParameterSetName = "Path", SupportsShouldProcess = true)]
public sealed class InvokeItemCommand : FilteredPathCommand
{
    protected override void ProcessRecord()
    {
        foreach (string path in PathValues ?? [])
        {
            Guard(() => Internals.Call(Provider.Item, "Invoke", path, NewContext()));
        }
    }
}

/// <summary>Clear-Item.</summary>
[Cmdlet(VerbsCommon.Clear, "Item", DefaultParameterSetName = "Path", SupportsShouldProcess = true)]
public sealed class ClearItemCommand : FilteredPathCommand
{
    protected override void ProcessRecord()
    {
        foreach (string path in PathValues ?? [])
        {
            Guard(() => Internals.Call(Provider.Item, "Clear", path, NewContext()));
        }
    }
}

/// <summary>Set-Item.</summary>
[Cmdlet(VerbsCommon.Set, "Item", DefaultParameterSetName = "Path", SupportsShouldProcess = true)]
public sealed class SetItemCommand : FilteredPathCommand
{
    [Parameter(Position = 1, ValueFromPipeline = true, ValueFromPipelineByPropertyName = true)]
    public object? Value { get; set; }

    [Parameter]
    public SwitchParameter PassThru { get; set; }

    [Parameter(Position = 0, ParameterSetName = "Path", Mandatory = true, ValueFromPipelineByPropertyName = true)]
    public override string[] Path
    {
        get => base.Path;
        set => base.Path = value;
    }

    private protected override object? AskDynamicParameters(object context) =>
        Internals.Call(Provider.Item, "SetItemDynamicParameters", FirstPath, Value, context);

    protected override void ProcessRecord()
    {
        foreach (string path in PathValues ?? [])
        {
            Guard(() => Internals.Call(Provider.Item, "Set", path, Value, NewContext(PassThru)));
        }
    }
}
