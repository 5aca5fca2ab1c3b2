using System.ComponentModel;
using System.Diagnostics;
using System.Globalization;
using System.Text.RegularExpressions;
using VirtPS.Sdk;

namespace VirtPS.Client.Images;

/// <summary>A package as apt knows it: exactly one file of a repository.</summary>
internal sealed record AptPackage(string Name, string Version, string FileName, long Length, string Sha256);

/// <summary>Debian's package client, used without installing anything and without rights.</summary>
internal static partial class AptClient
{
    public static bool IsAvailable => FindProgram("apt-get") is not null && FindProgram("apt-cache") is not null;

    /// <summary>The package to fetch for <paramref name="name"/>; a meta-package whose first dependency is versioned names the real one. Errors: ImageUnavailable.</summary>
    public static async Task<AptPackage> ResolveAsync(string name, string? dependency, CancellationToken cancellation)
    {
        string show = await RunAsync("apt-cache", ["show", "--no-all-versions", name], null, cancellation).ConfigureAwait(false);
        if (dependency is not null)
        {
            Match depends = DependsLine().Match(show);
            string? real = depends.Success
                ? depends.Groups[1].Value.Split(',', '|').Select(d => d.Trim().Split(' ', '(')[0]).FirstOrDefault(d => d.StartsWith(dependency, StringComparison.Ordinal))
                : null;
            if (real is null)
                throw Unavailable($"apt's package '{name}' names no package '{dependency}…'", "Run apt-get update, then try again.");
            return await ResolveAsync(real, null, cancellation).ConfigureAwait(false);
        }

        string uri = await RunAsync("apt-get", ["--print-uris", "download", name], null, cancellation).ConfigureAwait(false);
        Match file = UriLine().Match(uri);
        Match version = VersionLine().Match(show);
        if (!file.Success || !version.Success)
            throw Unavailable($"apt does not say where the package '{name}' is and what its SHA-256 is", "Run apt-get update, then try again.");
        return new AptPackage(name, version.Groups[1].Value, file.Groups["file"].Value,
            long.Parse(file.Groups["size"].ValueSpan, CultureInfo.InvariantCulture), file.Groups["sha"].Value.ToLowerInvariant());
    }

    /// <summary>Downloads into <paramref name="folder"/>; returns the file. apt checks it against the repository's signed index.</summary>
    public static async Task<string> DownloadAsync(AptPackage package, string folder, CancellationToken cancellation)
    {
        await RunAsync("apt-get", ["download", "-q", $"{package.Name}={package.Version}"], folder, cancellation).ConfigureAwait(false);
        string path = Path.Combine(folder, package.FileName);
        return File.Exists(path) ? path
            : Directory.EnumerateFiles(folder, "*.deb").FirstOrDefault() ?? throw Unavailable($"apt-get has downloaded no file for '{package.Name}'", "Try apt-get download by hand.");
    }

    public static VirtException Unavailable(string problem, string remedy, Exception? inner = null) =>
        new(ErrorIds.ImageUnavailable, problem + ".", $"{remedy} Or point New-VirtVM's -Kernel at a kernel file of your own (and New-VirtInitrd's -Busybox at a static busybox).", null, inner);

    private static async Task<string> RunAsync(string program, string[] arguments, string? folder, CancellationToken cancellation)
    {
        var start = new ProcessStartInfo(program, arguments)
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            RedirectStandardInput = true,
            WorkingDirectory = folder ?? "",
        };
        start.Environment["LC_ALL"] = "C";
        start.Environment["DEBIAN_FRONTEND"] = "noninteractive";
        using Process process = Start(start);
        process.StandardInput.Close();
        Task<string> output = process.StandardOutput.ReadToEndAsync(CancellationToken.None), error = process.StandardError.ReadToEndAsync(CancellationToken.None);
        try
        {
            await process.WaitForExitAsync(cancellation).ConfigureAwait(false);
        }
        catch (OperationCanceledException)
        {
            process.Kill(entireProcessTree: true);
            throw;
        }

        string said = await output.ConfigureAwait(false);
        string complaint = (await error.ConfigureAwait(false)).Trim();
        if (process.ExitCode != 0)
            throw Unavailable($"'{program} {string.Join(' ', arguments)}' failed: {LastLine(complaint)}", "Check the network and run apt-get update.");
        return said;
    }

    private static Process Start(ProcessStartInfo start)
    {
        try
        {
            return Process.Start(start)!;
        }
        catch (Win32Exception e)
        {
            throw Unavailable($"This host has no {start.FileName}, so no Debian package can be fetched", "Use a Debian or Ubuntu host to fetch it.", e);
        }
    }

    private static string LastLine(string text) => text.Split('\n') is [.., var last] && last.Length > 0 ? last : "no reason given";

    private static string? FindProgram(string name) => (Environment.GetEnvironmentVariable("PATH") ?? "").Split(Path.PathSeparator)
        .Where(folder => folder.Length > 0).Select(folder => Path.Combine(folder, name)).FirstOrDefault(File.Exists);

    [GeneratedRegex(@"^Depends: (.+)$", RegexOptions.Multiline)]
    private static partial Regex DependsLine();

    [GeneratedRegex(@"^Version: (\S+)$", RegexOptions.Multiline)]
    private static partial Regex VersionLine();

    [GeneratedRegex(@"^'(?<uri>[^']+)' (?<file>\S+) (?<size>\d+) SHA256:(?<sha>[0-9a-fA-F]{64})", RegexOptions.Multiline)]
    private static partial Regex UriLine();
}
