using System.Globalization;
using System.Management.Automation;
using VirtPS.Shell.Commands.Support;

namespace VirtPS.Shell.Commands.Objects;

/// <summary>Compare-Object.</summary>
[Cmdlet(VerbsData.Compare, "Object")]
public sealed class CompareObjectCommand : PSCmdlet
{
    private readonly List<PSObject?> _difference = [];

    [AllowEmptyCollection]
    [Parameter(Mandatory = true, Position = 0)]
    public PSObject[] ReferenceObject { get; set; } = [];

    [AllowEmptyCollection]
    [Parameter(Mandatory = true, Position = 1, ValueFromPipeline = true)]
    public PSObject[] DifferenceObject { get; set; } = [];

    [Parameter]
    [ValidateRange(0, int.MaxValue)]
    public int SyncWindow { get; set; } = int.MaxValue;

    [Parameter]
    public object[]? Property { get; set; }

    [Parameter]
    public SwitchParameter ExcludeDifferent { get; set; }

    [Parameter]
    public SwitchParameter IncludeEqual { get; set; }

    [Parameter]
    public SwitchParameter PassThru { get; set; }

    [Parameter]
    public string? Culture { get; set; }

    [Parameter]
    public SwitchParameter CaseSensitive { get; set; }

    protected override void ProcessRecord() => _difference.AddRange(DifferenceObject ?? []);

    protected override void EndProcessing()
    {
        PropertySpec[] properties = PropertySpec.Parse(this, Property);
        var comparer = new ValueComparer(CaseSensitive, Culture is null ? null : CultureInfo.GetCultureInfo(Culture));
        bool showEqual = IncludeEqual || ExcludeDifferent;
        var rest = _difference.Select((item, index) => (Item: item, Index: index)).ToList();
        var onlyReference = new List<PSObject?>();
        for (int i = 0; i < ReferenceObject.Length; i++)
        {
            PSObject? reference = ReferenceObject[i];
            int match = rest.FindIndex(d => Math.Abs((long)d.Index - i) <= SyncWindow && AreEqual(properties, comparer, reference, d.Item));
            if (match < 0)
            {
                onlyReference.Add(reference);
                continue;
            }
            rest.RemoveAt(match);
            if (showEqual)
            {
                Write(properties, reference, "==");
            }
        }
        if (ExcludeDifferent)
        {
            return;
        }
        foreach ((PSObject? item, _) in rest)
        {
            Write(properties, item, "=>");
        }
        foreach (PSObject? item in onlyReference)
        {
            Write(properties, item, "<=");
        }
    }

    private static bool AreEqual(PropertySpec[] properties, ValueComparer comparer, PSObject? a, PSObject? b)
    {
        if (a is null || b is null || properties.Length == 0)
        {
            return comparer.Equals(a, b);
        }
        return properties.All(p =>
        {
            p.TryGetValue(a, out object? x);
            p.TryGetValue(b, out object? y);
            return comparer.Equals(x, y);
        });
    }

    private void Write(PropertySpec[] properties, PSObject? item, string side)
    {
        if (PassThru)
        {
            if (item is not null)
            {
                item.Properties.Remove("SideIndicator");
                item.Properties.Add(new PSNoteProperty("SideIndicator", side));
            }
            WriteObject(item);
            return;
        }
        var result = new PSObject();
        foreach (PropertySpec property in properties)
        {
            object? value = null;
            if (item is not null)
            {
                property.TryGetValue(item, out value);
            }
            result.Properties.Add(new PSNoteProperty(property.Label ?? property.Expression.ToString(), value));
        }
        if (properties.Length == 0)
        {
            result.Properties.Add(new PSNoteProperty("InputObject", item));
        }
        result.Properties.Add(new PSNoteProperty("SideIndicator", side));
        WriteObject(result);
    }
}

/// <summary>Get-Unique: drops repeats that follow one another.</summary>
[Cmdlet(VerbsCommon.Get, "Unique", DefaultParameterSetName = "AsString")]
public sealed class GetUniqueCommand : PSCmdlet
{
    private PSObject? _last;

    [Parameter(ValueFromPipeline = true)]
    public PSObject? InputObject { get; set; }

    [Parameter(ParameterSetName = "AsString")]
    public SwitchParameter AsString { get; set; }

    [Parameter(ParameterSetName = "UniqueByType")]
    public SwitchParameter OnType { get; set; }

    [Parameter]
    public SwitchParameter CaseInsensitive { get; set; }

    protected override void ProcessRecord()
    {
        if (InputObject is not { } item)
        {
            return;
        }
        if (_last is null || !Same(_last, item))
        {
            _last = item;
            WriteObject(item);
        }
    }

    private bool Same(PSObject a, PSObject b)
    {
        if (OnType)
        {
            return a.TypeNames[0].Equals(b.TypeNames[0], StringComparison.OrdinalIgnoreCase);
        }
        if (AsString)
        {
            return string.Equals(a.ToString(), b.ToString(), CaseInsensitive ? StringComparison.CurrentCultureIgnoreCase : StringComparison.CurrentCulture);
        }
        return new ValueComparer(!CaseInsensitive).Equals(a, b);
    }
}
