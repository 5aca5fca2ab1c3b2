using System.Text.Json;
using System.Text.Json.Serialization;
using VirtPS.Sdk.Plugins;

namespace VirtPS.Client.Protocol;

/// <summary>What <c>virtps-worker --probe</c> says of one strategy. <paramref name="Info"/> is null when its plugin could not be loaded.</summary>
internal sealed record ProbedStrategy(string Name, bool IsSupported, string Reason, string? RecommendedAction, StrategyInfo? Info);

[JsonSourceGenerationOptions(JsonSerializerDefaults.Web, UseStringEnumConverter = true)]
[JsonSerializable(typeof(IReadOnlyList<ProbedStrategy>))]
internal sealed partial class ProbeJson : JsonSerializerContext;
