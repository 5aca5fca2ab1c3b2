using System.Globalization;
using System.Management.Automation;
using System.Numerics;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Unicode;

namespace VirtPS.Shell.Commands.Data;

/// <summary>What ConvertTo-Json escapes.</summary>
public enum StringEscapeHandling
{
    Default,
    EscapeNonAscii,
    EscapeHtml,
}

/// <summary>ConvertTo-Json.</summary>
[Cmdlet(VerbsData.ConvertTo, "Json")]
[OutputType(typeof(string))]
public sealed class ConvertToJsonCommand : PSCmdlet, IDisposable
{
    private readonly List<object?> _items = [];
    private readonly CancellationTokenSource _cancel = new();

    [AllowNull]
    [Parameter(Position = 0, Mandatory = true, ValueFromPipeline = true)]
    public object? InputObject { get; set; }

    [Parameter]
    [ValidateRange(0, 100)]
    public int Depth { get; set; } = 2;

    [Parameter]
    public SwitchParameter Compress { get; set; }

    [Parameter]
    public SwitchParameter EnumsAsStrings { get; set; }

    [Parameter]
    public SwitchParameter AsArray { get; set; }

    [Parameter]
    public StringEscapeHandling EscapeHandling { get; set; }

    protected override void ProcessRecord() => _items.Add(InputObject);

    protected override void EndProcessing()
    {
        if (_items.Count == 0)
        {
            return;
        }
        JavaScriptEncoder encoder = EscapeHandling switch
        {
            StringEscapeHandling.EscapeNonAscii => JavaScriptEncoder.Create(UnicodeRanges.BasicLatin),
            StringEscapeHandling.EscapeHtml => JavaScriptEncoder.Create(UnicodeRanges.All),
            _ => JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
        };
        var writer = new JsonWriter(Depth, Compress, EnumsAsStrings, encoder, _cancel.Token);
        try
        {
            WriteObject(writer.Write(_items.Count > 1 || AsArray ? _items : _items[0]));
        }
        catch (OperationCanceledException)
        {
            return; // Ctrl-C
        }
        if (writer.Truncated)
        {
            WriteWarning($"Resulting JSON is truncated as serialization has exceeded the set depth of {Depth}.");
        }
    }

    protected override void StopProcessing() => _cancel.Cancel();

    public void Dispose() => _cancel.Dispose();
}

/// <summary>ConvertFrom-Json.</summary>
[Cmdlet(VerbsData.ConvertFrom, "Json")]
public sealed class ConvertFromJsonCommand : PSCmdlet
{
    private readonly List<string> _lines = [];

    [AllowEmptyString]
    [Parameter(Position = 0, Mandatory = true, ValueFromPipeline = true)]
    public string InputObject { get; set; } = "";

    [Parameter]
    public SwitchParameter AsHashtable { get; set; }

    [Parameter]
    [ValidateRange(1, int.MaxValue)]
    public int Depth { get; set; } = 1024;

    [Parameter]
    public SwitchParameter NoEnumerate { get; set; }

    [Parameter]
    [ValidateSet("Default", "Local", "Utc", "Offset", "String")]
    public string DateKind { get; set; } = "Default";

    protected override void ProcessRecord() => _lines.Add(InputObject);

    protected override void EndProcessing()
    {
        if (_lines.Count == 0)
        {
            return;
        }
        // Several strings are the lines of one document, unless the first is a document by itself.
        if (_lines.Count > 1 && TryParse(_lines[0], out JsonDocument? first))
        {
            Emit(first!);
            foreach (string line in _lines.Skip(1))
            {
                ConvertOne(line);
            }
            return;
        }
        ConvertOne(string.Join('\n', _lines));
    }

    private JsonDocumentOptions Options => new()
    {
        AllowTrailingCommas = true,
        CommentHandling = JsonCommentHandling.Skip,
        MaxDepth = Depth,
    };

    private bool TryParse(string text, out JsonDocument? document)
    {
        try
        {
            document = JsonDocument.Parse(text, Options);
            return true;
        }
        catch (JsonException)
        {
            document = null;
            return false;
        }
    }

    private void ConvertOne(string text)
    {
        if (string.IsNullOrWhiteSpace(text))
        {
            return;
        }
        try
        {
            Emit(JsonDocument.Parse(text, Options));
        }
        catch (JsonException e)
        {
            ThrowTerminatingError(new ErrorRecord(
                new ArgumentException($"Conversion from JSON failed with error: {e.Message}", e), "System.ArgumentException", ErrorCategory.NotSpecified, null));
        }
    }

    private void Emit(JsonDocument document)
    {
        using (document)
        {
            WriteObject(Convert(document.RootElement), enumerateCollection: !NoEnumerate);
        }
    }

    private object? Convert(JsonElement element)
    {
        switch (element.ValueKind)
        {
            case JsonValueKind.Object: return AsHashtable ? ToTable(element) : ToObject(element);
            case JsonValueKind.Array: return element.EnumerateArray().Select(Convert).ToArray();
            case JsonValueKind.String: return ToText(element.GetString()!);
            case JsonValueKind.Number: return ToNumber(element.GetRawText());
            case JsonValueKind.True: return true;
            case JsonValueKind.False: return false;
            default: return null;
        }
    }

    private PSObject ToObject(JsonElement element)
    {
        var result = new PSObject();
        foreach (JsonProperty property in element.EnumerateObject())
        {
            if (property.Name.Length == 0)
            {
                Fail("EmptyKeyInJsonString", "The provided JSON includes a property whose name is an empty string, this is only supported using the -AsHashTable switch.");
            }
            if (result.Properties[property.Name] is { } existing)
            {
                Fail("DuplicateKeysInJsonString", $"Cannot convert the JSON string because it contains keys that differ only in case ('{existing.Name}', '{property.Name}'). Please use the -AsHashTable switch instead.");
            }
            result.Properties.Add(new PSNoteProperty(property.Name, Convert(property.Value)), preValidated: true);
        }
        return result;
    }

    private System.Collections.IDictionary ToTable(JsonElement element)
    {
        var table = (System.Collections.IDictionary)new System.Collections.Specialized.OrderedDictionary(StringComparer.Ordinal);
        foreach (JsonProperty property in element.EnumerateObject())
        {
            table[property.Name] = Convert(property.Value);
        }
        return table;
    }

    private void Fail(string id, string message) =>
        ThrowTerminatingError(new ErrorRecord(new InvalidOperationException(message), id, ErrorCategory.InvalidOperation, null));

    private object ToText(string text)
    {
        // ISO 8601 with a time is read as a date, the way pwsh does.
        bool maybeDate = DateKind != "String" && text.Length >= 19 && text[10] == 'T' && text[4] == '-' && char.IsAsciiDigit(text[0]);
        if (!maybeDate || !DateTime.TryParse(text, CultureInfo.InvariantCulture, DateTimeStyles.RoundtripKind, out DateTime date))
        {
            return text;
        }
        return DateKind switch
        {
            "Local" => date.ToLocalTime(),
            "Utc" => date.ToUniversalTime(),
            "Offset" => DateTimeOffset.Parse(text, CultureInfo.InvariantCulture),
            _ => date,
        };
    }

    private static object ToNumber(string text)
    {
        if (!text.AsSpan().ContainsAny('.', 'e', 'E'))
        {
            BigInteger whole = BigInteger.Parse(text, CultureInfo.InvariantCulture);
            return whole >= long.MinValue && whole <= long.MaxValue ? (object)(long)whole : whole;
        }
        return double.Parse(text, NumberStyles.Float, CultureInfo.InvariantCulture);
    }
}

/// <summary>Test-Json without a schema: is the text JSON?</summary>
[Cmdlet(VerbsDiagnostic.Test, "Json")]
[OutputType(typeof(bool))]
public sealed class TestJsonCommand : PSCmdlet
{
    [AllowEmptyString]
    [Parameter(Position = 0, Mandatory = true, ValueFromPipeline = true)]
    public string Json { get; set; } = "";

    protected override void ProcessRecord()
    {
        try
        {
            JsonDocument.Parse(Encoding.UTF8.GetBytes(Json)).Dispose();
            WriteObject(true);
        }
        catch (JsonException e)
        {
            WriteError(new ErrorRecord(e, "InvalidJson", ErrorCategory.InvalidData, Json));
            WriteObject(false);
        }
    }
}
