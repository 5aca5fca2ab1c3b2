using System.Collections;
using VirtPS.Sdk.Machine;

namespace VirtPS.Infrastructure;

/// <summary>A strategy's options as people give them: a hashtable, and the one that has a parameter of its own.</summary>
internal static class StrategyOptionTable
{
    private const string EnlightenmentOption = "enlightenment";

    /// <summary>Null where nothing was given.</summary>
    /// <param name="given">Takes the place of all of <paramref name="present"/>.</param>
    /// <param name="present">The VM's options now.</param>
    /// <param name="enlightenment">Wins over the table's.</param>
    public static IReadOnlyDictionary<string, string>? Merge(Hashtable? given, IReadOnlyDictionary<string, string>? present, Enlightenment? enlightenment)
    {
        if (given is null && enlightenment is null)
            return null;
        var result = new Dictionary<string, string>(StringComparer.OrdinalIgnoreCase);
        if (given is not null)
        {
            foreach (DictionaryEntry entry in given)
                result[$"{entry.Key}"] = $"{entry.Value}";
        }
        else if (present is not null)
        {
            foreach ((string name, string value) in present)
                result[name] = value;
        }

        if (enlightenment is { } wanted)
            result[EnlightenmentOption] = wanted.ToString();
        return result;
    }
}
