using System.Text.Json;
using System.Text.Json.Nodes;
using VirtPS.Sdk;
using VirtPS.Sdk.Machine;
using VirtPS.Sdk.Rings;

namespace VirtPS.Client.Protocol;

/// <summary>
/// The handshake's messages as JSON, by hand: a serialiser needs hundreds of methods compiled before its first answer, which every Get-VirtVM and every start of a
/// worker would wait for. Unknown properties are ignored and missing ones have defaults, so that versions can differ.
/// </summary>
internal static class HandshakeJson
{
    public static JsonObject Write(HelloRequest m) => new()
    {
        ["protocol"] = m.Protocol,
        ["oldestProtocol"] = m.OldestProtocol,
        ["channel"] = m.Channel.ToString(),
        ["vmId"] = m.VMId.ToString("D"),
        ["fromStart"] = m.FromStart,
        ["follow"] = m.Follow,
        ["includeSameRing"] = m.IncludeSameRing,
        ["vcpus"] = m.Vcpus is { } vcpus ? new JsonArray([.. vcpus.Select(v => (JsonNode)v)]) : null,
    };

    public static HelloRequest ReadRequest(JsonObject json) => new()
    {
        Protocol = Int32(json, "protocol"),
        OldestProtocol = Int32(json, "oldestProtocol"),
        Channel = Enumeration<Channel>(json, "channel"),
        VMId = Identity(json, "vmId"),
        FromStart = Flag(json, "fromStart"),
        Follow = Flag(json, "follow"),
        IncludeSameRing = Flag(json, "includeSameRing"),
        Vcpus = json["vcpus"] is JsonArray vcpus ? [.. vcpus.Select(v => (int)v!)] : null,
    };

    public static JsonObject Write(HelloReply m) => new()
    {
        ["protocol"] = m.Protocol,
        ["oldestProtocol"] = m.OldestProtocol,
        ["version"] = m.Version,
        ["features"] = new JsonArray([.. m.Features.Select(f => (JsonNode)f)]),
        ["vmId"] = m.VMId.ToString("D"),
        ["status"] = m.Status is { } status ? Write(status) : null,
        ["ringFidelity"] = m.RingFidelity.ToString(),
        ["hypercallNames"] = new JsonArray([.. m.HypercallNames.Select(n => (JsonNode)n)]),
        ["error"] = m.Error is { } error ? Write(error) : null,
    };

    public static HelloReply ReadReply(JsonObject json) => new()
    {
        Protocol = Int32(json, "protocol"),
        OldestProtocol = Int32(json, "oldestProtocol"),
        Version = Text(json, "version") ?? "",
        Features = json["features"] is JsonArray features ? [.. features.Select(f => (string)f!)] : [],
        VMId = Identity(json, "vmId"),
        Status = json["status"] is JsonObject status ? ReadStatus(status) : null,
        RingFidelity = Enumeration<RingFidelity>(json, "ringFidelity"),
        HypercallNames = json["hypercallNames"] is JsonArray names ? [.. names.Select(n => (string)n!)] : [],
        Error = json["error"] is JsonObject error ? ReadError(error) : null,
    };

    public static JsonObject Write(ReadyReport m) => new()
    {
        ["status"] = m.Status is { } status ? Write(status) : null,
        ["error"] = m.Error is { } error ? Write(error) : null,
    };

    public static ReadyReport ReadReport(JsonObject json) => new()
    {
        Status = json["status"] is JsonObject status ? ReadStatus(status) : null,
        Error = json["error"] is JsonObject error ? ReadError(error) : null,
    };

    /// <summary>Parses one message; whatever is wrong with it is a <see cref="JsonException"/>.</summary>
    public static T Parse<T>(ReadOnlySpan<byte> utf8, Func<JsonObject, T> read)
    {
        try
        {
            return read(JsonNode.Parse(utf8) as JsonObject ?? throw new JsonException("It is not a JSON object."));
        }
        catch (Exception e) when (e is InvalidOperationException or FormatException or ArgumentException or OverflowException)
        {
            throw new JsonException(e.Message, e);
        }
    }

    private static JsonObject Write(WorkerStatus m) => new()
    {
        ["runId"] = m.RunId.ToString("D"),
        ["state"] = m.State.ToString(),
        ["reason"] = m.Reason,
        ["processId"] = m.ProcessId,
        ["tier"] = m.Tier,
        ["memoryAssigned"] = m.MemoryAssigned,
        ["cpuUsage"] = m.CpuUsage,
        ["uptimeMilliseconds"] = m.UptimeMilliseconds,
        ["ring"] = m.Ring,
        ["exitCode"] = m.ExitCode,
    };

    private static WorkerStatus ReadStatus(JsonObject json) => new()
    {
        RunId = Identity(json, "runId"),
        State = Enumeration<VmState>(json, "state"),
        Reason = Text(json, "reason") ?? "",
        ProcessId = Int32(json, "processId"),
        Tier = Text(json, "tier"),
        MemoryAssigned = json["memoryAssigned"] is { } memory ? (ulong)memory : 0,
        CpuUsage = Int32(json, "cpuUsage"),
        UptimeMilliseconds = json["uptimeMilliseconds"] is { } uptime ? (long)uptime : 0,
        Ring = Text(json, "ring"),
        ExitCode = json["exitCode"] is { } code ? (int)code : null,
    };

    private static JsonObject Write(WireError m) => new()
    {
        ["errorId"] = m.ErrorId,
        ["message"] = m.Message,
        ["recommendedAction"] = m.RecommendedAction,
        ["target"] = m.Target,
    };

    private static WireError ReadError(JsonObject json) =>
        new(Text(json, "errorId") ?? ErrorIds.WorkerFailed, Text(json, "message") ?? "", Text(json, "recommendedAction"), Text(json, "target"));

    private static string? Text(JsonObject json, string name) => (string?)json[name];

    private static int Int32(JsonObject json, string name) => json[name] is { } value ? (int)value : 0;

    private static bool Flag(JsonObject json, string name) => json[name] is { } value && (bool)value;

    private static Guid Identity(JsonObject json, string name) => Text(json, name) is { } text ? Guid.ParseExact(text, "D") : Guid.Empty;

    private static T Enumeration<T>(JsonObject json, string name) where T : struct, Enum => Text(json, name) is { } text ? Enum.Parse<T>(text, ignoreCase: true) : default;
}
