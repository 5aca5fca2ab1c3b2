using System.Collections;
using System.Collections.ObjectModel;
using System.Globalization;
using System.Management.Automation;
using Microsoft.PowerShell.Commands;
using VirtPS.Shell.Commands.Support;

namespace VirtPS.Shell.Commands.Objects;

/// <summary>Group-Object.</summary>
[Cmdlet(VerbsData.Group, "Object", DefaultParameterSetName = "HashTable")]
[OutputType(typeof(Hashtable), typeof(GroupInfo), typeof(GroupInfoNoElement))]
public sealed class GroupObjectCommand : OrderingCommand
{
    [Parameter]
    public SwitchParameter NoElement { get; set; }

    [Alias("AHT")]
    [Parameter(ParameterSetName = "HashTable")]
    public SwitchParameter AsHashTable { get; set; }

    [Parameter(ParameterSetName = "HashTable")]
    public SwitchParameter AsString { get; set; }

    protected override void EndProcessing()
    {
        PropertySpec[] properties = PropertySpec.Parse(this, Property);
        var comparer = new KeyComparer(Comparer, new bool[Math.Max(properties.Length, 1)]);
        var groups = new SortedDictionary<object?[], Collection<PSObject>>(comparer);
        foreach (PSObject item in Items)
        {
            object?[] keys = Keys(properties, item);
            if (!groups.TryGetValue(keys, out Collection<PSObject>? group))
            {
                groups.Add(keys, group = []);
            }
            group.Add(item);
        }
        if (AsHashTable)
        {
            WriteTable(groups);
            return;
        }
        foreach ((object?[] keys, Collection<PSObject> group) in groups)
        {
            var values = new ArrayList(keys.Select(Bare).ToArray());
            string name = string.Join(", ", keys.Select(Text));
            WriteObject(NoElement ? new GroupInfoNoElement(name, values, group.Count) : new GroupInfo(name, values, group));
        }
    }

    private void WriteTable(SortedDictionary<object?[], Collection<PSObject>> groups)
    {
        var table = CaseSensitive ? new Hashtable() : new Hashtable(StringComparer.OrdinalIgnoreCase);
        foreach ((object?[] keys, Collection<PSObject> group) in groups)
        {
            object key = AsString || keys.Length > 1 ? string.Join(", ", keys.Select(Text)) : Bare(keys[0]) ?? "";
            table[key] = group;
        }
        WriteObject(table);
    }

    private static object? Bare(object? value) => value is PSObject { BaseObject: not PSCustomObject } o ? o.BaseObject : value;

    private static string Text(object? value) => value switch
    {
        null => "",
        PSObject o => o.ToString() ?? "",
        object[] list => string.Join(' ', list.Select(Text)),
        _ => LanguagePrimitives.ConvertTo<string>(value) ?? Convert.ToString(value, CultureInfo.CurrentCulture) ?? "",
    };
}
