using System.Globalization;
using System.Management.Automation;
using VirtPS.Shell.Commands.Support;

namespace VirtPS.Shell.Commands.Objects;

/// <summary>What the cmdlets share that collect objects and order them by properties.</summary>
public abstract class OrderingCommand : PSCmdlet
{
    private protected List<PSObject> Items { get; } = [];

    [Parameter(ValueFromPipeline = true)]
    public PSObject? InputObject { get; set; }

    [Parameter(Position = 0)]
    public object[]? Property { get; set; }

    [Parameter]
    public SwitchParameter CaseSensitive { get; set; }

    [Parameter]
    public string? Culture { get; set; }

    private protected ValueComparer Comparer => new(CaseSensitive, Culture is null ? null : CultureInfo.GetCultureInfo(Culture));

    protected override void ProcessRecord()
    {
        if (InputObject is not null)
        {
            Items.Add(InputObject);
        }
    }

    private protected static object?[] Keys(PropertySpec[] properties, PSObject item) =>
        properties.Length == 0
            ? [item]
            : properties.Select(p => p.TryGetValue(item, out object? value) ? value : null).ToArray();
}

/// <summary>Sort-Object. The order is stable, always.</summary>
[Cmdlet("Sort", "Object", DefaultParameterSetName = "Default")]
public sealed class SortObjectCommand : OrderingCommand
{
    [Parameter]
    public SwitchParameter Descending { get; set; }

    [Parameter]
    public SwitchParameter Unique { get; set; }

    [Parameter(ParameterSetName = "Default")]
    public SwitchParameter Stable { get; set; }

    [Parameter(Mandatory = true, ParameterSetName = "Top")]
    [ValidateRange(1, int.MaxValue)]
    public int Top { get; set; }

    [Parameter(Mandatory = true, ParameterSetName = "Bottom")]
    [ValidateRange(1, int.MaxValue)]
    public int Bottom { get; set; }

    protected override void EndProcessing()
    {
        if (Items.Count == 0)
        {
            return;
        }
        object[]? names = Property is { Length: > 0 } ? Property : ObjectKeys.DefaultKeys(Items[0]);
        PropertySpec[] properties = PropertySpec.Parse(this, names);
        bool[] descending = properties.Length == 0
            ? [Descending]
            : properties.Select(p => p.Flag("Descending") ?? (p.Flag("Ascending") is { } up ? !up : (bool)Descending)).ToArray();
        var comparer = new KeyComparer(Comparer, descending);
        var sorted = Items.Select(i => (Item: i, Keys: Keys(properties, i))).OrderBy(p => p.Keys, comparer).ToList();
        if (Unique)
        {
            sorted = sorted.Where((p, i) => i == 0 || comparer.Compare(p.Keys, sorted[i - 1].Keys) != 0).ToList();
        }
        IEnumerable<(PSObject Item, object?[] Keys)> wanted =
            Top > 0 ? sorted.Take(Top) : Bottom > 0 ? sorted.TakeLast(Bottom) : sorted;
        foreach ((PSObject item, _) in wanted)
        {
            WriteObject(item);
        }
    }
}
