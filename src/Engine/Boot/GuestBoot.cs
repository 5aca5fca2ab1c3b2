using VirtPS.Engine.Firmware;
using VirtPS.Sdk;
using VirtPS.Sdk.Machine;
using VirtPS.Sdk.Plugins;

namespace VirtPS.Engine.Boot;

/// <summary>Starts guests: writes the firmware's data, finds the loader for the image, and lets it load. Stateless, thread-safe.</summary>
public sealed class GuestBoot
{
    private readonly IReadOnlyList<IGuestLoader> _loaders;

    /// <summary>With the loaders that VirtPS has.</summary>
    public GuestBoot() : this([new LinuxLoader(), new PvhLoader(), new MultibootLoader(), new BootSectorLoader(), new FlatLoader()])
    {
    }

    /// <summary>With these loaders, asked in this order.</summary>
    public GuestBoot(IReadOnlyList<IGuestLoader> loaders) => _loaders = loaders;

    /// <summary>
    /// Loads what <see cref="BootContext.Boot"/> says. Throws <see cref="VirtException"/> <c>ImageInvalid</c> for a bad image; memory and state are then undefined.
    /// </summary>
    public GuestEntry Load(BootContext context)
    {
        BootConfiguration boot = context.Boot;
        using GuestImage kernel = OpenKernel(boot, context.EmbeddedGuest);
        context.Kernel = kernel;
        IGuestLoader loader = Choose(boot.Kind, kernel);
        if (boot.Modules.Count > 0 && loader.Kind != BootKind.Multiboot)
            throw ImageFault.Of(kernel.Name, $"boot modules were given, but {loader.Kind} images take none", "Leave the modules away, or use -Initrd.");
        if (boot.Initrd is { } initrd && loader.Kind is (BootKind.BootSector or BootKind.Flat))
            throw ImageFault.Of(kernel.Name, $"an initrd ('{initrd}') was given, but {loader.Kind} images take none", "Leave -Initrd away.");
        context.Rsdp = FirmwareWriter.Write(context.Memory, context.Platform ?? FirmwarePlatform.Standard(context.VcpuCount));
        return loader.Load(context);
    }

    /// <summary>Opens the files that the configuration names and lets <paramref name="platform"/> load them.</summary>
    internal static unsafe void Load(GuestStart start, IGuestPlatform platform, Func<ReadOnlyMemory<byte>>? embeddedGuest)
    {
        BootConfiguration boot = start.Configuration.Boot;
        if (boot.Kind is not (BootKind.Auto or BootKind.Linux or BootKind.Ringlab))
            throw new VirtException("ImageInvalid", $"The strategy '{start.Configuration.Strategy}' has no loader for boot kind {boot.Kind}.", "Give a kernel for it with -Kernel, without -BootKind.", boot.Kernel);
        using GuestImage image = OpenKernel(boot, embeddedGuest);
        using var kernel = PlatformKernel.Read(image);
        using GuestImage? initrd = boot.Initrd is { } path ? GuestImage.Open(path) : null;
        platform.Load(new GuestLoad
        {
            Kernel = kernel,
            Initrd = initrd is null ? null : new PlatformFile(initrd),
            CommandLine = boot.CommandLine,
            Bootstrap = start.Bootstrap,
        });
    }

    private static GuestImage OpenKernel(BootConfiguration boot, Func<ReadOnlyMemory<byte>>? embeddedGuest)
    {
        if (boot.Kind == BootKind.Ringlab || (boot.Kind == BootKind.Auto && boot.Kernel is null))
        {
            Func<ReadOnlyMemory<byte>> embedded = embeddedGuest
                ?? throw new VirtException("ImageUnavailable", "This program carries no embedded guest.", "Give a kernel file with -Kernel.");
            return GuestImage.FromBytes("ringlab", embedded());
        }

        return GuestImage.Open(boot.Kernel
            ?? throw new VirtException("ImageUnavailable", $"Boot kind {boot.Kind} needs a kernel file, and none is named.", "Give one with -Kernel."));
    }

    private IGuestLoader Choose(BootKind kind, GuestImage kernel)
    {
        if (kind is not (BootKind.Auto or BootKind.Ringlab))
        {
            return _loaders.FirstOrDefault(l => l.Kind == kind)
                ?? throw new VirtException("ImageInvalid", $"There is no loader for boot kind {kind}.", null, kernel.Name);
        }

        return _loaders.FirstOrDefault(l => l.Recognises(kernel)) ?? throw Unrecognised(kernel, kernel.ReadHeader(512));
    }

    private static VirtException Unrecognised(GuestImage kernel, byte[] header)
    {
        const string remedy = "Give a Linux bzImage, an ELF kernel with a PVH note or a Multiboot kernel; raw code needs -BootKind BootSector or Flat.";
        if (header is [0x7F, (byte)'E', (byte)'L', (byte)'F', ..])
            return ImageFault.Of(kernel.Name, "is an ELF file with neither a PVH entry note nor a Multiboot header", "Build the kernel with PVH support (Linux: CONFIG_PVH), or use its bzImage.");
        if (header is [0x1F, 0x8B, ..])
            return ImageFault.Of(kernel.Name, "is a gzip file, not a kernel", "Decompress it first; if it is an initrd, give it with -Initrd.");
        if (header.Length >= 512 && header[510] == 0x55 && header[511] == 0xAA)
            return ImageFault.At(kernel.Name, 510, "signature", "looks like a boot sector or disk image, not a kernel", "Use -BootKind BootSector to start it as a boot sector.");
        return ImageFault.At(kernel.Name, 0, "header", "not a kernel in any format that VirtPS knows", remedy);
    }
}
