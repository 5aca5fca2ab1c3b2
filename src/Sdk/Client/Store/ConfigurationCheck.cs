using System.Globalization;
using VirtPS.Sdk;
using VirtPS.Sdk.Machine;

namespace VirtPS.Client.Store;

/// <summary>What can be said about a configuration without running plugin code.</summary>
internal static class ConfigurationCheck
{
    private const ulong MiB = 1 << 20;
    private const int MaxProcessors = 64;

    /// <summary>Errors: MemoryInvalid, ConfigurationInvalid, ImageNotFound.</summary>
    public static void Check(VmConfiguration c)
    {
        CheckMemory(c.Memory);
        if (c.ProcessorCount is < 1 or > MaxProcessors)
            throw new VirtException(ErrorIds.ConfigurationInvalid, $"A VM cannot have {c.ProcessorCount} processors.", $"Give 1 to {MaxProcessors}.", c.ProcessorCount);
        CheckBoot(c.Boot);
    }

    private static void CheckMemory(ulong memory)
    {
        if (memory < MiB || memory % MiB != 0)
            throw new VirtException(ErrorIds.MemoryInvalid, $"A VM cannot have {memory} bytes of memory.", "Give a multiple of 1 MiB, at least 1 MiB (512MB, 2GB).", memory);
        ulong host = Platform.HostMemory.Read().Total;
        if (memory > host)
            throw new VirtException(ErrorIds.MemoryInvalid, string.Create(CultureInfo.InvariantCulture, $"{memory} bytes of memory ({memory / MiB} MiB) are more than this host has ({host / MiB} MiB)."), "Give less.", memory);
    }

    private static void CheckBoot(BootConfiguration boot)
    {
        if (boot.Kind == BootKind.Ringlab)
        {
            if (boot.Kernel is not null || boot.Initrd is not null)
                throw new VirtException(ErrorIds.ConfigurationInvalid, "The embedded guest takes neither kernel nor initrd.", "Leave them out, or choose another way to boot.");
            return;
        }

        if (boot.Kernel is null)
            throw new VirtException(ErrorIds.ConfigurationInvalid, $"Booting as {boot.Kind} needs a kernel or image.", "Give -Kernel.");
        CheckFile(boot.Kernel, "kernel");
        if (boot.Initrd is { } initrd)
            CheckFile(initrd, "initrd");
        foreach (string module in boot.Modules)
            CheckFile(module.Split(' ', 2)[0], "module");
    }

    private static void CheckFile(string path, string what)
    {
        if (!Path.IsPathFullyQualified(path))
            throw new VirtException(ErrorIds.ConfigurationInvalid, $"The {what}'s path '{path}' is not absolute.", "Give the whole path.", path);
        if (Directory.Exists(path))
            throw new VirtException(ErrorIds.ImageInvalid, $"The {what} '{path}' is a folder.", "Give a file.", path);
        if (!File.Exists(path))
            throw new VirtException(ErrorIds.ImageNotFound, $"The {what} '{path}' does not exist.", "Check the path.", path);
    }
}
