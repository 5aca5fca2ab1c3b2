using System.Management.Automation;
using VirtPS.Shell.Commands.Support;

namespace VirtPS.Shell.Commands.Items;

/// <summary>New-Item.</summary>
[Cmdlet(VerbsCommon.New, "Item", DefaultParameterSetName = "pathSet", SupportsShouldProcess = true)]
public sealed class NewItemCommand : ProviderCommand
{
    [Parameter(Position = 0, ParameterSetName = "pathSet", Mandatory = true, ValueFromPipelineByPropertyName = true)]
    [Parameter(Position = 0, ParameterSetName = "nameSet", ValueFromPipelineByPropertyName = true)]
    public string[]? Path { get; set; }

    [AllowNull]
    [AllowEmptyString]
    [Parameter(ParameterSetName = "nameSet", Mandatory = true, ValueFromPipelineByPropertyName = true)]
    public string? Name { get; set; }

    [Alias("Type")]
    [Parameter(ValueFromPipelineByPropertyName = true)]
    public string? ItemType { get; set; }

    [Alias("Target")]
    [Parameter(ValueFromPipeline = true, ValueFromPipelineByPropertyName = true)]
    public object? Value { get; set; }

    [Parameter]
    public SwitchParameter Force { get; set; }

    private protected override bool ForceProvider => Force;

    private protected override object? AskDynamicParameters(object context) =>
        Internals.Call(Provider.Item, "NewItemDynamicParameters", Path is { Length: > 0 } ? Path[0] : ".", ItemType, Value, context);

    protected override void ProcessRecord()
    {
        foreach (string path in Path is { Length: > 0 } ? Path : [""])
        {
            Guard(() => Internals.Call(Provider.Item, "New", path, Name, ItemType, Value, NewContext()));
        }
    }
}

/// <summary>Remove-Item.</summary>
[Cmdlet(VerbsCommon.Remove, "Item", DefaultParameterSetName = "Path", SupportsShouldProcess = true)]
public sealed class RemoveItemCommand : FilteredPathCommand
{
    [Parameter]
    public SwitchParameter Recurse { get; set; }

    private protected override object? AskDynamicParameters(object context) =>
        Internals.Call(Provider.Item, "RemoveItemDynamicParameters", FirstPath, (bool)Recurse, context);

    protected override void ProcessRecord()
    {
        foreach (string path in PathValues ?? [])
        {
            foreach (PathInfo found in ResolvePaths(path))
            {
                Guard(() => Remove(found));
            }
        }
    }

    private void Remove(PathInfo found)
    {
        object context = NewContext();
        // The path is resolved already: a name that contains [ must not be matched a second time.
        Internals.Set(context, "SuppressWildcardExpansion", true);
        bool recurse = Recurse;
        if (!recurse && !IsLink(found) && (bool)Internals.Call(Provider.ChildItem, "HasChild", found.Path, context)!)
        {
            string question = $"The item at {found.Path} has children and the Recurse parameter was not specified. If you continue, all children will be removed with the item. Are you sure you want to continue?";
            bool onlyShow = MyInvocation.BoundParameters.TryGetValue("WhatIf", out object? whatIf) && whatIf is SwitchParameter { IsPresent: true };
            if (!onlyShow && !ShouldContinue(question, "Confirm", ref _yesToAll, ref _noToAll))
            {
                return;
            }
            recurse = true;
        }
        Internals.Call(Provider.Item, "Remove", found.Path, recurse, context);
    }

    /// <summary>A link to a folder is removed as the link it is: what is behind it is not its content.</summary>
    private static bool IsLink(PathInfo found) =>
        found.Provider.Name == "FileSystem" && new DirectoryInfo(found.ProviderPath).LinkTarget is not null;

    private bool _yesToAll;
    private bool _noToAll;
}

/// <summary>Copy-Item.</summary>
[Cmdlet(VerbsCommon.Copy, "Item", DefaultParameterSetName = "Path", SupportsShouldProcess = true)]
public sealed class CopyItemCommand : FilteredPathCommand
{
    [Parameter(Position = 1, ValueFromPipelineByPropertyName = true)]
    public string? Destination { get; set; }

    [Parameter]
    public SwitchParameter Container { get; set; } = true;

    [Parameter]
    public SwitchParameter Recurse { get; set; }

    [Parameter]
    public SwitchParameter PassThru { get; set; }

    private protected override object? AskDynamicParameters(object context) =>
        Internals.Call(Provider.Item, "CopyItemDynamicParameters", FirstPath, Destination, (bool)Recurse, context);

    protected override void ProcessRecord()
    {
        CopyContainers containers = Container ? CopyContainers.CopyTargetContainer : CopyContainers.CopyChildrenOfTargetContainer;
        foreach (string path in PathValues ?? [])
        {
            Guard(() => Internals.Call(Provider.Item, "Copy", path, Destination ?? ".", (bool)Recurse, containers, NewContext(PassThru)));
        }
    }
}

/// <summary>Move-Item.</summary>
[Cmdlet(VerbsCommon.Move, "Item", DefaultParameterSetName = "Path", SupportsShouldProcess = true)]
public sealed class MoveItemCommand : FilteredPathCommand
{
    [Parameter(Position = 1, ValueFromPipelineByPropertyName = true)]
    public string Destination { get; set; } = ".";

    [Parameter]
    public SwitchParameter PassThru { get; set; }

    protected override void ProcessRecord()
    {
        foreach (string path in PathValues ?? [])
        {
            foreach (PathInfo found in ResolvePaths(path))
            {
                Guard(() =>
                {
                    object context = NewContext(PassThru);
                    Internals.Set(context, "SuppressWildcardExpansion", true);
                    Internals.Call(Provider.Item, "Move", found.Path, Destination, context);
                });
            }
        }
    }
}

/// <summary>Rename-Item.</summary>
[Cmdlet(VerbsCommon.Rename, "Item", DefaultParameterSetName = "ByPath", SupportsShouldProcess = true)]
public sealed class RenameItemCommand : ProviderCommand
{
    private bool _literal;
    private string _path = "";

    [Parameter(Position = 0, ParameterSetName = "ByPath", Mandatory = true, ValueFromPipeline = true, ValueFromPipelineByPropertyName = true)]
    public string Path
    {
        get => _path;
        set => (_path, _literal) = (value, false);
    }

    [Alias("PSPath", "LP")]
    [Parameter(ParameterSetName = "ByLiteralPath", Mandatory = true, ValueFromPipelineByPropertyName = true)]
    public string LiteralPath
    {
        get => _path;
        set => (_path, _literal) = (value, true);
    }

    [Parameter(Position = 1, Mandatory = true, ValueFromPipelineByPropertyName = true)]
    public string NewName { get; set; } = "";

    [Parameter]
    public SwitchParameter Force { get; set; }

    [Parameter]
    public SwitchParameter PassThru { get; set; }

    private protected override bool IsLiteral => _literal;
    private protected override bool ForceProvider => Force;

    protected override void ProcessRecord()
    {
        foreach (PathInfo found in ResolvePaths(_path))
        {
            Guard(() =>
            {
                object context = NewContext(PassThru);
                Internals.Set(context, "SuppressWildcardExpansion", true);
                Internals.Call(Provider.Item, "Rename", found.Path, NewName, context);
            });
        }
    }
}
