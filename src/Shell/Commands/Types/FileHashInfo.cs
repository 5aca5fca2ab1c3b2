namespace Microsoft.PowerShell.Commands;

/// <summary>A file's hash.</summary>
public sealed class FileHashInfo
{
    internal FileHashInfo(string algorithm, string hash, string? path)
    {
        Algorithm = algorithm;
        Hash = hash;
        Path = path;
    }

    public string Algorithm { get; }
    public string Hash { get; }
    public string? Path { get; }
}
