using System.Buffers;
using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using VirtPS.Sdk;
using VirtPS.Sdk.Machine;

namespace VirtPS.Client.Store;

/// <summary>
/// vm.json: a typed view over the JSON object that was read, so that properties this version does not know survive a rewrite. Immutable.
/// </summary>
internal sealed class VmDocument
{
    /// <summary>Raised when an older version could misread the file.</summary>
    public const int SchemaVersion = 1;

    private static readonly JsonWriterOptions WriteOptions = new() { Indented = true, Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    private readonly JsonObject _root;

    private VmDocument(JsonObject root, VmConfiguration configuration, RunRecord? run)
    {
        _root = root;
        Configuration = configuration;
        Run = run;
    }

    public VmConfiguration Configuration { get; }

    /// <summary>The present or last run; null when it never ran.</summary>
    public RunRecord? Run { get; }

    /// <summary>A new VM's document.</summary>
    public static VmDocument Create(VmConfiguration configuration) => Build(new JsonObject(), configuration, null);

    public VmDocument With(VmConfiguration configuration) => Build((JsonObject)_root.DeepClone(), configuration, Run);

    public VmDocument With(RunRecord run) => Build((JsonObject)_root.DeepClone(), Configuration, run);

    /// <summary>The file's content.</summary>
    public byte[] ToUtf8()
    {
        // Not by the serialiser, which costs a worker some 20 ms when it is first used.
        var buffer = new ArrayBufferWriter<byte>();
        using (var writer = new Utf8JsonWriter(buffer, WriteOptions))
            _root.WriteTo(writer);
        return buffer.WrittenSpan.ToArray();
    }

    /// <summary>Reads a file's content. Errors: StoreUnreadable, with the file and the offset or the property.</summary>
    public static VmDocument Parse(byte[] utf8, string path)
    {
        JsonNode? node;
        try
        {
            node = JsonNode.Parse(utf8, documentOptions: new JsonDocumentOptions { AllowDuplicateProperties = false, CommentHandling = JsonCommentHandling.Skip, AllowTrailingCommas = true });
        }
        catch (JsonException e)
        {
            throw Unreadable(path, $"it is not valid JSON at offset {Offset(utf8, e)} (line {e.LineNumber + 1})", e);
        }

        if (node is not JsonObject root)
            throw Unreadable(path, "it does not hold a JSON object at offset 0");
        var reader = new JsonReader(root, path, "");
        int schema = reader.Int32("schemaVersion");
        if (schema is < 1 or > SchemaVersion)
            throw new VirtException(ErrorIds.StoreUnreadable, $"'{path}' has schema version {schema}; this version of VirtPS knows up to {SchemaVersion}.", "Use the version of VirtPS that wrote it, or a newer one.", path);
        return new VmDocument(root, ReadConfiguration(reader), reader.Object("run") is { } run ? ReadRun(run) : null);
    }

    internal static VirtException Unreadable(string path, string why, Exception? inner = null) =>
        new(ErrorIds.StoreUnreadable, $"'{path}' cannot be read: {why}.", "Repair the file, or delete the VM's folder.", path, inner);

    private static VmConfiguration ReadConfiguration(JsonReader reader)
    {
        JsonReader boot = reader.Object("boot") ?? throw reader.Missing("boot");
        return new VmConfiguration
        {
            Id = reader.Guid("id"),
            Name = reader.String("name"),
            CreationTime = reader.Time("creationTime"),
            Notes = reader.OptionalString("notes") ?? "",
            Strategy = reader.String("strategy"),
            StrategyOptions = reader.StringMap("strategyOptions"),
            Memory = reader.UInt64("memory"),
            ProcessorCount = reader.Int32("processorCount"),
            OnReset = reader.Enum("onReset", GuestResetAction.Restart),
            OnTripleFault = reader.Enum("onTripleFault", GuestResetAction.Stop),
            Devices = reader.Objects("devices"),
            Boot = new BootConfiguration
            {
                Kind = boot.Enum("kind", BootKind.Auto),
                Kernel = boot.OptionalString("kernel"),
                Initrd = boot.OptionalString("initrd"),
                CommandLine = boot.OptionalString("commandLine") ?? "",
                Modules = boot.Strings("modules"),
                LoadAddress = boot.OptionalUInt64("loadAddress") ?? 0x7C00,
                EntryMode = boot.Enum("entryMode", FlatEntryMode.Real16),
            },
        };
    }

    private static RunRecord ReadRun(JsonReader reader) => new()
    {
        RunId = reader.Guid("runId"),
        BootId = reader.String("bootId"),
        StartedAt = reader.Time("startedAt"),
        WorkerProcessId = reader.Int32("workerProcessId"),
        WorkerStartTime = (long)reader.UInt64("workerStartTime"),
        Socket = reader.String("socket"),
        EndedAt = reader.OptionalTime("endedAt"),
        EndState = reader.Enum("endState", VmState.Off),
        Reason = reader.OptionalString("reason") ?? "",
        ExitCode = reader.OptionalInt32("exitCode"),
        ReachedRing3 = reader.OptionalBoolean("reachedRing3") ?? false,
        ConsoleDropped = (long)(reader.OptionalUInt64("consoleDropped") ?? 0),
    };

    private static VmDocument Build(JsonObject root, VmConfiguration c, RunRecord? run)
    {
        root["schemaVersion"] = SchemaVersion;
        root["id"] = c.Id.ToString("D");
        root["name"] = c.Name;
        root["creationTime"] = Format(c.CreationTime);
        root["notes"] = c.Notes;
        root["strategy"] = c.Strategy;
        root["strategyOptions"] = new JsonObject(c.StrategyOptions.Select(p => KeyValuePair.Create(p.Key, (JsonNode?)p.Value)));
        root["memory"] = c.Memory;
        root["processorCount"] = c.ProcessorCount;
        root["onReset"] = c.OnReset.ToString();
        root["onTripleFault"] = c.OnTripleFault.ToString();
        root["devices"] = new JsonArray([.. c.Devices.Select(d => d.DeepClone())]);
        WriteBoot(Child(root, "boot"), c.Boot);
        if (run is not null)
            WriteRun(Child(root, "run"), run);
        return new VmDocument(root, c, run);
    }

    private static void WriteBoot(JsonObject boot, BootConfiguration b)
    {
        boot["kind"] = b.Kind.ToString();
        boot["kernel"] = b.Kernel;
        boot["initrd"] = b.Initrd;
        boot["commandLine"] = b.CommandLine;
        boot["modules"] = new JsonArray([.. b.Modules.Select(m => (JsonNode?)m)]);
        boot["loadAddress"] = b.LoadAddress;
        boot["entryMode"] = b.EntryMode.ToString();
    }

    private static void WriteRun(JsonObject json, RunRecord run)
    {
        json["runId"] = run.RunId.ToString("D");
        json["bootId"] = run.BootId;
        json["startedAt"] = Format(run.StartedAt);
        json["workerProcessId"] = run.WorkerProcessId;
        json["workerStartTime"] = run.WorkerStartTime;
        json["socket"] = run.Socket;
        json["endedAt"] = run.EndedAt is { } ended ? Format(ended) : null;
        json["endState"] = run.EndState.ToString();
        json["reason"] = run.Reason;
        json["exitCode"] = run.ExitCode;
        json["reachedRing3"] = run.ReachedRing3;
        json["consoleDropped"] = run.ConsoleDropped;
    }

    private static JsonObject Child(JsonObject root, string name)
    {
        if (root[name] is JsonObject there)
            return there;
        var child = new JsonObject();
        root[name] = child;
        return child;
    }

    private static string Format(DateTimeOffset time) => time.ToString("O", CultureInfo.InvariantCulture);

    /// <summary>The reader counts lines and bytes in the line; people look for an offset.</summary>
    private static long Offset(byte[] utf8, JsonException e)
    {
        int start = 0;
        for (long line = 0; line < (e.LineNumber ?? 0); line++)
            start += utf8.AsSpan(start).IndexOf((byte)'\n') + 1;
        return start + (e.BytePositionInLine ?? 0);
    }
}
