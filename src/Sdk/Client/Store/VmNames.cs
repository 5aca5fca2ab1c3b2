using System.Text;
using VirtPS.Sdk;

namespace VirtPS.Client.Store;

/// <summary>What a VM may be called, and how names are compared and matched.</summary>
internal static class VmNames
{
    public const int MaxLength = 100;

    public static StringComparer Comparer => StringComparer.OrdinalIgnoreCase;

    /// <summary>Refuses names that cannot be typed, matched or shown: VMNameInvalid says which rule and where.</summary>
    public static void Validate(string? name)
    {
        if (string.IsNullOrWhiteSpace(name))
            throw Invalid(name, "it is empty");
        if (name.Length > MaxLength)
            throw Invalid(name[..20] + "…", $"it has {name.Length} characters");
        if (char.IsWhiteSpace(name[0]) || char.IsWhiteSpace(name[^1]))
            throw Invalid(name, "it begins or ends with a space");
        if (name is "." or "..")
            throw Invalid(name, "it means a folder");
        for (int i = 0; i < name.Length; i++)
        {
            char c = name[i];
            if (char.IsControl(c) || char.IsSurrogate(c) && !IsPaired(name, i))
                throw Invalid(new string([.. name.Select(x => char.IsControl(x) || char.IsSurrogate(x) ? '?' : x)]), $"character {i + 1} (U+{(int)c:X4}) cannot be shown");
            if ("/\\*?[]`:\"<>|".Contains(c, StringComparison.Ordinal))
                throw Invalid(name, $"character {i + 1} is '{c}'");
        }
    }

    /// <summary>Whether a name has PowerShell wildcards (about_Wildcards); those behind a backtick are none.</summary>
    public static bool HasWildcards(string pattern)
    {
        for (int i = 0; i < pattern.Length; i++)
        {
            if (pattern[i] == '`')
                i++;
            else if (pattern[i] is '*' or '?' or '[')
                return true;
        }

        return false;
    }

    /// <summary>PowerShell's wildcards: <c>*</c>, <c>?</c>, <c>[a-z]</c>, backtick takes the next character literally; no case.</summary>
    public static bool Matches(string pattern, string name) => Match(pattern, name);

    /// <summary>The pattern with its backticks taken away, for names that have no wildcards.</summary>
    public static string Unescape(string pattern)
    {
        if (!pattern.Contains('`', StringComparison.Ordinal))
            return pattern;
        var text = new StringBuilder(pattern.Length);
        for (int i = 0; i < pattern.Length; i++)
        {
            if (pattern[i] == '`' && i + 1 < pattern.Length)
                i++;
            text.Append(pattern[i]);
        }

        return text.ToString();
    }

    private static bool Match(ReadOnlySpan<char> pattern, ReadOnlySpan<char> text)
    {
        while (pattern.Length > 0)
        {
            if (pattern[0] == '*')
            {
                pattern = pattern.TrimStart('*');
                for (int i = 0; i <= text.Length; i++)
                {
                    if (Match(pattern, text[i..]))
                        return true;
                }

                return false;
            }

            if (text.Length == 0 || !MatchOne(ref pattern, text[0]))
                return false;
            text = text[1..];
        }

        return text.Length == 0;
    }

    /// <summary>Takes one element off the pattern and says whether it accepts <paramref name="c"/>.</summary>
    private static bool MatchOne(ref ReadOnlySpan<char> pattern, char c)
    {
        char p = pattern[0];
        int close = p == '[' ? pattern.IndexOf(']') : -1;
        if (close > 1)
        {
            bool inSet = InSet(pattern[1..close], c);
            pattern = pattern[(close + 1)..];
            return inSet;
        }

        if (p == '`' && pattern.Length > 1)
        {
            pattern = pattern[1..];
            p = pattern[0];
        }
        else if (p == '?')
        {
            pattern = pattern[1..];
            return true;
        }

        pattern = pattern[1..];
        return Fold(p) == Fold(c);
    }

    private static bool InSet(ReadOnlySpan<char> set, char c)
    {
        c = Fold(c);
        for (int i = 0; i < set.Length; i++)
        {
            if (i + 2 < set.Length && set[i + 1] == '-')
            {
                if (Fold(set[i]) <= c && c <= Fold(set[i + 2]))
                    return true;
                i += 2;
            }
            else if (Fold(set[i]) == c)
            {
                return true;
            }
        }

        return false;
    }

    private static char Fold(char c) => char.ToUpperInvariant(c);

    private static bool IsPaired(string name, int i) =>
        char.IsHighSurrogate(name[i]) ? i + 1 < name.Length && char.IsLowSurrogate(name[i + 1]) : i > 0 && char.IsHighSurrogate(name[i - 1]);

    private static VirtException Invalid(string? name, string why) =>
        new(ErrorIds.VMNameInvalid, $"'{name}' cannot be a VM's name: {why}.", $"Use 1 to {MaxLength} characters without path separators, wildcards, quotes, colons, control characters, and without spaces at the ends.", name);
}
