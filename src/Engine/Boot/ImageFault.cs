using VirtPS.Sdk;

namespace VirtPS.Engine.Boot;

/// <summary>Makes the one error that bad guest images give: file, place in it, what is wrong, and the remedy.</summary>
internal static class ImageFault
{
    /// <summary>A fault of the file as a whole.</summary>
    public static VirtException Of(string file, string problem, string remedy, Exception? inner = null) =>
        new("ImageInvalid", $"'{file}': {problem}", remedy, file, inner);

    /// <summary>A fault at a byte offset or in a named field.</summary>
    public static VirtException At(string file, ulong offset, string field, string problem, string remedy, Exception? inner = null) =>
        Of(file, $"{field} at offset 0x{offset:X}: {problem}", remedy, inner);

    /// <summary>The VM has too little RAM; <paramref name="needed"/> is in bytes.</summary>
    public static VirtException NeedsMemory(string file, string problem, ulong needed) =>
        Of(file, $"{problem}; that needs at least {Mebibytes(needed)} MB of memory", $"Give the VM -Memory {Mebibytes(needed)}MB or more.");

    private static ulong Mebibytes(ulong bytes) => (bytes + 0xF_FFFF) >> 20;
}
