using System.Management.Automation;
using Microsoft.PowerShell.Commands.Internal.Format;

namespace VirtPS.Shell.Commands.Format;

/// <summary>Format-Table.</summary>
[Cmdlet(VerbsCommon.Format, "Table")]
public sealed class FormatTableCommand : OuterFormatTableBase
{
    public FormatTableCommand() => EngineFormatting.UseShape(this, "Table");
}

/// <summary>Format-List.</summary>
[Cmdlet(VerbsCommon.Format, "List")]
public sealed class FormatListCommand : OuterFormatTableAndListBase
{
    public FormatListCommand() => EngineFormatting.UseShape(this, "List");
}

/// <summary>What Format-Wide and Format-Custom share.</summary>
public abstract class FormatShapeCommand : FrontEndCommandBase
{
    private readonly object _inner;

    private protected FormatShapeCommand(string shape) => _inner = EngineFormatting.UseShape(this, shape);

    [Parameter]
    public object? GroupBy { get; set; }

    [Parameter]
    public string? View { get; set; }

    [Parameter]
    public SwitchParameter ShowError { get; set; }

    [Parameter]
    public SwitchParameter DisplayError { get; set; }

    [Parameter]
    public SwitchParameter Force { get; set; }

    [Parameter]
    [ValidateSet("CoreOnly", "EnumOnly", "Both")]
    public string? Expand { get; set; }

    private protected abstract object CreateParameters();

    protected override void BeginProcessing()
    {
        object parameters = CreateParameters();
        if (ShowError)
        {
            EngineFormatting.Set(parameters, "showErrorsAsMessages", true);
        }
        if (DisplayError)
        {
            EngineFormatting.Set(parameters, "showErrorsInFormattedOutput", true);
        }
        if (Expand is not null)
        {
            Type type = typeof(FrontEndCommandBase).Assembly.GetType("Microsoft.PowerShell.Commands.Internal.Format.EnumerableExpansion", throwOnError: true)!;
            EngineFormatting.Set(parameters, "expansion", Enum.Parse(type, Expand));
        }
        EngineFormatting.SetParameters(_inner, parameters);
        base.BeginProcessing();
    }
}

/// <summary>Format-Wide.</summary>
[Cmdlet(VerbsCommon.Format, "Wide")]
public sealed class FormatWideCommand : FormatShapeCommand
{
    public FormatWideCommand()
        : base("Wide")
    {
    }

    [Parameter(Position = 0)]
    public object? Property { get; set; }

    [Parameter]
    public SwitchParameter AutoSize { get; set; }

    [Parameter]
    [ValidateRange(1, int.MaxValue)]
    public int Column { get; set; }

    private protected override object CreateParameters()
    {
        object wide = EngineFormatting.Create("WideSpecificParameters");
        if (Column > 0)
        {
            EngineFormatting.Set(wide, "columns", (int?)Column);
        }
        object parameters = EngineFormatting.CreateParameters(
            this, Property is null ? null : [Property], "FormatWideParameterDefinition", GroupBy, View, Force, wide);
        if (AutoSize)
        {
            EngineFormatting.Set(parameters, "autosize", (bool?)true);
        }
        return parameters;
    }
}

/// <summary>Format-Custom.</summary>
[Cmdlet(VerbsCommon.Format, "Custom")]
public sealed class FormatCustomCommand : FormatShapeCommand
{
    public FormatCustomCommand()
        : base("Complex")
    {
    }

    [Parameter(Position = 0)]
    public object[]? Property { get; set; }

    [Parameter]
    [ValidateRange(1, int.MaxValue)]
    public int Depth { get; set; } = 5;

    private protected override object CreateParameters()
    {
        object complex = EngineFormatting.Create("ComplexSpecificParameters");
        EngineFormatting.Set(complex, "maxDepth", Depth);
        return EngineFormatting.CreateParameters(this, Property, "FormatObjectParameterDefinition", GroupBy, View, Force, complex);
    }
}
