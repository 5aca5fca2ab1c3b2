using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using StreamJsonRpc;
using VirtPS.Sdk.Machine;

namespace VirtPS.Client.Protocol;

/// <summary>Names of a worker's JSON-RPC methods. Arguments go by position.</summary>
internal static class RpcMethods
{
    public const string Pause = "pause";
    public const string Resume = "resume";
    public const string PowerButton = "powerButton";
    public const string Reset = "reset";
    public const string TurnOff = "turnOff";

    /// <summary>Returns when the machine has ended.</summary>
    public const string WaitOff = "waitOff";

    /// <summary>Returns true when ring 3 was reached, false when the machine ended before.</summary>
    public const string WaitRing3 = "waitRing3";
    public const string SetNotes = "setNotes";
    public const string SetName = "setName";
    public const string AddDevice = "addDevice";
    public const string RemoveDevice = "removeDevice";
    public const string GetDevices = "getDevices";
    public const string GetRingStates = "getRingStates";
    public const string MeasureRing = "measureRing";
    public const string GetHotSpots = "getHotSpots";
    public const string StepRing = "stepRing";
    public const string GetRegisters = "getRegisters";
    public const string ReadMemory = "readMemory";
    public const string Disassemble = "disassemble";
    public const string SendConsole = "sendConsole";
}

/// <summary>A device on the wire; <paramref name="Disk"/> for disks of workers that count.</summary>
internal sealed record WireDevice(JsonObject Specification, bool IsPlatform, Sdk.Backends.BlockCounters? Disk = null);

/// <summary>Ring events as they lie in memory, and how many instructions were executed.</summary>
internal sealed record WireRingSteps(byte[] Events, long Instructions);

/// <summary>How RPC messages are framed and formatted, the same on both sides.</summary>
internal static class RpcSetup
{
    /// <summary>JSON-RPC error code of a <see cref="WireError"/> (the range below -32000 is left to applications by the specification).</summary>
    public const int VirtErrorCode = -31000;

    public static JsonRpc Create(Stream stream)
    {
        var formatter = new SystemTextJsonFormatter { JsonSerializerOptions = CreateOptions() };
        return new VirtRpc(new LengthHeaderMessageHandler(stream, stream, formatter));
    }

    /// <summary>JSON-RPC that knows what our errors carry.</summary>
    private sealed class VirtRpc(IJsonRpcMessageHandler handler) : JsonRpc(handler)
    {
        protected override Type? GetErrorDetailsDataType(StreamJsonRpc.Protocol.JsonRpcError error) =>
            (int?)error.Error?.Code == VirtErrorCode ? typeof(WireError) : base.GetErrorDetailsDataType(error);
    }

    private static JsonSerializerOptions CreateOptions() => new(JsonSerializerDefaults.Web)
    {
        Converters = { new JsonStringEnumConverter() },
    };
}
