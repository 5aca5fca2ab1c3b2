using System.Collections;
using System.Globalization;
using System.Management.Automation;
using System.Numerics;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;

namespace VirtPS.Shell.Commands.Data;

/// <summary>Writes PowerShell objects as JSON text, to a depth; what lies deeper is written as text.</summary>
internal sealed class JsonWriter(int depth, bool compress, bool enumsAsStrings, JavaScriptEncoder encoder, CancellationToken cancel)
{
    private readonly StringBuilder _text = new();

    /// <summary>True when something lay deeper than the limit.</summary>
    public bool Truncated { get; private set; }

    public string Write(object? value)
    {
        Value(value, 0);
        return _text.ToString();
    }

    private void Value(object? value, int level)
    {
        cancel.ThrowIfCancellationRequested();
        object? item = value is PSObject o && o.BaseObject is not PSCustomObject ? o.BaseObject : value;
        if (item is null || item is DBNull || IsAutomationNull(item))
        {
            _text.Append("null");
        }
        else if (!Scalar(item))
        {
            Compound(value!, item, level);
        }
    }

    private static bool IsAutomationNull(object value) => ReferenceEquals(value, System.Management.Automation.Internal.AutomationNull.Value);

    private bool Scalar(object item)
    {
        switch (item)
        {
            case string s: Quote(s); return true;
            case char c: Quote(c.ToString()); return true;
            case bool b: _text.Append(b ? "true" : "false"); return true;
            case DateTime t: Quote(t.ToString("yyyy-MM-ddTHH:mm:ss.FFFFFFFK", CultureInfo.InvariantCulture)); return true;
            case DateTimeOffset t: Quote(t.ToString("yyyy-MM-ddTHH:mm:ss.FFFFFFFK", CultureInfo.InvariantCulture)); return true;
            case Guid or Uri or Version or SemanticVersion: Quote(item.ToString()!); return true;
            case Enum e: AppendEnum(e); return true;
            case double d: Number(d.ToString("R", CultureInfo.InvariantCulture), double.IsFinite(d)); return true;
            case float f: Number(f.ToString("R", CultureInfo.InvariantCulture), float.IsFinite(f)); return true;
            case decimal m: _text.Append(m.ToString(CultureInfo.InvariantCulture)); return true;
            case sbyte or byte or short or ushort or int or uint or long or ulong or BigInteger:
                _text.Append(((IFormattable)item).ToString(null, CultureInfo.InvariantCulture));
                return true;
            case SwitchParameter p: _text.Append(p.IsPresent ? "true" : "false"); return true;
            default: return false;
        }
    }

    private void AppendEnum(Enum value)
    {
        if (enumsAsStrings)
        {
            Quote(value.ToString());
        }
        else
        {
            _text.Append(value.ToString("D"));
        }
    }

    /// <summary>A whole double is written with its ".0", so that it is read back as what it was; infinities become text.</summary>
    private void Number(string text, bool finite)
    {
        if (!finite)
        {
            Quote(text);
            return;
        }
        _text.Append(text);
        if (!text.AsSpan().ContainsAny('.', 'E'))
        {
            _text.Append(".0");
        }
    }

    private void Compound(object wrapped, object item, int level)
    {
        if (level > depth)
        {
            Truncated = true;
            Quote(item is IEnumerable and not IDictionary
                ? string.Join(' ', ((IEnumerable)item).Cast<object?>().Select(x => x is null ? "" : PSObject.AsPSObject(x).ToString()))
                : LanguagePrimitives.ConvertTo<string>(wrapped));
            return;
        }
        switch (item)
        {
            case IDictionary dictionary:
                Object(dictionary.Cast<DictionaryEntry>().Select(e => (Text(e.Key), e.Value)), level);
                break;
            case IEnumerable list:
                Array(list, level);
                break;
            default:
                Object(Properties(PSObject.AsPSObject(wrapped)), level);
                break;
        }
    }

    private static string Text(object key) => PSObject.AsPSObject(key).ToString() ?? "";

    private static IEnumerable<(string, object?)> Properties(PSObject item)
    {
        foreach (PSPropertyInfo property in item.Properties)
        {
            if (!property.IsGettable || (item.BaseObject is not PSCustomObject && property is PSScriptProperty or PSAliasProperty or PSCodeProperty))
            {
                continue; // Only what is the object's own, and notes: computed members repeat or do work.
            }
            object? value;
            try
            {
                value = property.Value;
            }
            catch (GetValueException)
            {
                value = null; // A getter that throws has no value; the other properties do.
            }
            yield return (property.Name, value);
        }
    }

    private void Object(IEnumerable<(string Name, object? Value)> members, int level)
    {
        _text.Append('{');
        bool any = false;
        foreach ((string name, object? value) in members)
        {
            Separate(any, level + 1);
            any = true;
            Quote(name);
            _text.Append(compress ? ":" : ": ");
            Value(value, level + 1);
        }
        Close('}', any, level);
    }

    private void Array(IEnumerable items, int level)
    {
        _text.Append('[');
        bool any = false;
        foreach (object? item in items)
        {
            Separate(any, level + 1);
            any = true;
            Value(item, level + 1);
        }
        Close(']', any, level);
    }

    private void Separate(bool after, int level)
    {
        if (after)
        {
            _text.Append(',');
        }
        Break(level);
    }

    private void Close(char bracket, bool any, int level)
    {
        if (any)
        {
            Break(level);
        }
        _text.Append(bracket);
    }

    private void Break(int level)
    {
        if (!compress)
        {
            _text.AppendLine().Append(' ', level * 2);
        }
    }

    private void Quote(string text) => _text.Append('"').Append(JsonEncodedText.Encode(text, encoder).ToString()).Append('"');
}
