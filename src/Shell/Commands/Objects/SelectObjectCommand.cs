using System.Collections;
using System.Management.Automation;
using Microsoft.PowerShell.Commands;
using VirtPS.Shell.Commands.Support;

namespace VirtPS.Shell.Commands.Objects;

/// <summary>Select-Object.</summary>
[Cmdlet(VerbsCommon.Select, "Object", DefaultParameterSetName = "DefaultParameter")]
public sealed class SelectObjectCommand : PSCmdlet
{
    private readonly Queue<PSObject> _tail = new();
    private readonly List<PSObject> _unique = [];
    private PropertySpec[] _properties = [];
    private WildcardPattern[] _exclude = [];
    private PropertySpec? _expand;
    private HashSet<int>? _index;
    private int _seen;
    private int _written;

    [Parameter(ValueFromPipeline = true)]
    public PSObject? InputObject { get; set; }

    [Parameter(Position = 0, ParameterSetName = "DefaultParameter")]
    [Parameter(Position = 0, ParameterSetName = "SkipLastParameter")]
    public object[]? Property { get; set; }

    [Parameter(ParameterSetName = "DefaultParameter")]
    [Parameter(ParameterSetName = "SkipLastParameter")]
    public string[]? ExcludeProperty { get; set; }

    [Parameter(ParameterSetName = "DefaultParameter")]
    [Parameter(ParameterSetName = "SkipLastParameter")]
    public string? ExpandProperty { get; set; }

    [Parameter]
    public SwitchParameter Unique { get; set; }

    [Parameter]
    public SwitchParameter CaseInsensitive { get; set; }

    [Parameter(ParameterSetName = "DefaultParameter")]
    [ValidateRange(0, int.MaxValue)]
    public int Last { get; set; }

    [Parameter(ParameterSetName = "DefaultParameter")]
    [ValidateRange(0, int.MaxValue)]
    public int First { get; set; } = int.MaxValue;

    [Parameter(ParameterSetName = "DefaultParameter")]
    [Parameter(ParameterSetName = "SkipLastParameter")]
    [ValidateRange(0, int.MaxValue)]
    public int Skip { get; set; }

    [Parameter(ParameterSetName = "SkipLastParameter")]
    [ValidateRange(0, int.MaxValue)]
    public int SkipLast { get; set; }

    [Parameter(ParameterSetName = "DefaultParameter")]
    [Parameter(ParameterSetName = "IndexParameter")]
    public SwitchParameter Wait { get; set; }

    [Parameter(ParameterSetName = "IndexParameter")]
    [ValidateRange(0, int.MaxValue)]
    public int[]? Index { get; set; }

    [Parameter(ParameterSetName = "SkipIndexParameter")]
    [ValidateRange(0, int.MaxValue)]
    public int[]? SkipIndex { get; set; }

    protected override void BeginProcessing()
    {
        if (ExcludeProperty is { Length: > 0 })
        {
            _exclude = ExcludeProperty.Select(p => WildcardPattern.Get(p, WildcardOptions.IgnoreCase)).ToArray();
            Property ??= ["*"];
        }
        _properties = PropertySpec.Parse(this, Property);
        _expand = ExpandProperty is null ? null : PropertySpec.Parse(this, [ExpandProperty])[0];
        _index = (Index ?? SkipIndex)?.ToHashSet();
        if (First == 0 && Last == 0 && !Wait)
        {
            StopUpstream();
        }
    }

    private bool FirstGiven => First != int.MaxValue;

    protected override void ProcessRecord()
    {
        if (InputObject is not { } item)
        {
            return;
        }
        int position = _seen++;
        if (_index is not null)
        {
            ProcessIndexed(item, position);
        }
        else if (SkipLast > 0)
        {
            if (position >= Skip)
            {
                Delay(item, SkipLast);
            }
        }
        else if (Last > 0)
        {
            ProcessWithLast(item);
        }
        else if (position >= Skip && _written < First)
        {
            Take(item);
            StopWhenDone();
        }
    }

    private void ProcessIndexed(PSObject item, int position)
    {
        if (_index!.Contains(position) == Index is not null)
        {
            _written++;
            Emit(item);
        }
        if (Index is not null && !Wait && position >= _index.Max())
        {
            StopUpstream();
        }
    }

    /// <summary>-Last keeps the end; with -First the beginning has been written already. -Skip counts from the end unless -First is given.</summary>
    private void ProcessWithLast(PSObject item)
    {
        if (FirstGiven)
        {
            if (_seen > Skip && _written < First)
            {
                Take(item);
                return;
            }
            Keep(item, Last);
            return;
        }
        Keep(item, Last + Skip);
    }

    private void Keep(PSObject item, int count)
    {
        _tail.Enqueue(item);
        if (_tail.Count > count)
        {
            _tail.Dequeue();
        }
    }

    private void Delay(PSObject item, int count)
    {
        _tail.Enqueue(item);
        if (_tail.Count > count)
        {
            Take(_tail.Dequeue());
        }
    }

    private void Take(PSObject item)
    {
        _written++;
        Emit(item);
    }

    private void StopWhenDone()
    {
        if (FirstGiven && _written >= First && !Wait && !Unique)
        {
            StopUpstream();
        }
    }

    /// <summary>Nothing more is wanted: ends the commands before this one, the way the engine knows for it.</summary>
    private void StopUpstream() => throw (Exception)Internals.Create(
        typeof(PSObject).Assembly, "System.Management.Automation.StopUpstreamCommandsException", this);

    protected override void EndProcessing()
    {
        if (Last > 0)
        {
            int drop = FirstGiven ? 0 : Math.Min(Skip, Math.Max(_tail.Count, 0));
            foreach (PSObject item in _tail.Take(_tail.Count - drop))
            {
                Emit(item);
            }
        }
    }

    private void Emit(PSObject item)
    {
        if (_expand is not null)
        {
            EmitExpanded(item);
            return;
        }
        Output(_properties.Length == 0 ? item : Project(item, new PSObject(), setTypeName: true));
    }

    private PSObject Project(PSObject source, PSObject target, bool setTypeName)
    {
        foreach (PropertySpec spec in _properties)
        {
            AddMatches(source, target, spec);
        }
        if (setTypeName)
        {
            target.TypeNames.Insert(0, "Selected." + source.BaseObject.GetType());
        }
        return target;
    }

    private void AddMatches(PSObject source, PSObject target, PropertySpec spec)
    {
        List<PSPropertyExpression> names = spec.Expression.ResolveNames(source);
        if (names.Count == 0 && !spec.Expression.HasWildCardCharacters)
        {
            Add(target, spec.Label ?? spec.Expression.ToString(), null);
            return;
        }
        foreach (PSPropertyExpression name in names)
        {
            if (spec.Expression.Script is null && _exclude.Any(e => e.IsMatch(name.ToString())))
            {
                continue;
            }
            List<PSPropertyExpressionResult> values = name.GetValues(source);
            object? value = values.Count switch
            {
                0 => null,
                1 => values[0].Exception is null ? values[0].Result : null,
                _ => values.Select(v => v.Result).ToArray(),
            };
            Add(target, spec.Label ?? name.ToString(), value);
        }
    }

    private void Add(PSObject target, string name, object? value)
    {
        if (target.Properties[name] is not null)
        {
            WriteError(new ErrorRecord(
                new PSInvalidOperationException($"The property cannot be processed because the property \"{name}\" already exists."),
                "AlreadyExistingUserSpecifiedPropertyNoExpand", ErrorCategory.InvalidOperation, target));
            return;
        }
        target.Properties.Add(new PSNoteProperty(name, value));
    }

    private void EmitExpanded(PSObject item)
    {
        List<PSPropertyExpressionResult> results = _expand!.Expression.GetValues(item);
        if (results.Count == 0)
        {
            WriteError(new ErrorRecord(
                new PSArgumentException($"Property \"{ExpandProperty}\" cannot be found."), "ExpandPropertyNotFound", ErrorCategory.InvalidArgument, item));
            return;
        }
        foreach (PSPropertyExpressionResult result in results)
        {
            if (result.Exception is not null)
            {
                WriteError(new ErrorRecord(result.Exception, "PropertyEvaluationExpand", ErrorCategory.InvalidResult, item));
                continue;
            }
            if (result.Result is null)
            {
                continue;
            }
            IEnumerable? parts = LanguagePrimitives.GetEnumerable(result.Result);
            foreach (object? part in parts ?? new[] { result.Result })
            {
                if (part is not null)
                {
                    PSObject expanded = PSObject.AsPSObject(part);
                    Output(_properties.Length == 0 ? expanded : Project(item, expanded.Copy(), setTypeName: false));
                }
            }
        }
    }

    private void Output(PSObject item)
    {
        if (!Unique)
        {
            WriteObject(item);
            return;
        }
        var comparer = new ValueComparer(caseSensitive: !CaseInsensitive);
        object?[] keys = ObjectKeys.Of(item);
        bool known = _unique.Any(u =>
        {
            object?[] other = ObjectKeys.Of(u);
            return other.Length == keys.Length && keys.Zip(other).All(p => comparer.Equals(p.First, p.Second));
        });
        if (!known)
        {
            _unique.Add(item);
            WriteObject(item);
        }
    }
}
