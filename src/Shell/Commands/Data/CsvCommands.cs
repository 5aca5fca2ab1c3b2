using System.Collections;
using System.Globalization;
using System.Management.Automation;
using System.Text;
using VirtPS.Shell.Commands.Support;

namespace VirtPS.Shell.Commands.Data;

/// <summary>What all CSV cmdlets share.</summary>
public abstract class CsvCommand : PSCmdlet
{
    [Parameter(Position = 1)]
    public char Delimiter { get; set; } = ',';

    [Parameter]
    public SwitchParameter UseCulture { get; set; }

    private protected char Separator => UseCulture ? CultureInfo.CurrentCulture.TextInfo.ListSeparator[0] : Delimiter;
}

/// <summary>What ConvertTo-Csv and Export-Csv share.</summary>
public abstract class ToCsvCommand : CsvCommand
{
    private List<string>? _columns;

    [AllowNull]
    [Parameter(Mandatory = true, ValueFromPipeline = true, ValueFromPipelineByPropertyName = true)]
    public PSObject InputObject { get; set; } = new();

    [Alias("ITI")]
    [Parameter]
    public SwitchParameter IncludeTypeInformation { get; set; }

    [Alias("NTI")]
    [Parameter]
    public SwitchParameter NoTypeInformation { get; set; } = true;

    [Alias("QF")]
    [Parameter]
    public string[]? QuoteFields { get; set; }

    [Alias("UQ")]
    [Parameter]
    public QuoteKind UseQuotes { get; set; } = QuoteKind.Always;

    [Parameter]
    public SwitchParameter NoHeader { get; set; }

    private protected QuoteKind Quotes => QuoteFields is null ? UseQuotes : QuoteKind.Never;

    /// <summary>Columns of an existing file that rows are added to.</summary>
    private protected void UseColumns(List<string> columns) => _columns = columns;

    private protected abstract void Line(string text);

    private protected List<string>? Columns => _columns;

    protected override void ProcessRecord()
    {
        if (InputObject is null)
        {
            return;
        }
        object source = InputObject.BaseObject is IDictionary table ? table : InputObject;
        if (_columns is null)
        {
            _columns = source is IDictionary d
                ? d.Keys.Cast<object>().Select(k => k.ToString() ?? "").ToList()
                : InputObject.Properties.Select(p => p.Name).ToList();
            if (IncludeTypeInformation)
            {
                Line("#TYPE " + InputObject.TypeNames[0]);
            }
            if (!NoHeader)
            {
                Line(CsvText.Format(_columns.Select(c => ((string?)c, Forced(c))), Separator, Quotes));
            }
        }
        Line(CsvText.Format(_columns.Select(c => (Text(source, c), Forced(c))), Separator, Quotes));
    }

    private bool Forced(string column) => QuoteFields?.Contains(column, StringComparer.OrdinalIgnoreCase) == true;

    private static string? Text(object source, string column)
    {
        object? value = source is IDictionary table ? table[column] : PropertyValue((PSObject)source, column);
        if (value is PSObject { BaseObject: IFormattable inner })
        {
            value = inner;
        }
        return value switch
        {
            null => null,
            string s => s,
            // Numbers and dates travel between machines: CSV is written the same everywhere, except with the user's date pattern as pwsh does.
            DateTime date => date.ToString(CultureInfo.CurrentCulture),
            Enum => value.ToString(),
            IFormattable number => number.ToString(null, CultureInfo.InvariantCulture),
            _ => value.ToString(),
        };
    }

    private static object? PropertyValue(PSObject source, string column)
    {
        try
        {
            return source.Properties[column]?.Value;
        }
        catch (GetValueException)
        {
            return null; // a getter that throws leaves its field empty
        }
    }
}

/// <summary>ConvertTo-Csv.</summary>
[Cmdlet(VerbsData.ConvertTo, "Csv")]
[OutputType(typeof(string))]
public sealed class ConvertToCsvCommand : ToCsvCommand
{
    private protected override void Line(string text) => WriteObject(text);
}

/// <summary>Export-Csv.</summary>
[Cmdlet(VerbsData.Export, "Csv", SupportsShouldProcess = true, DefaultParameterSetName = "Delimiter")]
public sealed class ExportCsvCommand : ToCsvCommand, IDisposable
{
    private StreamWriter? _writer;

    [Parameter(Position = 0)]
    public string? Path { get; set; }

    [Alias("PSPath", "LP")]
    [Parameter]
    public string? LiteralPath { get; set; }

    [Parameter]
    public SwitchParameter Force { get; set; }

    [Alias("NoOverwrite")]
    [Parameter]
    public SwitchParameter NoClobber { get; set; }

    [ArgumentToEncoding]
    [EncodingCompletions]
    [Parameter]
    public Encoding Encoding { get; set; } = TextEncodings.Default;

    [Parameter]
    public SwitchParameter Append { get; set; }

    protected override void BeginProcessing()
    {
        if (Path is null == LiteralPath is null)
        {
            ThrowTerminatingError(new ErrorRecord(
                new InvalidOperationException("You must specify either the -Path or -LiteralPath parameters, but not both."), "CannotSpecifyPathAndLiteralPath", ErrorCategory.InvalidData, null));
        }
        string path = FileTarget.Resolve(this, LiteralPath ?? Path!, LiteralPath is not null);
        if (!ShouldProcess(path, "Export-Csv"))
        {
            return;
        }
        if (Append && File.Exists(path) && new FileInfo(path).Length > 0)
        {
            using var reader = new StreamReader(path, Encoding);
            UseColumns(CsvText.Read(reader, Separator) ?? []);
        }
        _writer = FileTarget.Open(this, path, Encoding, Append, Force, NoClobber);
    }

    protected override void ProcessRecord()
    {
        if (_writer is null)
        {
            return;
        }
        if (Append && !Force && Columns is not null && InputObject is not null
            && Columns.Find(c => InputObject.Properties[c] is null && (InputObject.BaseObject as IDictionary)?.Contains(c) != true) is { } missing)
        {
            ThrowTerminatingError(new ErrorRecord(
                new InvalidOperationException($"Cannot append CSV content: the appended object does not have a property that corresponds to the column '{missing}'. To continue with mismatched properties, add the -Force parameter, and then retry the command."),
                "CannotAppendCsvWithMismatchedPropertyNames", ErrorCategory.InvalidData, InputObject));
        }
        base.ProcessRecord();
    }

    private protected override void Line(string text) => _writer!.WriteLine(text);

    protected override void EndProcessing() => Dispose();

    public void Dispose()
    {
        _writer?.Dispose();
        _writer = null;
    }
}

/// <summary>What ConvertFrom-Csv and Import-Csv share.</summary>
public abstract class FromCsvCommand : CsvCommand
{
    [Parameter]
    public string[]? Header { get; set; }

    private protected void Convert(TextReader reader)
    {
        string? typeName = null;
        List<string>? columns = Header?.ToList();
        while (CsvText.Read(reader, Separator) is { } row)
        {
            if (columns is null)
            {
                if (typeName is null && row[0].StartsWith("#TYPE", StringComparison.OrdinalIgnoreCase))
                {
                    typeName = row[0][5..].Trim();
                    continue;
                }
                columns = Named(row);
                continue;
            }
            WriteObject(ToObject(columns, row, typeName));
        }
    }

    private List<string> Named(List<string> header)
    {
        int unnamed = 0;
        var names = header.Select(h => h.Length > 0 ? h : $"H{++unnamed}").ToList();
        if (unnamed > 0)
        {
            WriteWarning("One or more headers were not specified. Default names starting with \"H\" have been used in place of any missing headers.");
        }
        if (names.GroupBy(n => n, StringComparer.OrdinalIgnoreCase).FirstOrDefault(g => g.Count() > 1) is { } twice)
        {
            ThrowTerminatingError(new ErrorRecord(
                new ExtendedTypeSystemException($"The member \"{twice.Key}\" is already present."), "AlreadyPresentPSMemberInfoInternalCollectionAdd", ErrorCategory.InvalidData, twice.Key));
        }
        return names;
    }

    private static PSObject ToObject(List<string> columns, List<string> row, string? typeName)
    {
        var result = new PSObject();
        for (int i = 0; i < columns.Count; i++)
        {
            result.Properties.Add(new PSNoteProperty(columns[i], i < row.Count ? row[i] : null), preValidated: true);
        }
        if (!string.IsNullOrEmpty(typeName))
        {
            result.TypeNames.Insert(0, "CSV:" + typeName);
        }
        return result;
    }
}

/// <summary>ConvertFrom-Csv.</summary>
[Cmdlet(VerbsData.ConvertFrom, "Csv")]
public sealed class ConvertFromCsvCommand : FromCsvCommand
{
    private readonly StringBuilder _text = new();

    [AllowNull]
    [AllowEmptyCollection]
    [AllowEmptyString]
    [Parameter(Position = 0, Mandatory = true, ValueFromPipeline = true, ValueFromPipelineByPropertyName = true)]
    public PSObject[] InputObject { get; set; } = [];

    protected override void ProcessRecord()
    {
        foreach (PSObject? item in InputObject ?? [])
        {
            _text.Append(item).Append('\n');
        }
    }

    protected override void EndProcessing()
    {
        using var reader = new StringReader(_text.ToString());
        Convert(reader);
    }
}

/// <summary>Import-Csv.</summary>
[Cmdlet(VerbsData.Import, "Csv", DefaultParameterSetName = "DelimiterPath")]
public sealed class ImportCsvCommand : FromCsvCommand
{
    [Parameter(Position = 0, ValueFromPipeline = true, ParameterSetName = "DelimiterPath", Mandatory = true)]
    public string[] Path { get; set; } = [];

    [Alias("PSPath", "LP")]
    [Parameter(ValueFromPipelineByPropertyName = true, ParameterSetName = "DelimiterLiteralPath", Mandatory = true)]
    public string[] LiteralPath { get; set; } = [];

    [ArgumentToEncoding]
    [EncodingCompletions]
    [Parameter]
    public Encoding Encoding { get; set; } = TextEncodings.Default;

    protected override void ProcessRecord()
    {
        bool literal = LiteralPath.Length > 0;
        foreach (string path in literal ? LiteralPath : Path)
        {
            foreach (string file in FileSource.Resolve(this, path, literal))
            {
                using StreamReader? reader = FileSource.Open(this, file, Encoding);
                if (reader is not null)
                {
                    Convert(reader);
                }
            }
        }
    }
}
