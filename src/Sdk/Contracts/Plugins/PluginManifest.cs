using System.Text.Json;
using System.Text.Json.Nodes;

namespace VirtPS.Sdk.Plugins;

/// <summary>What <c>plugin.json</c> says. Reading it runs no plugin code.</summary>
public sealed record PluginManifest
{
    public const string FileName = "plugin.json";

    /// <summary>Unique, lower case, dotted: <c>virtps.serial</c>.</summary>
    public string Id { get; init; } = "";

    public string Version { get; init; } = "";

    /// <summary><c>device</c>, <c>strategy</c>, or both separated by a comma.</summary>
    public string Kind { get; init; } = "";

    /// <summary>File name of the entry assembly, in the plugin's folder.</summary>
    public string Assembly { get; init; } = "";

    /// <summary>Versions of VirtPS.Sdk it was built for, as a range: <c>[0.1,0.2)</c>.</summary>
    public string Sdk { get; init; } = "";

    public string Description { get; init; } = "";

    public IReadOnlyList<DeviceModelManifest> Models { get; init; } = [];

    public IReadOnlyList<StrategyManifest> Strategies { get; init; } = [];

    /// <summary>Reads and checks a manifest file. Throws <see cref="VirtException"/> (<c>PluginLoadFailed</c>) that names the file and the field.</summary>
    public static PluginManifest Read(string path)
    {
        PluginManifest manifest;
        try
        {
            // By hand: a serialiser would be compiled anew in every process before the first plugin is known, and every start of a VM waits for that.
            manifest = JsonNode.Parse(File.ReadAllBytes(path), s_nodeOptions, s_documentOptions) is JsonObject json
                ? ManifestReader.ReadPlugin(json)
                : throw Invalid(path, "is not valid JSON for a plugin manifest (an object is needed)");
        }
        catch (JsonException e)
        {
            throw Invalid(path, $"is not valid JSON for a plugin manifest (line {e.LineNumber + 1}, at '{e.Path}')", e);
        }
        catch (ManifestReader.FieldException e)
        {
            throw Invalid(path, $"is not a valid plugin manifest: {e.Message}", e);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw Invalid(path, $"cannot be read: {e.Message}", e);
        }

        manifest.Check(path);
        return manifest;
    }

    private void Check(string path)
    {
        if (string.IsNullOrWhiteSpace(Id))
            throw Invalid(path, "lacks 'id'");
        if (string.IsNullOrWhiteSpace(Assembly) || Path.GetFileName(Assembly) != Assembly)
            throw Invalid(path, "lacks 'assembly', the file name of the entry assembly in the same folder");
        if (!SdkVersionRange.TryParse(Sdk, out _))
            throw Invalid(path, $"has '{Sdk}' as 'sdk'; a version range such as [0.1,0.2) is needed");
        if (Models.FirstOrDefault(m => string.IsNullOrWhiteSpace(m.Id)) is not null)
            throw Invalid(path, "has a model without 'id'");
        if (Strategies.FirstOrDefault(s => string.IsNullOrWhiteSpace(s.Name)) is not null)
            throw Invalid(path, "has a strategy without 'name'");
    }

    private static VirtException Invalid(string path, string what, Exception? inner = null) =>
        new("PluginLoadFailed", $"Plugin manifest '{path}' {what}.", "Repair or remove the plugin's folder.", path, inner);

    private static readonly JsonNodeOptions s_nodeOptions = new() { PropertyNameCaseInsensitive = true };

    private static readonly JsonDocumentOptions s_documentOptions = new() { CommentHandling = JsonCommentHandling.Skip, AllowTrailingCommas = true, AllowDuplicateProperties = false };
}

/// <summary>A device model as its manifest describes it.</summary>
public sealed record DeviceModelManifest
{
    /// <summary>Id inside the plugin: <c>16550a</c>; a spec names it <c>virtps.serial/16550a</c>.</summary>
    public string Id { get; init; } = "";

    public string Description { get; init; } = "";

    /// <summary>What it is to its user: <c>disk</c> for block devices (Add-VirtVMDisk and its like work with them); empty for anything else.</summary>
    public string Class { get; init; } = "";

    public IReadOnlyList<PropertyManifest> Properties { get; init; } = [];
}

/// <summary>A strategy as its manifest describes it.</summary>
public sealed record StrategyManifest
{
    public string Name { get; init; } = "";

    public string Description { get; init; } = "";

    /// <summary>The disk model (<c>plugin/model</c>) that its guests find without more ado; empty where there is none.</summary>
    public string Disk { get; init; } = "";

    public IReadOnlyList<PropertyManifest> Options { get; init; } = [];
}

/// <summary>A property of a device model, or an option of a strategy.</summary>
public sealed record PropertyManifest
{
    public string Name { get; init; } = "";

    /// <summary><c>string</c>, <c>integer</c> (or <c>int</c>), <c>number</c>, <c>boolean</c> (or <c>bool</c>), <c>object</c> or <c>array</c>.</summary>
    public string Type { get; init; } = "string";

    public JsonNode? Default { get; init; }

    public bool Required { get; init; }

    /// <summary>The only values allowed; null or empty = any of the type.</summary>
    public IReadOnlyList<string>? Values { get; init; }

    public string Help { get; init; } = "";
}

/// <summary>An interval of SDK versions in NuGet's notation: <c>[0.1,0.2)</c>, <c>[0.1,)</c>, or <c>0.1</c> for that or newer.</summary>
public sealed record SdkVersionRange(Version? Minimum, bool MinimumInclusive, Version? Maximum, bool MaximumInclusive)
{
    /// <summary>The version of this SDK.</summary>
    public static Version Current { get; } = typeof(SdkVersionRange).Assembly.GetName().Version ?? new Version(0, 0);

    public bool Contains(Version version) =>
        (Minimum is null || version > Minimum || (MinimumInclusive && version.Equals(Minimum)))
        && (Maximum is null || version < Maximum || (MaximumInclusive && version.Equals(Maximum)));

    public static bool TryParse(string text, out SdkVersionRange? range)
    {
        range = null;
        text = text.Trim();
        if (text.Length == 0)
            return false;
        if (text[0] is not ('[' or '('))
            return TryVersion(text, out Version? only) && (range = new(only, true, null, false)) is not null;
        if (text[^1] is not (']' or ')') || text.Length < 3)
            return false;
        string[] parts = text[1..^1].Split(',');
        if (parts.Length > 2 || !TryBound(parts[0], out Version? low) || !TryBound(parts[^1], out Version? high))
            return false;
        range = new(low, text[0] == '[', high, text[^1] == ']');
        return true;
    }

    private static bool TryBound(string text, out Version? version)
    {
        version = null;
        return text.Trim().Length == 0 || TryVersion(text, out version);
    }

    // Four parts, so that 0.1 and 0.1.0.0 are the same point.
    private static bool TryVersion(string text, out Version? version)
    {
        version = null;
        text = text.Trim();
        if (!System.Version.TryParse(text.Contains('.') ? text : text + ".0", out Version? v))
            return false;
        version = new Version(v.Major, v.Minor, Math.Max(v.Build, 0), Math.Max(v.Revision, 0));
        return true;
    }
}
