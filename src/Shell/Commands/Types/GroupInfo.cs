using System.Collections;
using System.Collections.ObjectModel;
using System.Management.Automation;

namespace Microsoft.PowerShell.Commands;

/// <summary>One group without its elements. The name is PowerShell's own, so that the engine's view of it applies.</summary>
public class GroupInfoNoElement
{
    internal GroupInfoNoElement(string name, ArrayList values, int count)
    {
        Name = name;
        Values = values;
        Count = count;
    }

    /// <summary>The values of the grouping properties.</summary>
    public ArrayList Values { get; }

    /// <summary>How many objects are in the group.</summary>
    public int Count { get; }

    /// <summary>The values as text.</summary>
    public string Name { get; }
}

/// <summary>One group with its elements.</summary>
public sealed class GroupInfo : GroupInfoNoElement
{
    internal GroupInfo(string name, ArrayList values, Collection<PSObject> group)
        : base(name, values, group.Count) => Group = group;

    /// <summary>The objects.</summary>
    public Collection<PSObject> Group { get; }
}
