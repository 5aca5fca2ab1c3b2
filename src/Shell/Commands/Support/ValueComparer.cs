using System.Globalization;
using System.Management.Automation;

namespace VirtPS.Shell.Commands.Support;

/// <summary>PowerShell's order and equality of values: numbers by value, strings by culture, everything else by its text; null first.</summary>
internal sealed class ValueComparer(bool caseSensitive, CultureInfo? culture = null) : IComparer<object?>, IEqualityComparer<object?>
{
    private readonly CultureInfo _culture = culture ?? CultureInfo.CurrentCulture;

    public int Compare(object? x, object? y)
    {
        object? a = Unwrap(x);
        object? b = Unwrap(y);
        if (a is null || b is null)
        {
            return a is null ? (b is null ? 0 : -1) : 1;
        }
        if (a is string s && b is string t)
        {
            return _culture.CompareInfo.Compare(s, t, caseSensitive ? CompareOptions.None : CompareOptions.IgnoreCase);
        }
        return LanguagePrimitives.TryCompare(a, b, !caseSensitive, _culture, out int result)
            ? result
            : _culture.CompareInfo.Compare(TextOf(x), TextOf(y), caseSensitive ? CompareOptions.None : CompareOptions.IgnoreCase);
    }

    public new bool Equals(object? x, object? y) => Compare(x, y) == 0;

    public int GetHashCode(object? obj)
    {
        object? value = Unwrap(obj);
        if (value is null)
        {
            return 0;
        }
        // 1, 1.0 and "1" compare equal: they must meet in one bucket, so the hash is of the invariant text.
        string text = value is IFormattable && LanguagePrimitives.TryConvertTo(value, out double number)
            ? number.ToString(CultureInfo.InvariantCulture)
            : value.ToString() ?? "";
        return StringComparer.OrdinalIgnoreCase.GetHashCode(text);
    }

    private static object? Unwrap(object? value) => value is PSObject o ? (o.BaseObject is PSCustomObject ? o : o.BaseObject) : value;

    private static string TextOf(object? value) => value is null ? "" : PSObject.AsPSObject(value).ToString() ?? "";
}

/// <summary>Compares lists of keys one by one, each with its own direction.</summary>
internal sealed class KeyComparer(ValueComparer values, bool[] descending) : IComparer<object?[]>
{
    public int Compare(object?[]? x, object?[]? y)
    {
        for (int i = 0; i < x!.Length; i++)
        {
            int result = values.Compare(x[i], y![i]);
            if (result != 0)
            {
                return descending[i] ? -result : result;
            }
        }
        return 0;
    }
}

/// <summary>How objects are told apart when no property is named.</summary>
internal static class ObjectKeys
{
    /// <summary>The value itself for simple ones; for others the key or all properties' values.</summary>
    public static object?[] Of(PSObject item)
    {
        if (item.BaseObject is not PSCustomObject)
        {
            return [item];
        }
        return item.Properties.Where(p => p.IsGettable).SelectMany(p => new[] { p.Name, p.Value }).ToArray();
    }

    /// <summary>The properties a type says identify it (DefaultKeyPropertySet); empty for none.</summary>
    public static string[] DefaultKeys(PSObject item) =>
        item.Members["PSStandardMembers"] is PSMemberSet standard && standard.Members["DefaultKeyPropertySet"] is PSPropertySet keys
            ? keys.ReferencedPropertyNames.ToArray()
            : [];
}
