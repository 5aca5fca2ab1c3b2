namespace Microsoft.PowerShell.Commands;

/// <summary>Base of what Measure-Object gives.</summary>
public abstract class MeasureInfo
{
    /// <summary>The measured property; null without one.</summary>
    public string? Property { get; set; }
}

/// <summary>Numeric measures. Those that were not asked for are null.</summary>
public sealed class GenericMeasureInfo : MeasureInfo
{
    public int Count { get; set; }
    public double? Average { get; set; }
    public double? Sum { get; set; }
    public double? Maximum { get; set; }
    public double? Minimum { get; set; }
    public double? StandardDeviation { get; set; }
}

/// <summary>Measures of values that are no numbers: they have an order, but no sum.</summary>
public sealed class GenericObjectMeasureInfo : MeasureInfo
{
    public int Count { get; set; }
    public double? Average { get; set; }
    public double? Sum { get; set; }
    public object? Maximum { get; set; }
    public object? Minimum { get; set; }
    public double? StandardDeviation { get; set; }
}

/// <summary>Measures of text.</summary>
public sealed class TextMeasureInfo : MeasureInfo
{
    public int? Lines { get; set; }
    public int? Words { get; set; }
    public int? Characters { get; set; }
}
