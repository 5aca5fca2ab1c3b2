using System.Text.Json;
using System.Text.Json.Nodes;
using VirtPS.Engine.Host;
using VirtPS.Sdk;
using VirtPS.Sdk.Backends;

namespace VirtPS.Engine.Storage;

/// <summary>
/// Opens the disk that a device spec names. The same properties in every block device's spec: <c>path</c> (absolute), <c>readOnly</c>, <c>sectorSize</c> (512 or 4096),
/// <c>discard</c> (<c>unmap</c> or <c>ignore</c>), <c>format</c> (<c>raw</c>).
/// </summary>
public static class DiskOpener
{
    /// <summary>Errors: DevicePropertyInvalid, DiskNotFound, DiskInvalid, DiskInUse, AccessDenied; each names the file or the property.</summary>
    public static IBlockBackend Open(JsonObject spec, IHostPlatform platform, ILog log)
    {
        ArgumentNullException.ThrowIfNull(spec);
        ArgumentNullException.ThrowIfNull(platform);
        string name = Text(spec, "name") ?? "disk";
        string path = Text(spec, "path") is { Length: > 0 } p ? p : throw Invalid(name, "path", "is missing", "It must be the absolute path of a disk file.");
        if (!Path.IsPathFullyQualified(path))
            throw Invalid(name, "path", $"is '{path}'", "It must be an absolute path.");
        if (Text(spec, "format") is { } format && !format.Equals("raw", StringComparison.OrdinalIgnoreCase))
            throw Invalid(name, "format", $"is '{format}'", "It must be raw: other formats are not supported.");
        bool readOnly = Flag(spec, "readOnly", name);
        int sector = Number(spec, "sectorSize", name) ?? 512;
        if (sector is not (512 or 4096))
            throw Invalid(name, "sectorSize", $"is {sector}", "It must be 512 or 4096.");
        string discard = Text(spec, "discard") ?? "unmap";
        if (discard is not ("unmap" or "ignore"))
            throw Invalid(name, "discard", $"is '{discard}'", "It must be unmap or ignore.");
        HostDiskFile file = platform.OpenDiskFile(path, readOnly);
        try
        {
            if (file.Length == 0)
                throw new VirtException("DiskInvalid", $"The disk file '{path}' is empty.", "Give it a size with Resize-VirtDisk.", path);
            if (file.Length % (ulong)sector != 0)
                throw new VirtException("DiskInvalid", $"The disk file '{path}' has {file.Length} bytes, which is no multiple of its sector size of {sector}.", $"Resize-VirtDisk -Path '{path}' -Size {(file.Length + (ulong)sector - 1) / (ulong)sector * (ulong)sector} rounds it up.", path);
            return new RawDisk(name, file, readOnly, sector, discard == "unmap", log);
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    private static string? Text(JsonObject spec, string property) => spec[property] is JsonValue v && v.TryGetValue(out string? text) ? text : null;

    private static bool Flag(JsonObject spec, string property, string device) => spec[property]?.GetValueKind() switch
    {
        null or JsonValueKind.Null or JsonValueKind.False => false,
        JsonValueKind.True => true,
        _ => throw Invalid(device, property, $"is {spec[property]!.ToJsonString()}", "It must be true or false."),
    };

    private static int? Number(JsonObject spec, string property, string device) => spec[property] switch
    {
        null => null,
        JsonValue v when v.TryGetValue(out int n) => n,
        _ => throw Invalid(device, property, $"is {spec[property]!.ToJsonString()}", "It must be a whole number."),
    };

    private static VirtException Invalid(string device, string property, string what, string rule) =>
        new("DevicePropertyInvalid", $"Device '{device}': property '{property}' {what}. {rule}", "Get-VirtDeviceModel lists the properties and what they may be.", device);
}
