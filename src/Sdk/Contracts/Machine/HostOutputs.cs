using VirtPS.Sdk.Plugins;
using VirtPS.Sdk.Rings;

namespace VirtPS.Sdk.Machine;

/// <summary>A strategy and whether this host can run it (Get-VirtStrategy).</summary>
public sealed record VirtStrategy
{
    public required string Name { get; init; }

    public required string Description { get; init; }

    /// <summary>Id of the plugin it comes from.</summary>
    public required string Plugin { get; init; }

    /// <summary>Null when it was not probed.</summary>
    public required bool? IsSupported { get; init; }

    /// <summary>What the probe found, or why it could not be made.</summary>
    public required string Reason { get; init; }

    public string? RecommendedAction { get; init; }

    /// <summary>Null when it was not probed.</summary>
    public RingFidelity? RingFidelity { get; init; }

    /// <summary>Higher is preferred; 0 when it was not probed.</summary>
    public int Preference { get; init; }

    /// <summary>The rows of Show-VirtRing; empty when it was not probed.</summary>
    public IReadOnlyList<RingModelRow> RingModel { get; init; } = [];
}

/// <summary>A property that a device model takes.</summary>
public sealed record VirtDeviceProperty
{
    public required string Name { get; init; }

    /// <summary>For people and for checks: <c>string</c>, <c>integer</c>, <c>number</c>, <c>boolean</c>, <c>object</c>, <c>array</c>.</summary>
    public required string Type { get; init; }

    public string? Default { get; init; }

    public bool IsRequired { get; init; }

    public string Help { get; init; } = "";

    /// <summary>The values allowed; empty where any of the type is.</summary>
    public IReadOnlyList<string> Values { get; init; } = [];
}

/// <summary>A device model that a plugin brings (Get-VirtDeviceModel).</summary>
public sealed record VirtDeviceModel
{
    /// <summary><c>plugin/model</c>, as Add-VirtVMDevice -Model takes it.</summary>
    public required string Model { get; init; }

    public required string Plugin { get; init; }

    public required string Description { get; init; }

    public required IReadOnlyList<VirtDeviceProperty> Properties { get; init; }

    /// <summary><c>disk</c> for block devices; empty for anything else.</summary>
    public string Class { get; init; } = "";
}

/// <summary>Where a plugin was found.</summary>
public enum PluginSource
{
    /// <summary>In the module's own folder: loaded without registration.</summary>
    Module,

    /// <summary>In the user's plugin folder.</summary>
    User,

    /// <summary>Through <c>$VIRTPS_PLUGIN_PATH</c>.</summary>
    PluginPath,

    /// <summary>Registered from a folder elsewhere.</summary>
    Registered,
}

/// <summary>Whether a plugin will be loaded.</summary>
public enum PluginStatus
{
    Ready,

    /// <summary>Its files were never registered: it is not loaded.</summary>
    NotRegistered,

    /// <summary>A file differs from what was registered: it is not loaded.</summary>
    Changed,

    /// <summary>Its manifest or its SDK range is wrong; see the reason.</summary>
    Broken,
}

/// <summary>A plugin as its manifest describes it (Get-VirtPlugin); its code is not run.</summary>
public sealed record VirtPluginInfo
{
    public required string Id { get; init; }

    public required string Version { get; init; }

    public required string Description { get; init; }

    /// <summary><c>device</c> or <c>strategy</c>.</summary>
    public required string Kind { get; init; }

    public required string Path { get; init; }

    public required string EntryAssembly { get; init; }

    /// <summary>SDK versions it was built for, as in the manifest.</summary>
    public required string SdkRange { get; init; }

    public required PluginSource Source { get; init; }

    public required PluginStatus Status { get; init; }

    /// <summary>Why it is not ready; empty when it is.</summary>
    public required string StatusReason { get; init; }

    /// <summary>Names of the device models, without the plugin's id.</summary>
    public required IReadOnlyList<string> Models { get; init; }

    public required IReadOnlyList<string> Strategies { get; init; }
}

/// <summary>The host (Get-VirtHost). Sizes in bytes.</summary>
public sealed record VirtHostInfo
{
    public required string HostId { get; init; }

    /// <summary>The machine's name.</summary>
    public required string Name { get; init; }

    public required string OperatingSystem { get; init; }

    public required string Architecture { get; init; }

    public required string Processor { get; init; }

    public required int LogicalProcessorCount { get; init; }

    public required ulong Memory { get; init; }

    public required ulong MemoryAvailable { get; init; }

    /// <summary>The store's root.</summary>
    public required string Path { get; init; }

    public required string Version { get; init; }

    public required int ProtocolVersion { get; init; }

    /// <summary>How workers are started; null when none can be.</summary>
    public required string? Worker { get; init; }

    public required int VMCount { get; init; }

    public required int RunningVMCount { get; init; }

    public required DateTimeOffset CapturedAt { get; init; }
}

public enum HostTestResult
{
    Pass,
    Warning,
    Fail,
}

/// <summary>One check of the host (Test-VirtHost).</summary>
public sealed record VirtHostTest
{
    public required string Name { get; init; }

    public required HostTestResult Result { get; init; }

    /// <summary>What was found.</summary>
    public required string Detail { get; init; }

    public string? RecommendedAction { get; init; }
}

/// <summary>A kernel, initrd or other image known to the store (Get-VirtImage).</summary>
public sealed record VirtImage
{
    public required string Name { get; init; }

    /// <summary><c>Kernel</c>, <c>Initrd</c>, <c>Program</c> …</summary>
    public required string Kind { get; init; }

    public required string Description { get; init; }

    /// <summary>Where it came or comes from: a package, an address.</summary>
    public required string Source { get; init; }

    public required string? Version { get; init; }

    /// <summary>The file; null when it has not been fetched. Same name as New-VirtVM's -Kernel takes.</summary>
    public required string? Path { get; init; }

    /// <summary>Bytes; null when it has not been fetched.</summary>
    public required long? Length { get; init; }

    /// <summary>SHA-256 of the file, hexadecimal; null when it has not been fetched.</summary>
    public required string? Sha256 { get; init; }
}
