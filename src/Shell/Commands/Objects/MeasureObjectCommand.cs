using System.Globalization;
using System.Management.Automation;
using Microsoft.PowerShell.Commands;
using VirtPS.Shell.Commands.Support;

namespace VirtPS.Shell.Commands.Objects;

/// <summary>Measure-Object.</summary>
[Cmdlet(VerbsDiagnostic.Measure, "Object", DefaultParameterSetName = "GenericMeasure")]
[OutputType(typeof(GenericMeasureInfo), typeof(GenericObjectMeasureInfo), typeof(TextMeasureInfo))]
public sealed class MeasureObjectCommand : PSCmdlet
{
    private readonly Dictionary<string, Statistics> _statistics = new(StringComparer.OrdinalIgnoreCase);
    private PropertySpec[] _properties = [];

    [Parameter(ValueFromPipeline = true)]
    public PSObject? InputObject { get; set; }

    [Parameter(Position = 0)]
    public object[]? Property { get; set; }

    [Parameter(ParameterSetName = "GenericMeasure")]
    public SwitchParameter Sum { get; set; }

    [Parameter(ParameterSetName = "GenericMeasure")]
    public SwitchParameter AllStats { get; set; }

    [Parameter(ParameterSetName = "GenericMeasure")]
    public SwitchParameter Average { get; set; }

    [Parameter(ParameterSetName = "GenericMeasure")]
    public SwitchParameter Maximum { get; set; }

    [Parameter(ParameterSetName = "GenericMeasure")]
    public SwitchParameter Minimum { get; set; }

    [Parameter(ParameterSetName = "GenericMeasure")]
    public SwitchParameter StandardDeviation { get; set; }

    [Parameter(ParameterSetName = "TextMeasure")]
    public SwitchParameter Line { get; set; }

    [Parameter(ParameterSetName = "TextMeasure")]
    public SwitchParameter Word { get; set; }

    [Parameter(ParameterSetName = "TextMeasure")]
    public SwitchParameter Character { get; set; }

    [Parameter(ParameterSetName = "TextMeasure")]
    public SwitchParameter IgnoreWhiteSpace { get; set; }

    private bool IsText => ParameterSetName == "TextMeasure";
    private bool NeedsNumbers => Sum || Average || StandardDeviation || AllStats;

    protected override void BeginProcessing() => _properties = PropertySpec.Parse(this, Property);

    protected override void ProcessRecord()
    {
        if (InputObject is not { } item)
        {
            return;
        }
        if (_properties.Length == 0)
        {
            Take("", item);
            return;
        }
        foreach (PropertySpec property in _properties)
        {
            foreach (PSPropertyExpression name in property.Expression.ResolveNames(item))
            {
                foreach (PSPropertyExpressionResult result in name.GetValues(item))
                {
                    if (result.Exception is null && result.Result is not null)
                    {
                        Take(name.ToString(), result.Result);
                    }
                }
            }
        }
    }

    private void Take(string name, object value)
    {
        if (!_statistics.TryGetValue(name, out Statistics? statistics))
        {
            _statistics.Add(name, statistics = new Statistics());
        }
        if (IsText)
        {
            statistics.AddText(PSObject.AsPSObject(value).ToString() ?? "", IgnoreWhiteSpace);
            return;
        }
        statistics.Count++;
        if (NeedsNumbers)
        {
            if (!LanguagePrimitives.TryConvertTo(value, CultureInfo.InvariantCulture, out double number))
            {
                statistics.Count--;
                WriteError(new ErrorRecord(
                    new PSInvalidOperationException($"Input object \"{value}\" is not numeric."), "NonNumericInputObject", ErrorCategory.InvalidType, value));
                return;
            }
            statistics.AddNumber(number);
        }
        if (Maximum || Minimum || AllStats)
        {
            statistics.AddOrdered(value is PSObject o ? o.BaseObject : value);
        }
    }

    protected override void EndProcessing()
    {
        if (_properties.Length == 0 && _statistics.Count == 0)
        {
            _statistics.Add("", new Statistics());
        }
        foreach (PropertySpec property in _properties)
        {
            string name = property.Expression.ToString();
            if (!property.Expression.HasWildCardCharacters && !_statistics.ContainsKey(name))
            {
                WriteError(new ErrorRecord(
                    new PSArgumentException($"The property \"{name}\" cannot be found in the input for any objects."),
                    "GenericMeasurePropertyNotFound", ErrorCategory.InvalidArgument, null));
            }
        }
        foreach ((string name, Statistics statistics) in _statistics)
        {
            WriteObject(Result(name.Length == 0 ? null : name, statistics));
        }
    }

    private MeasureInfo Result(string? property, Statistics s)
    {
        if (IsText)
        {
            return new TextMeasureInfo
            {
                Property = property,
                Lines = Line ? s.Lines : null,
                Words = Word ? s.Words : null,
                Characters = Character ? s.Characters : null,
            };
        }
        double? average = (Average || AllStats) && s.Count > 0 ? s.Sum / s.Count : null;
        double? sum = (Sum || AllStats) && s.Count > 0 ? s.Sum : null;
        double? deviation = (StandardDeviation || AllStats) && s.Count > 0 ? s.StandardDeviation : null;
        object? maximum = Maximum || AllStats ? s.Maximum : null;
        object? minimum = Minimum || AllStats ? s.Minimum : null;
        if (IsNumber(maximum) && IsNumber(minimum))
        {
            return new GenericMeasureInfo
            {
                Property = property, Count = s.Count, Average = average, Sum = sum, StandardDeviation = deviation,
                Maximum = ToDouble(maximum), Minimum = ToDouble(minimum),
            };
        }
        return new GenericObjectMeasureInfo
        {
            Property = property, Count = s.Count, Average = average, Sum = sum, StandardDeviation = deviation, Maximum = maximum, Minimum = minimum,
        };
    }

    private static bool IsNumber(object? value) => value is null || (value is not string && LanguagePrimitives.TryConvertTo(value, out double _));

    private static double? ToDouble(object? value) => value is null ? null : LanguagePrimitives.ConvertTo<double>(value);

    /// <summary>Running sums of one property. The deviation is Welford's, which does not lose the small difference of large sums.</summary>
    private sealed class Statistics
    {
        private static readonly char[] s_blanks = [' ', '\t', '\r', '\n', '\v', '\f'];
        private readonly ValueComparer _comparer = new(caseSensitive: false);
        private double _mean;
        private double _squares;
        private int _numbers;

        public int Count { get; set; }
        public double Sum { get; private set; }
        public object? Maximum { get; private set; }
        public object? Minimum { get; private set; }
        public int Lines { get; private set; }
        public int Words { get; private set; }
        public int Characters { get; private set; }
        public double StandardDeviation => _numbers > 1 ? Math.Sqrt(_squares / (_numbers - 1)) : 0;

        public void AddNumber(double value)
        {
            Sum += value;
            _numbers++;
            double delta = value - _mean;
            _mean += delta / _numbers;
            _squares += delta * (value - _mean);
        }

        public void AddOrdered(object value)
        {
            Maximum = Maximum is null || _comparer.Compare(value, Maximum) > 0 ? value : Maximum;
            Minimum = Minimum is null || _comparer.Compare(value, Minimum) < 0 ? value : Minimum;
        }

        public void AddText(string text, bool ignoreWhiteSpace)
        {
            Lines += text.Length == 0 ? 0 : text.AsSpan().Count('\n') + (text[^1] == '\n' ? 0 : 1);
            Words += text.Split(s_blanks, StringSplitOptions.RemoveEmptyEntries).Length;
            Characters += ignoreWhiteSpace ? text.Count(c => !char.IsWhiteSpace(c)) : text.Length;
        }
    }
}
