using System.Collections;
using System.Management.Automation;
using Microsoft.PowerShell.Commands;

namespace VirtPS.Shell.Commands.Support;

/// <summary>One entry of a -Property argument: a name (with wildcards), a script block, or a hashtable with Expression and Name.</summary>
internal sealed class PropertySpec
{
    private PropertySpec(PSPropertyExpression expression, string? label, IDictionary? options)
    {
        Expression = expression;
        Label = label;
        Options = options;
    }

    public PSPropertyExpression Expression { get; }

    /// <summary>The name given for the result; null to use the property's own.</summary>
    public string? Label { get; }

    private IDictionary? Options { get; }

    /// <summary>A boolean option of the hashtable (Ascending, Descending), by any unambiguous beginning; null when absent.</summary>
    public bool? Flag(string name) => Find(Options, name) is { } value ? LanguagePrimitives.IsTrue(value) : null;

    public static PropertySpec[] Parse(PSCmdlet command, object[]? arguments) =>
        (arguments ?? []).Select(a => Parse(command, a)).ToArray();

    private static PropertySpec Parse(PSCmdlet command, object argument)
    {
        object value = argument is PSObject wrapped ? wrapped.BaseObject : argument;
        if (value is not IDictionary options)
        {
            return new PropertySpec(ToExpression(command, value), label: null, options: null);
        }
        object? expression = Find(options, "Expression");
        object? label = Find(options, "Name") ?? Find(options, "Label");
        if (expression is null)
        {
            command.ThrowTerminatingError(new ErrorRecord(
                new PSArgumentException("A property's hashtable needs the key Expression."), "DictionaryKeyMissing", ErrorCategory.InvalidArgument, options));
        }
        return new PropertySpec(ToExpression(command, expression is PSObject o ? o.BaseObject : expression!), label?.ToString(), options);
    }

    private static PSPropertyExpression ToExpression(PSCmdlet command, object value)
    {
        switch (value)
        {
            case PSPropertyExpression ready:
                return ready;
            case ScriptBlock script:
                return new PSPropertyExpression(script);
            default:
                string text = LanguagePrimitives.ConvertTo<string>(value);
                if (string.IsNullOrEmpty(text))
                {
                    command.ThrowTerminatingError(new ErrorRecord(
                        new PSArgumentException("A property name may not be empty."), "EmptyPropertyName", ErrorCategory.InvalidArgument, value));
                }
                return new PSPropertyExpression(text);
        }
    }

    private static object? Find(IDictionary? options, string name)
    {
        foreach (DictionaryEntry entry in options ?? new Hashtable())
        {
            string key = entry.Key?.ToString() ?? "";
            if (key.Length > 0 && name.StartsWith(key, StringComparison.OrdinalIgnoreCase))
            {
                return entry.Value;
            }
        }
        return null;
    }

    /// <summary>The first value this names in an object; false when the object has no such property or the script failed.</summary>
    public bool TryGetValue(PSObject target, out object? value)
    {
        List<PSPropertyExpressionResult> results = Expression.GetValues(target);
        value = results.Count > 0 && results[0].Exception is null ? results[0].Result : null;
        return results.Count > 0 && results[0].Exception is null;
    }
}
