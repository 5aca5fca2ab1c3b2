using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Machine;

namespace VirtPS.Engine.Boot;

/// <summary>How a guest was started: what the runner and the log say about it.</summary>
/// <param name="Format">Name of the format, for people.</param>
/// <param name="EntryPoint">Linear address of the first instruction.</param>
/// <param name="Mode">Operating mode it starts in.</param>
public sealed record GuestEntry(string Format, ulong EntryPoint, CpuMode Mode);

/// <summary>
/// Loads one image format. A loader writes guest memory and the bootstrap processor's state through the context, and keeps nothing. Every defect of an image
/// is a VirtException <c>ImageInvalid</c> that names file, place and remedy. Stateless.
/// </summary>
public interface IGuestLoader
{
    BootKind Kind { get; }

    /// <summary>
    /// Whether the image has this format, for <see cref="BootKind.Auto"/>; always false where only the user can say so. A damaged image is recognised
    /// when enough of it is there to say what it was meant to be, so that <see cref="Load"/> can say what is wrong.
    /// </summary>
    bool Recognises(GuestImage image);

    GuestEntry Load(BootContext context);
}
