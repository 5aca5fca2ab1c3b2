using System.Collections;
using System.Management.Automation;
using System.Management.Automation.Provider;
using VirtPS.Shell.Commands.Support;

namespace VirtPS.Shell.Commands.Items;

/// <summary>Base of the content cmdlets.</summary>
public abstract class ContentCommand : FilteredPathCommand
{
    private protected IEnumerable<T> Open<T>(string method, string path)
        where T : class
    {
        IEnumerable<T> result = [];
        Guard(() => result = ((IEnumerable)Internals.Call(Provider.Content, method, path, NewContext())!).Cast<T>().ToList());
        return result;
    }
}

/// <summary>Get-Content.</summary>
[Cmdlet(VerbsCommon.Get, "Content", DefaultParameterSetName = "Path")]
public sealed class GetContentCommand : ContentCommand
{
    [Parameter(ValueFromPipelineByPropertyName = true)]
    public long ReadCount { get; set; } = 1;

    [Alias("First", "Head")]
    [Parameter(ValueFromPipelineByPropertyName = true)]
    public long TotalCount { get; set; } = -1;

    [Alias("Last")]
    [Parameter(ValueFromPipelineByPropertyName = true)]
    public int Tail { get; set; } = -1;

    private protected override object? AskDynamicParameters(object context) =>
        Internals.Call(Provider.Content, "GetContentReaderDynamicParameters", FirstPath, context);

    protected override void ProcessRecord()
    {
        if (TotalCount >= 0 && Tail >= 0)
        {
            ThrowTerminatingError(new ErrorRecord(
                new PSInvalidOperationException("The parameters TotalCount and Tail cannot be used together. Please specify only one parameter."),
                "TailAndHeadCannotCoexist", ErrorCategory.InvalidOperation, null));
        }
        if (TotalCount == 0)
        {
            return;
        }
        foreach (string path in PathValues ?? [])
        {
            foreach (PathInfo found in ResolvePaths(path))
            {
                Read(found);
            }
        }
    }

    private void Read(PathInfo found)
    {
        LiteralValues = true; // Each reader is opened by its resolved path.
        foreach (IContentReader reader in Open<IContentReader>("GetReader", found.Path))
        {
            try
            {
                if (Tail >= 0)
                {
                    ReadTail(reader, found);
                }
                else
                {
                    ReadForward(reader, found);
                }
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                WriteError(new ErrorRecord(e, "GetContentReaderUnauthorizedAccessError", ErrorCategory.ReadError, found.Path));
            }
            finally
            {
                reader.Close();
                reader.Dispose();
            }
        }
    }

    private void ReadForward(IContentReader reader, PathInfo path)
    {
        long left = TotalCount;
        long line = 1;
        // One object at a time keeps -Wait live; more only when the caller wants arrays.
        while (left != 0 && !Stopping)
        {
            long want = ReadCount <= 0 ? (left > 0 ? left : 0) : left > 0 ? Math.Min(ReadCount, left) : ReadCount;
            IList items = reader.Read(want);
            if (items is null || items.Count == 0)
            {
                return;
            }
            left = left > 0 ? Math.Max(left - items.Count, 0) : left;
            Emit(items, path, ref line);
        }
    }

    private void ReadTail(IContentReader reader, PathInfo path)
    {
        if (Tail == 0 && !DynamicSwitch("Wait"))
        {
            return;
        }
        if (DynamicSwitch("Wait"))
        {
            // With -Wait the end never comes: go to the last lines by counting them first.
            FollowTail(reader, path);
            return;
        }
        var last = new Queue<object>();
        for (IList items = reader.Read(1024); items is { Count: > 0 } && !Stopping; items = reader.Read(1024))
        {
            foreach (object? item in items)
            {
                last.Enqueue(item!);
                if (last.Count > Tail)
                {
                    last.Dequeue();
                }
            }
        }
        long line = 1;
        foreach (object item in last)
        {
            Emit(new[] { item }, path, ref line);
        }
    }

    private void FollowTail(IContentReader reader, PathInfo path)
    {
        long total = File.ReadLines(path.ProviderPath).LongCount();
        for (long skip = total - Tail; skip > 0; skip--)
        {
            reader.Read(1);
        }
        ReadForward(reader, path);
    }

    private void Emit(IList items, PathInfo path, ref long line)
    {
        if (ReadCount == 1 || items.Count == 1)
        {
            foreach (object? item in items)
            {
                WriteObject(Annotate(item!, path, line++));
            }
            return;
        }
        object[] batch = new object[items.Count];
        items.CopyTo(batch, 0);
        WriteObject(Annotate(batch, path, line), enumerateCollection: false);
        line += items.Count;
    }

    private static PSObject Annotate(object item, PathInfo path, long line)
    {
        // Bytes carry no notes in pwsh either; on millions of them they would cost more than the bytes.
        PSObject wrapped = PSObject.AsPSObject(item);
        if (item is byte)
        {
            return wrapped;
        }
        wrapped.Properties.Add(new PSNoteProperty("PSPath", path.Provider + "::" + path.ProviderPath), preValidated: true);
        wrapped.Properties.Add(new PSNoteProperty("PSParentPath", path.Provider + "::" + (System.IO.Path.GetDirectoryName(path.ProviderPath) ?? "")), preValidated: true);
        wrapped.Properties.Add(new PSNoteProperty("PSChildName", System.IO.Path.GetFileName(path.ProviderPath)), preValidated: true);
        wrapped.Properties.Add(new PSNoteProperty("PSDrive", path.Drive), preValidated: true);
        wrapped.Properties.Add(new PSNoteProperty("PSProvider", path.Provider), preValidated: true);
        wrapped.Properties.Add(new PSNoteProperty("ReadCount", line), preValidated: true);
        return wrapped;
    }
}

/// <summary>What Set-Content and Add-Content share.</summary>
public abstract class WriteContentCommand : ContentCommand
{
    private List<IContentWriter>? _writers;

    [AllowNull]
    [AllowEmptyCollection]
    [Parameter(Mandatory = true, Position = 1, ValueFromPipeline = true, ValueFromPipelineByPropertyName = true)]
    public object[] Value { get; set; } = [];

    [Parameter(Position = 0, ParameterSetName = "Path", Mandatory = true, ValueFromPipelineByPropertyName = true)]
    public override string[] Path
    {
        get => base.Path;
        set => base.Path = value;
    }

    [Parameter]
    public SwitchParameter PassThru { get; set; }

    private protected abstract string Action { get; }

    private protected override object? AskDynamicParameters(object context) =>
        Internals.Call(Provider.Content, "GetContentWriterDynamicParameters", FirstPath, context);

    /// <summary>The writers, opened with the first record, so that nothing is touched before a value exists.</summary>
    private List<IContentWriter> Writers()
    {
        if (_writers is not null)
        {
            return _writers;
        }
        _writers = [];
        foreach (string path in PathValues ?? [])
        {
            foreach (string target in Targets(path))
            {
                if (!ShouldProcess("Path: " + target, Action))
                {
                    continue;
                }
                Prepare(target);
                foreach (IContentWriter writer in Open<IContentWriter>("GetWriter", target))
                {
                    Position(writer);
                    _writers.Add(writer);
                }
            }
        }
        return _writers;
    }

    /// <summary>Existing items that a pattern names, or the path itself where it may be created.</summary>
    private List<string> Targets(string path)
    {
        if (LiteralValues || !WildcardPattern.ContainsWildcardCharacters(path))
        {
            return [path];
        }
        List<string> found = ResolvePaths(path).Select(p => p.Path).ToList();
        LiteralValues = true;
        return found;
    }

    private protected abstract void Prepare(string path);

    private protected abstract void Position(IContentWriter writer);

    protected override void ProcessRecord()
    {
        if (PassThru)
        {
            WriteObject(Value, enumerateCollection: true);
        }
        foreach (IContentWriter writer in Writers())
        {
            writer.Write(Value is null ? Array.Empty<object>() : Value);
        }
    }

    protected override void EndProcessing()
    {
        foreach (IContentWriter writer in _writers ?? [])
        {
            writer.Close();
            writer.Dispose();
        }
        _writers = null;
    }

    protected override void StopProcessing()
    {
        base.StopProcessing();
        EndProcessing();
    }
}

/// <summary>Set-Content.</summary>
[Cmdlet(VerbsCommon.Set, "Content", DefaultParameterSetName = "Path", SupportsShouldProcess = true)]
public sealed class SetContentCommand : WriteContentCommand
{
    private protected override string Action => "Set Content";

    private protected override void Prepare(string path)
    {
        bool exists = (bool)Internals.Call(Provider.Item, "Exists", path, NewContext())!;
        if (exists)
        {
            try
            {
                Internals.Call(Provider.Content, "Clear", path, NewContext());
            }
            catch (PSNotSupportedException)
            {
                // A provider whose content can't be cleared is written over, as in pwsh.
            }
        }
    }

    private protected override void Position(IContentWriter writer)
    {
    }
}

/// <summary>Add-Content.</summary>
[Cmdlet(VerbsCommon.Add, "Content", DefaultParameterSetName = "Path", SupportsShouldProcess = true)]
public sealed class AddContentCommand : WriteContentCommand
{
    private protected override string Action => "Add Content";

    private protected override void Prepare(string path)
    {
    }

    private protected override void Position(IContentWriter writer) => writer.Seek(0, SeekOrigin.End);
}

/// <summary>Clear-Content.</summary>
[Cmdlet(VerbsCommon.Clear, "Content", DefaultParameterSetName = "Path", SupportsShouldProcess = true)]
public sealed class ClearContentCommand : ContentCommand
{
    private protected override object? AskDynamicParameters(object context) =>
        Internals.Call(Provider.Content, "ClearContentDynamicParameters", FirstPath, context);

    protected override void ProcessRecord()
    {
        foreach (string path in PathValues ?? [])
        {
            Guard(() => Internals.Call(Provider.Content, "Clear", path, NewContext()));
        }
    }
}
