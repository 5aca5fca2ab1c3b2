namespace VirtPS.Client.Images;

/// <summary>An image that can be fetched: which package, and which file in it.</summary>
/// <param name="Name">What users call it.</param>
/// <param name="Kind"><c>Kernel</c>, <c>Module</c>, <c>Program</c>.</param>
/// <param name="Description">One line for people.</param>
/// <param name="Package">apt's package.</param>
/// <param name="Dependency">For a meta-package: how the name of the package begins that it stands for.</param>
/// <param name="FilePrefixes">Beginnings of the file's path in the package, the first match counts.</param>
/// <param name="FileName">Its name in the cache.</param>
/// <param name="FileSuffix">How the file's path in the package ends.</param>
internal sealed record CatalogEntry(string Name, string Kind, string Description, string Package, string? Dependency, IReadOnlyList<string> FilePrefixes, string FileName, string FileSuffix = "")
{
    /// <summary>Whether this is the file, by its path in the package.</summary>
    public bool Matches(string path) => path.EndsWith(FileSuffix, StringComparison.Ordinal) && FilePrefixes.Any(p => path.StartsWith(p, StringComparison.Ordinal));
}

/// <summary>The images that VirtPS knows how to fetch.</summary>
internal static class ImageCatalog
{
    public static readonly IReadOnlyList<CatalogEntry> Entries =
    [
        new("debian-cloud-kernel", "Kernel", "Debian's stock Linux kernel for virtual machines (x86-64), as distributed and signed",
            "linux-image-cloud-amd64", "linux-image-", ["boot/vmlinuz-"], "vmlinuz"),
        new("debian-xen-blkfront", "Module", "The same kernel's driver for Xen's paravirtual disks; of the same version as the kernel, for its initrd",
            "linux-image-cloud-amd64", "linux-image-", ["lib/modules/", "usr/lib/modules/"], "xen-blkfront.ko", "/xen-blkfront.ko"),
        new("busybox", "Program", "Statically linked busybox (x86-64): a user space in one file, for initrds",
            "busybox-static", null, ["bin/busybox", "usr/bin/busybox"], "busybox"),
    ];
}
