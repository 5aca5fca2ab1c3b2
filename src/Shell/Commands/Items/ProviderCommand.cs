using System.Collections.ObjectModel;
using System.Management.Automation;
using VirtPS.Shell.Commands.Support;

namespace VirtPS.Shell.Commands.Items;

/// <summary>
/// Base of the cmdlets that work on provider items. They call the engine's providers with a context bound to the cmdlet, so that filters,
/// dynamic parameters, -WhatIf, errors and objects go straight between provider and pipeline as they do in pwsh. The public InvokeProvider
/// overloads have no such context: they collect everything and throw the first error.
/// </summary>
public abstract class ProviderCommand : PSCmdlet, IDynamicParameters
{
    private object? _dynamicParameters;
    private object? _context;

    private protected ProviderIntrinsics Provider => InvokeProvider;

    /// <summary>A fresh context with this cmdlet's filters and switches.</summary>
    private protected object NewContext(bool passThru = true)
    {
        object context = Internals.Create(typeof(PSObject).Assembly, "System.Management.Automation.CmdletProviderContext", this);
        Internals.Set(context, "PassThru", passThru);
        Internals.Set(context, "SuppressWildcardExpansion", IsLiteral);
        Internals.Set(context, "Force", new SwitchParameter(ForceProvider));
        Internals.Call(context, "SetFilters", ToCollection(IncludePatterns), ToCollection(ExcludePatterns), FilterText ?? "");
        if (_dynamicParameters is not null)
        {
            Internals.Set(context, "DynamicParameters", _dynamicParameters);
        }
        _context = context;
        return context;
    }

    private protected virtual bool IsLiteral => false;
    private protected virtual bool ForceProvider => false;
    private protected virtual string[]? IncludePatterns => null;
    private protected virtual string[]? ExcludePatterns => null;
    private protected virtual string? FilterText => null;

    /// <summary>The dynamic parameters that the provider of the first path adds; null for none.</summary>
    private protected virtual object? AskDynamicParameters(object context) => null;

    /// <inheritdoc/>
    public object? GetDynamicParameters()
    {
        object context = NewContext();
        // While parameters are still being bound a path may not exist yet: that is the run's error to report, not this one's.
        try
        {
            _dynamicParameters = AskDynamicParameters(context);
        }
        catch (Exception e) when (e is ItemNotFoundException or System.Management.Automation.DriveNotFoundException or ProviderNotFoundException or NotSupportedException or ArgumentException)
        {
            _dynamicParameters = null;
        }
        return _dynamicParameters;
    }

    private protected bool DynamicSwitch(string name) =>
        _dynamicParameters is not null && PSObject.AsPSObject(_dynamicParameters).Properties[name]?.Value is SwitchParameter { IsPresent: true };

    /// <summary>Runs one provider operation; what the provider throws becomes this record's error and the others go on.</summary>
    private protected void Guard(Action operation)
    {
        try
        {
            operation();
        }
        catch (PSNotSupportedException e)
        {
            WriteError(new ErrorRecord(e.ErrorRecord, e));
        }
        catch (SessionStateException e)
        {
            WriteError(new ErrorRecord(e.ErrorRecord, e));
        }
        catch (PSInvalidOperationException e)
        {
            WriteError(new ErrorRecord(e.ErrorRecord, e));
        }
        catch (PSArgumentException e)
        {
            WriteError(new ErrorRecord(e.ErrorRecord, e));
        }
    }

    /// <summary>Paths that an existing-path pattern resolves to, as provider-qualified PowerShell paths.</summary>
    private protected Collection<PathInfo> ResolvePaths(string path)
    {
        Collection<PathInfo>? found = null;
        Guard(() => found = (Collection<PathInfo>)Internals.Call(SessionState.Path, "GetResolvedPSPathFromPSPath", path, NewContext())!);
        return found ?? [];
    }

    protected override void StopProcessing()
    {
        if (_context is { } context)
        {
            Internals.Call(context, "StopProcessing");
        }
    }

    private static Collection<string> ToCollection(string[]? items) => items is null ? [] : new Collection<string>(items);
}

/// <summary>A provider cmdlet with -Path and -LiteralPath.</summary>
public abstract class PathCommand : ProviderCommand
{
    private protected string[]? PathValues { get; set; }
    private protected bool LiteralValues { get; set; }

    [Parameter(Position = 0, ParameterSetName = "Path", Mandatory = true, ValueFromPipeline = true, ValueFromPipelineByPropertyName = true)]
    public virtual string[] Path
    {
        get => PathValues ?? [];
        set => (PathValues, LiteralValues) = (value, false);
    }

    [Alias("PSPath", "LP")]
    [Parameter(ParameterSetName = "LiteralPath", Mandatory = true, ValueFromPipelineByPropertyName = true)]
    public string[] LiteralPath
    {
        get => PathValues ?? [];
        set => (PathValues, LiteralValues) = (value, true);
    }

    private protected override bool IsLiteral => LiteralValues;

    private protected string FirstPath => PathValues is { Length: > 0 } ? PathValues[0] : ".";
}

/// <summary>A path cmdlet with -Filter, -Include, -Exclude and -Force.</summary>
public abstract class FilteredPathCommand : PathCommand
{
    [Parameter]
    public virtual string? Filter { get; set; }

    [Parameter]
    public virtual string[]? Include { get; set; }

    [Parameter]
    public virtual string[]? Exclude { get; set; }

    [Parameter]
    public virtual SwitchParameter Force { get; set; }

    private protected override bool ForceProvider => Force;
    private protected override string[]? IncludePatterns => Include;
    private protected override string[]? ExcludePatterns => Exclude;
    private protected override string? FilterText => Filter;
}
