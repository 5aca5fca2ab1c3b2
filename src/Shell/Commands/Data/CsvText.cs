using System.Text;

namespace VirtPS.Shell.Commands.Data;

/// <summary>When a CSV field is put in quotes.</summary>
public enum QuoteKind
{
    Never,
    Always,
    AsNeeded,
}

/// <summary>CSV in both directions (RFC 4180, with any delimiter).</summary>
internal static class CsvText
{
    /// <summary>One row as a line.</summary>
    public static string Format(IEnumerable<(string? Value, bool ForceQuote)> fields, char delimiter, QuoteKind quotes)
    {
        var line = new StringBuilder();
        bool first = true;
        foreach ((string? value, bool force) in fields)
        {
            if (!first)
            {
                line.Append(delimiter);
            }
            first = false;
            if (value is null)
            {
                continue; // null is an empty field without quotes; "" has them
            }
            bool needs = value.AsSpan().ContainsAny('"', '\n', '\r') || value.Contains(delimiter, StringComparison.Ordinal);
            if (force || quotes == QuoteKind.Always || (quotes == QuoteKind.AsNeeded && needs))
            {
                line.Append('"').Append(value.Replace("\"", "\"\"", StringComparison.Ordinal)).Append('"');
            }
            else
            {
                line.Append(value);
            }
        }
        return line.ToString();
    }

    /// <summary>The next row, which may span lines; null at the end. Empty lines are skipped.</summary>
    public static List<string>? Read(TextReader reader, char delimiter)
    {
        string? line;
        do
        {
            line = reader.ReadLine();
        }
        while (line is not null && line.Length == 0);
        if (line is null)
        {
            return null;
        }
        var fields = new List<string>();
        var field = new StringBuilder();
        int i = 0;
        bool more = true;
        while (more)
        {
            field.Clear();
            while (i < line.Length && line[i] is (' ' or '\t') && line[i] != delimiter)
            {
                field.Append(line[i++]);
            }
            if (i < line.Length && line[i] == '"')
            {
                field.Clear();
                i = ReadQuoted(reader, ref line, i + 1, field);
            }
            while (i < line.Length && line[i] != delimiter)
            {
                field.Append(line[i++]);
            }
            fields.Add(field.ToString());
            more = i < line.Length;
            i++;
        }
        return fields;
    }

    private static int ReadQuoted(TextReader reader, ref string line, int i, StringBuilder field)
    {
        while (true)
        {
            if (i >= line.Length)
            {
                string? next = reader.ReadLine();
                if (next is null)
                {
                    return i; // an unclosed quote ends with the text
                }
                field.Append('\n');
                line = next;
                i = 0;
                continue;
            }
            if (line[i] != '"')
            {
                field.Append(line[i++]);
            }
            else if (i + 1 < line.Length && line[i + 1] == '"')
            {
                field.Append('"');
                i += 2;
            }
            else
            {
                return i + 1;
            }
        }
    }
}
