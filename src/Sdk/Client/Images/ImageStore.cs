using System.Security.Cryptography;
using Newtonsoft.Json;
using VirtPS.Client.Store;
using VirtPS.Sdk;
using VirtPS.Sdk.Machine;

namespace VirtPS.Client.Images;

/// <summary>How far a fetch is.</summary>
/// <param name="Activity">What is being done, for people.</param>
/// <param name="PercentComplete">0–100.</param>
public readonly record struct ImageProgress(string Activity, int PercentComplete);

/// <summary>
/// Kernels and programs for guests, in a cache below the store's root: <c>images/&lt;name&gt;/&lt;version&gt;/</c> with the file and <c>image.json</c>, which records where it came from and its
/// SHA-256. A version's folder appears whole or not at all. Thread-safe, also between processes: of those that want the same image at once, one fetches and the others wait for it
/// (<c>images/.&lt;name&gt;.lock</c>, a lock that dies with its process).
/// </summary>
public sealed class ImageStore
{
    private const string Record = "image.json";
    private readonly string _root;

    /// <summary>For the store of <paramref name="host"/>.</summary>
    public ImageStore(VirtHost host) : this(host.StorePath)
    {
    }

    /// <summary>For a store's root folder; null for the default one.</summary>
    public ImageStore(string? storePath = null) => _root = Path.Combine(storePath ?? StorePaths.DefaultRoot(), "images");

    private sealed record ImageRecord(string Version, string Source, string PackageSha256, string File, long Length, string Sha256, DateTimeOffset SavedAt);

    /// <summary>All images that can be had, each with what is in the cache of it (the newest).</summary>
    public IReadOnlyList<VirtImage> List() => [.. ImageCatalog.Entries.Select(Describe)];

    /// <summary>
    /// Makes sure that the image is in the cache and undamaged; fetches the newest version that apt knows when it is not, or when <paramref name="force"/>. What the
    /// cache has needs neither apt nor network. Where another fetch of the image is at work, here or in another process, waits for it and takes what it brought. Errors: ImageNotFound (lists the names), ImageUnavailable, ImageInvalid, StoreWriteFailed.
    /// </summary>
    /// <param name="name">A name of <see cref="List"/>.</param>
    /// <param name="force">Fetch even when the cache has it.</param>
    /// <param name="progress">Told now and then; may be null.</param>
    /// <param name="cancellation">Ends apt and leaves the cache as it was.</param>
    public async Task<VirtImage> SaveAsync(string name, bool force = false, IProgress<ImageProgress>? progress = null, CancellationToken cancellation = default)
    {
        CatalogEntry entry = ImageCatalog.Entries.FirstOrDefault(e => e.Name.Equals(name, StringComparison.OrdinalIgnoreCase))
            ?? throw new VirtException(ErrorIds.ImageNotFound, $"There is no image '{name}'.", $"There are: {string.Join(", ", ImageCatalog.Entries.Select(e => e.Name))}.", name);
        if (!force && await IsIntactAsync(entry, cancellation).ConfigureAwait(false))
            return Describe(entry);
        if (!AptClient.IsAvailable)
            throw AptClient.Unavailable($"The image '{entry.Name}' comes from the Debian package '{entry.Package}', and this host has no apt", "Run this on a Debian or Ubuntu host.");
        try
        {
            Directory.CreateDirectory(_root);
            using FileLock held = await LockAsync(entry, progress, cancellation).ConfigureAwait(false);
            if (force || !await IsIntactAsync(entry, cancellation).ConfigureAwait(false))
                await FetchAsync(entry, progress, cancellation).ConfigureAwait(false);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new VirtException(ErrorIds.StoreWriteFailed, $"Cannot store the image '{entry.Name}' below '{_root}': {e.Message}", "Make room on the disk, or check the rights of the folder.", _root, e);
        }

        return Describe(entry);
    }

    /// <summary>One fetch of an image at a time. No limit of time: a download takes as long as the network does, and who waits can cancel.</summary>
    private async Task<FileLock> LockAsync(CatalogEntry entry, IProgress<ImageProgress>? progress, CancellationToken cancellation)
    {
        string path = Path.Combine(_root, $".{entry.Name}.lock");
        if (FileLock.TryAcquire(path) is { } free)
            return free;
        progress?.Report(new ImageProgress($"Waiting for another fetch of '{entry.Name}'", 0));
        return (await FileLock.AcquireAsync(path, Timeout.InfiniteTimeSpan, cancellation).ConfigureAwait(false))!;
    }

    /// <summary>To be called with the image's lock held: what a fetch that was killed left behind is nobody's, and goes first.</summary>
    private async Task FetchAsync(CatalogEntry entry, IProgress<ImageProgress>? progress, CancellationToken cancellation)
    {
        progress?.Report(new ImageProgress("Asking apt for the package", 0));
        AptPackage package = await AptClient.ResolveAsync(entry.Package, entry.Dependency, cancellation).ConfigureAwait(false);
        string temporary = Path.Combine(_root, $".{entry.Name}.tmp");
        string result = Path.Combine(temporary, "result");
        if (Directory.Exists(temporary))
            Directory.Delete(temporary, recursive: true);
        Directory.CreateDirectory(result);
        try
        {
            string deb = await DownloadAsync(package, temporary, progress, cancellation).ConfigureAwait(false);
            progress?.Report(new ImageProgress("Checking the package", 75));
            await CheckPackageAsync(package, deb, cancellation).ConfigureAwait(false);
            progress?.Report(new ImageProgress("Unpacking", 80));
            string file = Path.Combine(result, entry.FileName);
            await DebPackage.ExtractAsync(deb, entry.Matches, file, cancellation).ConfigureAwait(false);
            if (!OperatingSystem.IsWindows() && entry.Kind == "Program")
                File.SetUnixFileMode(file, File.GetUnixFileMode(file) | UnixFileMode.UserExecute);
            var record = new ImageRecord(package.Version, $"Debian package {package.Name} {package.Version}", package.Sha256, entry.FileName,
                new FileInfo(file).Length, await HashAsync(file, cancellation).ConfigureAwait(false), DateTimeOffset.UtcNow);
            await File.WriteAllTextAsync(Path.Combine(result, Record), JsonConvert.SerializeObject(record, Formatting.Indented), cancellation).ConfigureAwait(false);
            Publish(result, Path.Combine(_root, entry.Name, FolderName(package.Version)));
            progress?.Report(new ImageProgress("Done", 100));
        }
        finally
        {
            Directory.Delete(temporary, recursive: true);
        }
    }

    /// <summary>Downloads while the growing file is watched: apt itself tells a pipe nothing about progress.</summary>
    private static async Task<string> DownloadAsync(AptPackage package, string folder, IProgress<ImageProgress>? progress, CancellationToken cancellation)
    {
        Task<string> download = AptClient.DownloadAsync(package, folder, cancellation);
        while (await Task.WhenAny(download, Task.Delay(250, cancellation)).ConfigureAwait(false) != download)
        {
            long length = new DirectoryInfo(folder).EnumerateFiles().Sum(f => f.Length);
            progress?.Report(new ImageProgress($"Downloading {package.Name} {package.Version}", (int)Math.Min(75, length * 75 / Math.Max(1, package.Length))));
        }

        return await download.ConfigureAwait(false);
    }

    private static async Task CheckPackageAsync(AptPackage package, string deb, CancellationToken cancellation)
    {
        string hash = await HashAsync(deb, cancellation).ConfigureAwait(false);
        if (hash != package.Sha256)
            throw new VirtException(ErrorIds.ImageInvalid, $"The package '{package.FileName}' has SHA-256 {hash}, apt announced {package.Sha256}.", "Fetch it again; if it stays so, do not use this mirror.", package.FileName);
    }

    /// <summary>The rename is the moment of truth; a version that is there already is put aside first, so that a damaged one is replaced.</summary>
    private static void Publish(string result, string destination)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(destination)!);
        if (Directory.Exists(destination))
            Directory.Move(destination, Path.Combine(Path.GetDirectoryName(result)!, "replaced"));
        Directory.Move(result, destination);
    }

    private VirtImage Describe(CatalogEntry entry)
    {
        (string Folder, ImageRecord Record)? cached = Newest(entry);
        return new VirtImage
        {
            Name = entry.Name,
            Kind = entry.Kind,
            Description = entry.Description,
            Source = cached?.Record.Source ?? $"Debian package {entry.Package}",
            Version = cached?.Record.Version,
            Path = cached is { } c ? Path.Combine(c.Folder, c.Record.File) : null,
            Length = cached?.Record.Length,
            Sha256 = cached?.Record.Sha256,
        };
    }

    private (string Folder, ImageRecord Record)? Newest(CatalogEntry entry)
    {
        string folder = Path.Combine(_root, entry.Name);
        if (!Directory.Exists(folder))
            return null;
        (string Folder, ImageRecord Record)? newest = null;
        foreach (string version in Directory.EnumerateDirectories(folder))
        {
            if (Read(version) is { } record && (newest is null || record.SavedAt > newest.Value.Record.SavedAt))
                newest = (version, record);
        }

        return newest;
    }

    /// <summary>The record of a version's folder; null for one that is damaged, which then counts as not fetched.</summary>
    private static ImageRecord? Read(string folder)
    {
        try
        {
            ImageRecord? record = JsonConvert.DeserializeObject<ImageRecord>(File.ReadAllText(Path.Combine(folder, Record)));
            return record?.File is { } file && File.Exists(Path.Combine(folder, file)) ? record : null;
        }
        catch (Exception e) when (e is JsonException or IOException)
        {
            return null;
        }
    }

    /// <summary>Whether the cache has the image and its bytes are those that were fetched. A forced fetch elsewhere may take the file away meanwhile, which counts as not there.</summary>
    private async Task<bool> IsIntactAsync(CatalogEntry entry, CancellationToken cancellation)
    {
        if (Newest(entry) is not var (folder, record))
            return false;
        string file = Path.Combine(folder, record.File);
        try
        {
            return new FileInfo(file).Length == record.Length && await HashAsync(file, cancellation).ConfigureAwait(false) == record.Sha256;
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            return false;
        }
    }

    private static async Task<string> HashAsync(string path, CancellationToken cancellation)
    {
        await using FileStream file = new(path, FileMode.Open, FileAccess.Read, FileShare.Read);
        return Convert.ToHexStringLower(await SHA256.HashDataAsync(file, cancellation).ConfigureAwait(false));
    }

    /// <summary>A Debian version as a folder's name: epochs have a colon, which Windows does not take.</summary>
    private static string FolderName(string version) => version.Replace(':', '_');
}
