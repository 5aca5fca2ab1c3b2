using System.Buffers;
using System.Globalization;

namespace VirtPS.Strategy.Para.Store;

/// <summary>Paths: letters, digits and -/_@; parts separated by single slashes; those that do not begin with one are relative to the domain's own folder.</summary>
internal static class StorePath
{
    private static readonly SearchValues<char> s_allowed = SearchValues.Create("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-/_@");

    /// <summary>A domain's own folder, without a slash at its end.</summary>
    public static string HomeOf(int domain) => string.Create(CultureInfo.InvariantCulture, $"/local/domain/{domain}");

    /// <summary>The absolute path that a domain means; null when it is none.</summary>
    public static string? Canonicalize(string path, int domain)
    {
        if (path.Length == 0 || path.AsSpan().ContainsAnyExcept(s_allowed))
            return null;
        if (path[0] == '/')
            return path.Length <= StoreQuota.AbsolutePath && IsWellFormed(path) ? path : null;
        return path.Length <= StoreQuota.RelativePath && IsWellFormed(path) ? $"{HomeOf(domain)}/{path}" : null;
    }

    /// <summary>Names of what is not in the tree, such as <c>@releaseDomain</c>: only for watches.</summary>
    public static bool IsSpecial(string path) => path.StartsWith('@');

    public static string ParentOf(string path)
    {
        int slash = path.LastIndexOf('/');
        return slash <= 0 ? "/" : path[..slash];
    }

    /// <summary>Whether <paramref name="path"/> is <paramref name="folder"/> or below it.</summary>
    public static bool IsAtOrBelow(string path, string folder) =>
        folder == "/" || (path.StartsWith(folder, StringComparison.Ordinal) && (path.Length == folder.Length || path[folder.Length] == '/'));

    public static string[] Split(string path) => path == "/" ? [] : path[1..].Split('/');

    private static bool IsWellFormed(string path) =>
        path == "/" || (path[^1] != '/' && !path.Contains("//", StringComparison.Ordinal));
}
